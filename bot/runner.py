"""The background task: one step for every unfinished job, for ever.

A job that left our queue is followed by one task until its end is visible. What it does next
depends only on the stored state, so a restart is the same loop over the unfinished rows.
Socket events are hints; `/history` is the truth.
"""

import asyncio
import contextlib
import json
import logging
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

from bot.errors import explain_refusal
from bot.jobs import Job, JobState
from bot.logs import without_secrets
from bot.servers import Server, Servers, Watch
from bot.spool import Spool, SpooledFile
from bot.store import Store
from comfy.errors import FileGone, PromptRefused, ServerError, ServerUnavailable
from comfy.graph import title
from comfy.models import Ending, HistoryEntry, OutputFile
from comfy.progress import RunProgress

log = logging.getLogger(__name__)

_SILENCE = 25.0  # seconds without any frame after which the server is asked
_STRANGER = 2.0  # the same, for a prompt that reports to a socket that is gone
_CERTAIN = 5.0  # between two looks that must agree that the server does not know a prompt
_LOOKS = 3  # that find neither queue nor history entry, before a prompt counts as lost
_SETTLING = 0.3  # between them, when the socket said that it ended
_ATTEMPTS = 3
_AHEAD = 50  # waiting jobs that are considered at once
_IDLE = 30.0  # the dispatcher looks again even if nobody woke it
_PATIENCE = (1.0, 60.0)  # between two tries to reach Discord: from, to


class Undeliverable(Exception):
    """Discord will not take the message, now or later; the text says why, for the log."""


class DeliveryDelayed(Exception):
    """Discord cannot take the message now."""


class Publisher(Protocol):
    """Where people see jobs. Every method may be repeated with the same visible effect."""

    files_per_message: int

    def show_progress(self, job: Job, progress: RunProgress) -> None: ...

    async def post_result(self, job: Job, part: int, files: Sequence[SpooledFile]) -> None: ...

    async def post_failure(self, job: Job) -> None: ...

    async def find_placeholder(self, job: Job) -> int | None: ...


