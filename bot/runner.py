"""The background task: one step for every unfinished job, for ever.

A job that left our queue is followed by one task until its end is visible. What it does next
depends only on the stored state, so a restart is the same loop over the unfinished rows.
Socket events are hints; `/history` is the truth.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from bot.errors import StoreError, explain_failure, explain_refusal
from bot.jobs import ON_SERVER, Job, JobState
from bot.logs import for_log
from bot.publisher import DeliveryDelayed, Publisher, Undeliverable
from bot.servers import Server, Servers, Watch
from bot.spool import Spool
from bot.store import Store
from bot.uploads import Uploads
from comfy.errors import PromptRefused, ServerError, ServerUnavailable
from comfy.models import Ending, HistoryEntry, Queue
from comfy.progress import RunProgress

log = logging.getLogger(__name__)

_SILENCE = 25.0  # seconds without an event after which the server is asked
_STRANGER = 2.0  # the same, for a prompt that reports to a socket that is gone
_CERTAIN = 5.0  # between two looks that must agree that the server does not know a prompt
_LOOKS = 3  # without queue or history entry, before a prompt counts as lost
_SETTLING = 0.3  # between them, when the socket said that it ended
_ATTEMPTS = 3
_AHEAD = 50  # waiting jobs that are read at once
_IDLE = 30.0  # the rounds go on even if nobody wakes them
_UNANSWERED = timedelta(seconds=15)  # after that a command's answer arrived or never will
_PATIENCE = (1.0, 60.0)  # between two tries to reach Discord or a server: from, to
_NO_FILE = "The file that it began with is no longer kept. Give it again."
_KEPT = timedelta(days=1)  # how long a result is waited for


class Runner:
    def __init__(
        self, store: Store, servers: Servers, publisher: Publisher, spool: Spool, uploads: Uploads
    ) -> None:
        self._uploads = uploads
        self._store = store
        self._servers = servers
        self._publisher = publisher
        self._spool = spool
        self._wake = asyncio.Event()
        self._following: dict[str, asyncio.Task[None]] = {}

    def wake(self) -> None:
        """Something changed: a new job, a free slot, a server."""
        self._wake.set()

    async def run(self) -> None:
        """For ever. An error of one round is logged, and the next round comes."""
        clock = asyncio.get_running_loop().time
        began, resumed_at = datetime.now(UTC), float("-inf")
        try:
            while True:
                try:
                    if clock() - resumed_at >= _IDLE:
                        await self._resume(began)
                        resumed_at = clock()
                    await self.dispatch()
                except Exception:
                    log.exception("the queue could not be worked on; trying again")
                    await asyncio.sleep(_PATIENCE[0])
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_IDLE):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            for task in self._following.values():
                task.cancel()
            await asyncio.gather(*self._following.values(), return_exceptions=True)

    async def _resume(self, began: datetime) -> None:
        """Follow what nobody follows: an earlier process left it, or its task broke off."""
        for job in await self._store.in_flight():
            self._follow(job)
        for job in await self._store.unacknowledged():
            asked = job.request.created_at
            if asked < began or datetime.now(UTC) - asked > _UNANSWERED:
                await self._settle(job)

    async def _settle(self, job: Job) -> None:
        """Whether Discord showed the answer to the command: only then it is a job."""
        try:
            message_id = await self._publisher.find_placeholder(job)
        except DeliveryDelayed as error:
            log.warning("job %s: its placeholder was not looked for: %s", job.short_id, error)
            return
        except Undeliverable:
            message_id = None
        if message_id is None:
            await self._store.discard(job.id)
        else:
            await self._store.acknowledge(job.id, message_id)

    async def dispatch(self) -> None:
        """Give waiting jobs to servers with room, in order."""
        passed = 0
        while self._servers.have_room:
            jobs = await self._store.pending(_AHEAD, passed)
            for job in jobs:
                if not await self._place(job):
                    passed += 1
            if len(jobs) < _AHEAD:
                return

    async def _place(self, job: Job) -> bool:
        """Whether the job left the queue."""
        graph = job.request.graph
        if missing := self._servers.missing_everywhere(graph):
            names = ", ".join(f"`{each}`" for each in sorted(missing)[:5])
            note = f"No server has the custom node {names}. Ask a moderator to install it."
            self._follow(await self._move(job, JobState.FAILED, note=note))
            return True
        server = self._servers.place_for(graph)
        if server is None:
            return False
        claimed = job.to(
            JobState.SUBMITTING,
            server=server.name,
            prompt_id=str(uuid.uuid4()),
            attempt=job.attempt + 1,
            submitted_at=datetime.now(UTC),
        )
        if await self._store.save(job, claimed):
            self._follow(claimed, unsent=True)
        return True

    async def cancel(self, job: Job) -> bool:
        found: Job | None = job  # False if it is too late; the placeholder tells the rest
        while found is not None and found.state.can_become(JobState.CANCELLED):
            cancelled = found.to(JobState.CANCELLED, finished_at=datetime.now(UTC))
            if await self._store.save(found, cancelled):
                if server := self._server_of(found):
                    server.hurry(found.prompt_id)
                self._follow(cancelled)
                return True
            found = await self._store.get(job.id)  # it moved on in the meantime
        return False

    def _follow(self, job: Job, *, unsent: bool = False) -> None:
        if job.id in self._following:
            return
        if (server := self._server_of(job)) and job.state in ON_SERVER:
            server.holding.add(job.id)
        task = asyncio.create_task(self._carry(job, unsent), name=f"job {job.short_id}")
        self._following[job.id] = task
        task.add_done_callback(lambda _: self._following.pop(job.id, None))

    async def _carry(self, job: Job, unsent: bool) -> None:
        """Step by step to the end. One bad job costs one job.

        *unsent*: it was claimed just now, so its prompt was surely not sent yet.
        """
        broken = False
        try:
            while job.open and job.state is not JobState.PENDING:
                try:
                    if broken:
                        note = "Something went wrong on our side. The log has the details."
                        job = await self._move(job, JobState.FAILED, note=note)
                        broken = False
                    else:
                        job = await self._step(job, unsent)
                except StoreError as error:
                    log.error("job %s has to wait for the database: %s", job.short_id, error)
                    await asyncio.sleep(_CERTAIN)
                except Exception:
                    log.exception("job %s failed in state %s", job.short_id, job.state)
                    if job.state.final:
                        return  # the next rounds try to tell it again
                    broken = True
                unsent = False
                if job.state not in ON_SERVER:
                    self._release(job)
        finally:
            self._release(job)

    def _release(self, job: Job) -> None:
        for server in self._servers.values():
            server.holding.discard(job.id)
        self.wake()

    async def _step(self, job: Job, unsent: bool) -> Job:
        if job.state in ON_SERVER:
            server = self._server_of(job)
            if server is None or job.prompt_id is None:
                return await self._requeue(job)  # the server left the configuration
            with server.watching(job.prompt_id, job.request.graph) as watch:
                if job.state is JobState.SUBMITTING:
                    job = await self._submit(job, server, watch, unsent)
                if job.state in (JobState.QUEUED, JobState.RUNNING):
                    job = await self._await_end(job, server, watch)
                return job
        if job.state is JobState.EXECUTED:
            return await self._deliver(job)
        return await self._tell(job)

    # On the server

    async def _submit(self, job: Job, server: Server, watch: Watch, unsent: bool) -> Job:
        """Send the prompt; after an unclear answer, look before sending again."""
        assert job.prompt_id is not None
        if unsent and not server.up:
            return await self._give_back(job)
        if not unsent:
            job, known = await self._is_known(job, server)
            if job.state is not JobState.SUBMITTING:
                return job
            if known:
                return await self._move(job, JobState.QUEUED)
            if job.attempt >= _ATTEMPTS:
                return await self._requeue(job)
            job = await self._keep(job, replace(job, attempt=job.attempt + 1))
        graph, prompt_id = job.request.graph, job.prompt_id or ""
        if log.isEnabledFor(logging.DEBUG):
            log.debug("=== Final Workflow JSON ===\n%s", for_log(graph))
            body = {"prompt_id": prompt_id, "client_id": server.client_id, "prompt": graph}
            log.debug("=== Request to ComfyUI === %s\n%s", server.client.url, for_log(body))
        watch.client_id = server.client_id
        try:
            graph = await self._uploads.sent(server.client, job)
            client_id = server.client_id or job.id
            accepted = await server.client.queue_prompt(graph, prompt_id, client_id)
        except FileNotFoundError:
            return await self._move(job, JobState.FAILED, note=_NO_FILE)
        except PromptRefused as error:
            log.warning("job %s: %s %s", job.short_id, error, error.node_errors)
            return await self._move(job, JobState.FAILED, note=explain_refusal(error, graph))
        except ServerUnavailable as error:
            log.warning("job %s: %s; looking whether it arrived", job.short_id, error)
            return job
        except ServerError as error:  # it was answered, and not accepted
            log.warning("job %s: %s", job.short_id, error)
            server.doubt(error)
            return await self._give_back(job)
        note = ""
        if accepted.node_errors:
            log.warning("job %s: dropped outputs: %s", job.short_id, accepted.node_errors)
            note = "Part of the workflow could not run and was left out."
        return await self._move(job, JobState.QUEUED, note=note)

    async def _is_known(self, job: Job, server: Server) -> tuple[Job, bool]:
        """Two looks that agree: a POST may still be on its way when the first one happens.

        A look that fails is no look. The job is the stored one: it may be cancelled meanwhile.
        """
        agreed, prompt_id = 0, job.prompt_id or ""
        while job.state is JobState.SUBMITTING:
            try:
                if prompt_id in await server.client.queue():
                    return job, True
                if await server.client.history(prompt_id) is not None:
                    return job, True
            except ServerError:
                await asyncio.sleep(_STRANGER)
            else:
                agreed += 1
                if agreed == 2:
                    break
                await asyncio.sleep(_CERTAIN)
            job = await self._store.get(job.id) or job
        return job, False

    async def _await_end(self, job: Job, server: Server, watch: Watch) -> Job:
        """Follow the prompt until history has it."""
        prompt_id, missed, unreadable = job.prompt_id or "", 0, 0
        while True:
            silent = not watch.finished and not await self._something_heard(server, watch)
            if watch.started and job.state is JobState.QUEUED:
                job = await self._move(job, JobState.RUNNING)
                self._publisher.show_progress(job, watch.progress)
            elif silent or watch.disturbed:
                watch.disturbed = False
                job = await self._store.get(job.id) or job
            if job.state not in (JobState.QUEUED, JobState.RUNNING):
                return job
            if not watch.finished and not silent:
                self._publisher.show_progress(job, watch.progress)
                continue
            try:  # the queue first: a prompt that leaves it is in history at that moment
                queue = await server.client.queue() if silent else Queue((), ())
                waits = prompt_id in queue
                watch.started |= prompt_id in queue.running
                entry = None if waits else await server.client.history(prompt_id)
            except ServerError as error:
                unreadable += not isinstance(error, ServerUnavailable)
                if unreadable > _LOOKS:
                    log.warning("job %s: %s", job.short_id, error)
                    note = "The server's answer could not be read."
                    return await self._move(job, JobState.FAILED, note=note)
                await asyncio.sleep(_STRANGER)
                continue
            if entry is not None:
                return await self._ended(job, server, entry)
            missed = 0 if waits else missed + 1
            if missed >= _LOOKS:
                log.warning("job %s: %s no longer knows it", job.short_id, server.name)
                return await self._requeue(job)
            if watch.finished:
                await asyncio.sleep(_SETTLING)

    async def _something_heard(self, server: Server, watch: Watch) -> bool:
        """False after a silence: then the socket cannot be trusted, and the server is asked."""
        clock = asyncio.get_running_loop().time
        began = clock()
        while True:
            stranger = watch.client_id != server.client_id
            # A prompt that waits is silent, so the one before it speaks for both.
            spoke = watch.heard_at if watch.started or stranger else server.heard_at
            left = max(spoke, began) + (_STRANGER if stranger else _SILENCE) - clock()
            if left <= 0:
                return False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await watch.changed.wait()
                watch.changed.clear()
                return True

    async def _ended(self, job: Job, server: Server, entry: HistoryEntry) -> Job:
        now = datetime.now(UTC)
        if entry.ending is Ending.INTERRUPTED and job.attempt < 2:
            log.warning("job %s: interrupted by somebody; once more", job.short_id)
            return await self._requeue(job)
        if entry.ending is Ending.SUCCESS:
            outputs = entry.saved
            if not outputs and not entry.texts:
                note = "The workflow ran but saved nothing. It needs a Save Image node."
                return await self._move(job, JobState.FAILED, note=note, finished_at=now)
            return await self._move(
                job,
                JobState.EXECUTED,
                outputs=outputs,
                texts=entry.texts,
                seconds=entry.seconds,
                finished_at=now,
            )
        log.warning("job %s failed on %s: %s", job.short_id, server.name, entry.failure)
        note = explain_failure(entry, job.request.graph)
        return await self._move(
            job, JobState.FAILED, note=note, seconds=entry.seconds, finished_at=now
        )

    async def _requeue(self, job: Job) -> Job:
        """Back into our queue, where it keeps its place; after three attempts it failed."""
        if job.attempt >= _ATTEMPTS:
            note = "The server lost this job several times. Try again later."
            return await self._move(job, JobState.FAILED, note=note)
        return await self._give_back(job, attempts=job.attempt)

    async def _give_back(self, job: Job, attempts: int | None = None) -> Job:
        """Without *attempts*: what was never taken is no attempt."""
        done = job.attempt - 1 if attempts is None else attempts
        job = await self._move(job, JobState.PENDING, server=None, prompt_id=None, attempt=done)
        self._publisher.show_progress(job, RunProgress.of(job.request.graph))
        return job

    # To people

    async def _deliver(self, job: Job) -> Job:
        server = self._server_of(job)
        if server is None and job.outputs:
            note = "The server that has this picture is no longer set up."
            return await self._move(job, JobState.FAILED, note=note)
        client = server.client if server else None
        too_late = (job.finished_at or datetime.now(UTC)) + _KEPT
        async with self._spool.fetched(job, client, until=too_late) as (files, lost):
            if lost and not files:
                note = "The picture is no longer on the server."
                return await self._move(job, JobState.FAILED, note=note)
            pages = await self._publisher.pack(job, files)
            while job.parts < len(pages):
                try:
                    post = partial(self._publisher.post_result, job, job.parts, pages, lost)
                    await _patiently(job, post)
                except Undeliverable as error:
                    log.warning("job %s cannot be posted: %s", job.short_id, error)
                    if job.parts:  # what stands there already is not turned into a failure
                        break
                    return await self._move(job, JobState.FAILED, note=str(error))
                job = await self._keep(job, replace(job, parts=job.parts + 1))
        return await self._move(job, JobState.POSTED, told=True)

    async def _tell(self, job: Job) -> Job:
        """A failure or a cancel is told with the same care as a picture."""
        if job.state is JobState.CANCELLED:
            await self._stop_on_server(job)
        try:
            await _patiently(job, partial(self._publisher.post_failure, job))
        except Undeliverable as error:
            log.warning("the end of job %s cannot be told: %s", job.short_id, error)
        return await self._keep(job, replace(job, told=True))

    async def _stop_on_server(self, job: Job) -> None:
        """Only ever this prompt: deleted while it waits, interrupted by its id while it runs."""
        server = self._server_of(job)
        if server is None or job.prompt_id is None or not server.up:
            return
        try:
            await server.client.delete_queued(job.prompt_id)
            for _ in range(_ATTEMPTS):  # an interrupt right after the start can be lost
                if job.prompt_id not in (await server.client.queue()).running:
                    return
                await server.client.interrupt(job.prompt_id)
                await asyncio.sleep(1)
        except ServerError as error:
            log.warning("job %s may still run: %s", job.short_id, error)

    # Storage

    def _server_of(self, job: Job) -> Server | None:
        return self._servers.get(job.server or "")

    async def _move(self, job: Job, state: JobState, **changes: Any) -> Job:
        """The job as it then is: another hand (a cancel) may have been faster."""
        moved = await self._keep(job, job.to(state, **changes))
        where = f" on {moved.server}" if moved.server else ""
        user = job.request.user_id
        log.info("job %s of user %s: %s%s", job.short_id, user, moved.state, where)
        return moved

    async def _keep(self, before: Job, after: Job) -> Job:
        if await self._store.save(before, after):
            return after
        return await self._store.get(before.id) or after


async def _patiently(job: Job, publish: Callable[[], Awaitable[None]]) -> None:
    """Again and again until Discord takes it, or says that it never will."""
    delay = _PATIENCE[0]
    while True:
        try:
            return await publish()
        except DeliveryDelayed as error:
            log.warning("job %s is not shown yet: %s", job.short_id, error)
            await asyncio.sleep(delay)
            delay = min(delay * 2, _PATIENCE[1])