class Runner:
    def __init__(self, store: Store, servers: Servers, publisher: Publisher, spool: Spool) -> None:
        self._store = store
        self._servers = servers
        self._publisher = publisher
        self._spool = spool
        self._wake = asyncio.Event()
        self._following: dict[str, asyncio.Task[None]] = {}
        self._unsent: set[str] = set()  # claimed here and surely not sent yet

    def wake(self) -> None:
        """Something changed: a new job, a free slot, a server."""
        self._wake.set()

    async def run(self) -> None:
        """For ever. An error of one round is logged, and the next round comes."""
        try:
            await self._pick_up()
            while True:
                try:
                    await self.dispatch()
                except Exception:
                    log.exception("the queue could not be worked on; trying again")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_IDLE):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            for task in self._following.values():
                task.cancel()
            await asyncio.gather(*self._following.values(), return_exceptions=True)

    async def _pick_up(self) -> None:
        """What an earlier process left: followed as if it were ours."""
        for job in await self._store.in_flight():
            if (server := self._server_of(job)) and job.state in _ON_SERVER:
                server.holding.add(job.id)
            self._follow(job)
        for job in await self._store.unacknowledged():
            message_id = await self._publisher.find_placeholder(job)
            if message_id is None:
                await self._store.discard(job.id)
            else:
                await self._store.acknowledge(job.id, message_id)

    async def dispatch(self) -> None:
        """Give waiting jobs to servers with room, in order."""
        if not self._servers.have_room:
            return
        for job in await self._store.pending(_AHEAD):
            class_types = {node["class_type"] for node in job.request.graph.values()}
            if missing := self._servers.missing_everywhere(class_types):
                names = ", ".join(f"`{each}`" for each in sorted(missing)[:5])
                note = f"No server has the custom node {names}. Ask a moderator to install it."
                self._follow(await self._move(job, JobState.FAILED, note=note))
            elif server := self._servers.place_for(class_types):
                server.holding.add(job.id)
                claimed = await self._move(
                    job,
                    JobState.SUBMITTING,
                    server=server.name,
                    prompt_id=str(uuid.uuid4()),
                    attempt=job.attempt + 1,
                    submitted_at=datetime.now(UTC),
                )
                self._unsent.add(job.id)
                self._follow(claimed)

    async def cancel(self, job: Job) -> bool:
        """False if it is too late. The placeholder tells the rest."""
        if JobState.CANCELLED not in _CANCELLABLE.get(job.state, ()):
            return False
        cancelled = job.to(JobState.CANCELLED, finished_at=datetime.now(UTC))
        if not await self._store.save(job, cancelled):
            return False
        if server := self._server_of(job):
            server.hurry(job.prompt_id)
        self._follow(cancelled)
        return True

    def _follow(self, job: Job) -> None:
        if job.id in self._following:
            return
        task = asyncio.create_task(self._carry(job), name=f"job {job.short_id}")
        self._following[job.id] = task
        task.add_done_callback(lambda _: self._following.pop(job.id, None))

    async def _carry(self, job: Job) -> None:
        """Step by step to the end. One bad job costs one job."""
        try:
            while job.open and job.state is not JobState.PENDING:
                try:
                    job = await self._step(job)
                except Exception:
                    log.exception("job %s failed in state %s", job.short_id, job.state)
                    if job.state.final:
                        return
                    note = "Something went wrong on our side. The log has the details."
                    job = await self._move(job, JobState.FAILED, note=note)
                if job.state not in _ON_SERVER:
                    self._release(job)
        finally:
            self._release(job)

    def _release(self, job: Job) -> None:
        for server in self._servers.values():
            server.holding.discard(job.id)
        self.wake()

    async def _step(self, job: Job) -> Job:
        match job.state:
            case JobState.SUBMITTING:
                return await self._submit(job)
            case JobState.QUEUED | JobState.RUNNING:
                return await self._await_end(job)
            case JobState.EXECUTED:
                return await self._deliver(job)
        return await self._tell(job)

    # On the server

    async def _submit(self, job: Job) -> Job:
        """Send the prompt; after an unclear answer, look before sending again."""
        server = self._server_of(job)
        if server is None or job.prompt_id is None:
            return await self._requeue(job)
        prompt_id, graph = job.prompt_id, job.request.graph
        unsent = job.id in self._unsent
        self._unsent.discard(job.id)
        if not server.up and unsent:
            return await self._requeue(job)
        if not unsent:
            job = await self._until_up(server, job)
            if job.state is not JobState.SUBMITTING:
                return job
            if await self._is_known(server, prompt_id):
                return await self._move(job, JobState.QUEUED)
        with server.watching(prompt_id, graph) as watch:
            if log.isEnabledFor(logging.DEBUG):
                log.debug("=== Final Workflow JSON ===\n%s", _for_log(graph))
                body = {"prompt_id": prompt_id, "client_id": server.client_id, "prompt": graph}
                log.debug("=== Request to ComfyUI === %s\n%s", server.client.url, _for_log(body))
            try:
                accepted = await server.client.queue_prompt(
                    graph, prompt_id, server.client_id or job.id
                )
            except PromptRefused as error:
                log.warning("job %s: %s %s", job.short_id, error, error.node_errors)
                note = explain_refusal(error, graph)
                return await self._move(job, JobState.FAILED, note=note)
            except ServerUnavailable as error:
                log.warning("job %s: %s; looking whether it arrived", job.short_id, error)
                return job
            except ServerError as error:  # it was answered, and not accepted
                log.warning("job %s: %s", job.short_id, error)
                server.doubt(error)
                return await self._move(
                    job, JobState.PENDING, server=None, prompt_id=None, attempt=job.attempt - 1
                )
            note = ""
            if accepted.node_errors:
                log.warning("job %s: dropped outputs: %s", job.short_id, accepted.node_errors)
                note = "Part of the workflow could not run and was left out."
            job = await self._move(job, JobState.QUEUED, note=note)
            return await self._await_end(job, watch) if job.state is JobState.QUEUED else job

    async def _until_up(self, server: Server, job: Job) -> Job:
        """The job as it is when the server answers again, or when somebody cancelled it."""
        while not server.up and job.state is JobState.SUBMITTING:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CERTAIN):
                    await server.wait_up()
            job = await self._store.get(job.id) or job
        return job

    async def _is_known(self, server: Server, prompt_id: str) -> bool:
        """Two looks that agree: a POST may still be on its way when the first one happens."""
        for wait in (0.0, _CERTAIN):
            await asyncio.sleep(wait)
            try:
                if prompt_id in await server.client.queue():
                    return True
                if await server.client.history(prompt_id) is not None:
                    return True
            except ServerError:
                await server.wait_up()
        return False

    async def _await_end(self, job: Job, watch: Watch | None = None) -> Job:
        """Follow the prompt until history has it."""
        server = self._server_of(job)
        if server is None or job.prompt_id is None:
            return await self._requeue(job)
        if watch is None:
            with server.watching(job.prompt_id, job.request.graph) as fresh:
                fresh.client_id = None  # it may report to a socket of an earlier process
                return await self._await_end(job, fresh)
        prompt_id, missed = job.prompt_id, 0
        while True:
            silent = not watch.finished and not await self._something_heard(server, watch)
            if watch.started and job.state is JobState.QUEUED:
                job = await self._move(job, JobState.RUNNING)
            elif silent or watch.disturbed:
                watch.disturbed = False
                job = await self._store.get(job.id) or job
            if job.state not in (JobState.QUEUED, JobState.RUNNING):
                return job
            if not watch.finished and not silent:
                self._publisher.show_progress(job, watch.progress)
                continue
            try:  # the queue first: a prompt that leaves it is in history at that moment
                waits = silent and prompt_id in await server.client.queue()
                entry = None if waits else await server.client.history(prompt_id)
            except ServerError:
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
            patience = _STRANGER if stranger else _SILENCE
            quiet_since = began if stranger else max(server.heard_at, began)
            left = quiet_since + patience - clock()
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
            outputs = _posted_files(entry.files)
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
        note = _explain_failure(job, entry)
        return await self._move(
            job, JobState.FAILED, note=note, seconds=entry.seconds, finished_at=now
        )

    async def _requeue(self, job: Job) -> Job:
        """Back into our queue, where it keeps its place; after three attempts it failed."""
        if job.attempt >= _ATTEMPTS:
            note = "The server lost this job several times. Try again later."
            return await self._move(job, JobState.FAILED, note=note)
        return await self._move(job, JobState.PENDING, server=None, prompt_id=None)

    # To people

    async def _deliver(self, job: Job) -> Job:
        server = self._server_of(job)
        step = self._publisher.files_per_message
        pages = [job.outputs[i : i + step] for i in range(0, len(job.outputs), step)] or [()]
        delay = _PATIENCE[0]
        while job.parts < len(pages):
            page = pages[job.parts]
            try:
                if server is None:
                    await self._publisher.post_result(job, job.parts, [])
                else:
                    async with self._spool.fetched(server.client, page) as files:
                        await self._publisher.post_result(job, job.parts, files)
            except FileGone as error:
                log.warning("job %s: %s", job.short_id, error)
                note = "The picture is no longer on the server."
                return await self._move(job, JobState.FAILED, note=note)
            except Undeliverable as error:
                log.warning("job %s cannot be posted: %s", job.short_id, error)
                return await self._move(job, JobState.FAILED, note=str(error), told=True)
            except (DeliveryDelayed, ServerError) as error:
                log.warning("job %s is not posted yet: %s", job.short_id, error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, _PATIENCE[1])
                continue
            job = await self._keep(job, replace(job, parts=job.parts + 1))
        log.info("job %s posted", job.short_id)
        return await self._move(job, JobState.POSTED, told=True)

    async def _tell(self, job: Job) -> Job:
        """A failure or a cancel is told with the same care as a picture."""
        if job.state is JobState.CANCELLED:
            await self._stop_on_server(job)
        delay = _PATIENCE[0]
        while True:
            try:
                await self._publisher.post_failure(job)
                break
            except Undeliverable as error:
                log.warning("the end of job %s cannot be told: %s", job.short_id, error)
                break
            except DeliveryDelayed as error:
                log.warning("the end of job %s is not told yet: %s", job.short_id, error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, _PATIENCE[1])
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
        log.info(
            "job %s of user %s: %s -> %s%s",
            job.short_id,
            job.request.user_id,
            job.state,
            moved.state,
            f" on {moved.server}" if moved.server else "",
        )
        return moved

    async def _keep(self, before: Job, after: Job) -> Job:
        if await self._store.save(before, after):
            return after
        return await self._store.get(before.id) or after


_ON_SERVER = (JobState.SUBMITTING, JobState.QUEUED, JobState.RUNNING)
_CANCELLABLE = {state: (JobState.CANCELLED,) for state in (JobState.PENDING, *_ON_SERVER)}


def _for_log(value: object) -> str:
    return json.dumps(without_secrets(value), ensure_ascii=False, indent=2)


def _posted_files(files: tuple[OutputFile, ...]) -> tuple[OutputFile, ...]:
    """What was saved; previews only where nothing was."""
    return tuple(each for each in files if each.type == "output") or files


def _explain_failure(job: Job, entry: HistoryEntry) -> str:
    if entry.ending is Ending.INTERRUPTED:
        return "Somebody stopped this job on the server."
    if entry.failure is None:
        return "ComfyUI could not run this workflow."
    if entry.failure.out_of_memory:
        return "The server ran out of memory. Try a smaller size or fewer pictures."
    where = title(job.request.graph, entry.failure.node_id)
    return f"The node *{where}* failed. A moderator finds the reason in the log."
