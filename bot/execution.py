"""A job's way on its server: sent, followed, and over or back in our queue.

What happens next depends only on the stored state. Socket events are hints; `/history` is the
truth.
"""

import asyncio
import contextlib
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from bot.errors import explain_failure, explain_refusal
from bot.estimates import Estimates, Run
from bot.jobs import Job, JobState
from bot.logs import for_log, for_log_of
from bot.publisher import Publisher
from bot.recovery import left_behind
from bot.servers import Server, Servers, Watch
from bot.spool import Spool
from bot.store import Store
from bot.uploads import Uploads
from comfy.errors import PromptRefused, ServerError, ServerUnavailable
from comfy.graph import Graph, with_secrets
from comfy.library import Library
from comfy.models import Ending, HistoryEntry, OutputFile, Queue, saved
from comfy.phrases import say
from comfy.progress import RunProgress

log = logging.getLogger(__name__)

_SILENCE = 25.0  # seconds without an event after which the server is asked
_STRANGER = 2.0  # the same, for a prompt that reports to a socket that is gone
_CERTAIN = 5.0  # between two looks that must agree that the server does not know a prompt
_LOOKS = 3  # without queue or history entry, before a prompt counts as lost
_SETTLING = 0.3  # between them, when the socket said that it ended
_ATTEMPTS = 3
_DEATHS = 2  # of servers under one job: then it is the job that kills them
_ABSENT = 300.0  # seconds without any answer, after which another server may have the job
PATIENCE = timedelta(days=1)  # with servers, from the request on
_STOP_DELAYS = (0, 0.5, 1, 2, 5, 10, 30, 60)  # seconds between tries to stop a cancelled prompt

# After how many seconds a server's queue that does not move means that it is stuck:
_IDLE_QUEUE = 60.0  # prompts wait and none runs, so its worker is dead
_UNKNOWN_RUN = 600.0  # ours runs in silence, and nobody knows how long it takes
_FOREIGN_RUN = 3600.0  # somebody else's runs, of which no event comes here

_NO_FILE = say("The file that it began with is no longer kept. Give it again.")


class Execution:
    def __init__(
        self,
        store: Store,
        servers: Servers,
        publisher: Publisher,
        uploads: Uploads,
        library: Library,
        estimates: Estimates,
        spool: Spool,
    ) -> None:
        self._store = store
        self._servers = servers
        self._publisher = publisher
        self._uploads = uploads
        self._library = library
        self._estimates = estimates
        self._spool = spool

    async def step(self, job: Job, server: Server, unsent: bool) -> Job:
        """*unsent*: it was claimed just now, so its prompt was surely not sent yet."""
        assert job.prompt_id is not None
        with server.watching(job.prompt_id, job.request.graph) as watch:
            if job.state is JobState.SUBMITTING:
                job = await self._submit(job, server, watch, unsent)
            if job.state in (JobState.QUEUED, JobState.RUNNING):
                job = await self._await_end(job, server, watch)
            return job

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
                return await self._store.move(job, JobState.QUEUED)
            if job.attempt >= _ATTEMPTS:
                return await self.requeue(job)
            job = await self._store.keep(job, replace(job, attempt=job.attempt + 1))
            if job.state is not JobState.SUBMITTING:
                return job  # cancelled meanwhile
        graph, prompt_id = job.request.graph, job.prompt_id or ""
        if log.isEnabledFor(logging.DEBUG):
            log.debug("=== Final Workflow JSON ===\n%s", for_log(graph))
            body = {"prompt_id": prompt_id, "client_id": server.client_id, "prompt": graph}
            log.debug("=== Request to ComfyUI === %s\n%s", server.client.url, for_log(body))
        watch.client_id = server.client_id
        try:
            if job.request.uploads:
                graph = await self._uploads.sent(server.client, job)
                job = await self._store.get(job.id) or job
                if job.state is not JobState.SUBMITTING:
                    return job
            graph = self._filled(job, graph)
            client_id = server.client_id or job.id
            accepted = await server.client.queue_prompt(graph, prompt_id, client_id)
        except FileNotFoundError:
            return await self._fail(job, _NO_FILE)
        except PromptRefused as error:
            told = for_log_of(graph, f"{error} {error.node_errors}")
            log.warning("job %s: %s", job.short_id, told)
            return await self._fail(job, explain_refusal(error, graph, server.nodes))
        except ServerUnavailable as error:
            log.warning("job %s: %s; looking whether it arrived", job.short_id, error)
            return job
        except ServerError as error:  # it was answered, and not accepted
            log.warning("job %s: %s", job.short_id, error)
            server.doubt(error)
            return await self._give_back(job)
        note: str = ""
        if accepted.node_errors:
            told = for_log_of(graph, str(accepted.node_errors))
            log.warning("job %s: dropped outputs: %s", job.short_id, told)
            note = say("Part of the workflow could not run and was left out.")
        return await self._store.move(job, JobState.QUEUED, note=note)

    def _filled(self, job: Job, graph: Graph | None = None) -> Graph:
        """With the secrets of its workflow, which no row holds."""
        graph = job.request.graph if graph is None else graph
        workflow = self._library.workflows.get(job.request.workflow)
        return with_secrets(graph, workflow.graph) if workflow else graph

    async def _is_known(self, job: Job, server: Server) -> tuple[Job, bool]:
        """Two looks that agree: a POST may still be on its way when the first one happens.

        A look that fails is no look. The job is the stored one: it may be cancelled meanwhile.
        """
        agreed, prompt_id, answered_at = 0, job.prompt_id or "", _now()
        while job.state is JobState.SUBMITTING:
            try:
                if prompt_id in await server.client.queue():
                    return job, True
                if await server.client.history(prompt_id) is not None:
                    return job, True
            except ServerError:
                job = await self._without(job, server, _now() - answered_at)
                await asyncio.sleep(_STRANGER)
            else:
                agreed, answered_at = agreed + 1, _now()
                if agreed == 2:
                    break
                await asyncio.sleep(_CERTAIN)
            if job.state is JobState.SUBMITTING:
                job = await self._store.get(job.id) or job
        return job, False

    async def _await_end(self, job: Job, server: Server, watch: Watch) -> Job:
        """Follow the prompt until history has it."""
        prompt_id, missed, unreadable = job.prompt_id or "", 0, 0
        began = answered_at = _now()
        while True:
            silent = not (watch.finished or await self._something_heard(server, watch, answered_at))
            job = await self._kept(job, server, watch, silent)
            if job.state not in (JobState.QUEUED, JobState.RUNNING):
                return job
            if not watch.finished and not silent:
                self._publisher.show_progress(job, watch.progress)
                continue
            if watch.finished and (outputs := _told(job, watch)):
                self._spool.begin(replace(job, outputs=outputs), server.client)
            try:  # the queue first: a prompt that leaves it is in history at that moment
                queue = await server.client.queue() if silent else Queue((), ())
                waits = prompt_id in queue
                watch.started |= prompt_id in queue.running
                entry = None if waits else await server.client.history(prompt_id)
                missed = 0 if waits else missed + 1
                if entry is None and missed >= _LOOKS:
                    return await self._forgotten(job, server)
            except ServerError as error:
                unreadable += not isinstance(error, ServerUnavailable)
                if unreadable > _LOOKS:
                    log.warning("job %s: %s", job.short_id, error)
                    return await self._fail(job, say("The server's answer could not be read."))
                job = await self._without(job, server, _now() - answered_at)
                if job.state not in (JobState.QUEUED, JobState.RUNNING):
                    return job
                await asyncio.sleep(_STRANGER)
                continue
            answered_at = _now()
            if entry is not None:
                if not watch.finished and watch.client_id == server.client_id:
                    server.renew_socket()  # it tells nothing: somebody else may have its id
                return await self._ended(job, server, entry)
            if waits and self._is_stuck(job, server, queue, began):
                return await self._leave(job, server, queue)
            if watch.finished:
                await asyncio.sleep(_SETTLING)

    async def _kept(self, job: Job, server: Server, watch: Watch, silent: bool) -> Job:
        """The job with what the socket told of it; after a silence, as it is stored."""
        if watch.started and job.state is JobState.QUEUED:
            server.begin(job.id)
            return await self._store.move(job, JobState.RUNNING)
        if watch.outputs_changed and not watch.finished and job.state is JobState.RUNNING:
            watch.outputs_changed = False
            # what it saved and told outlives the server's history
            told = (text for one in watch.outputs.values() for text in one.texts)
            texts = tuple(dict.fromkeys([*job.texts, *told]))
            after = replace(job, outputs=_told(job, watch), texts=texts)
            return await self._store.keep(job, after)
        if silent or watch.disturbed:
            watch.disturbed = False
            return await self._store.get(job.id) or job
        return job

    async def _something_heard(self, server: Server, watch: Watch, since: float) -> bool:
        """False after a silence: then the socket cannot be trusted, and the server is asked."""
        while True:
            stranger = watch.client_id != server.client_id
            # A prompt that waits is silent, so the one before it speaks for both.
            spoke = watch.heard_at if watch.started or stranger else server.heard_at
            left = max(spoke, since) + (_STRANGER if stranger else _SILENCE) - _now()
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
            return await self.requeue(job)
        if entry.ending is Ending.SUCCESS:
            outputs = entry.saved
            if not outputs and not entry.texts:
                note = say("The workflow ran but saved nothing. It needs a Save Image node.")
                return await self._fail(job, note, finished_at=now)
            if entry.seconds is not None:
                request = job.request
                self._estimates.learn(
                    Run(request.workflow, request.work, server.name, entry.seconds)
                )
            return await self._store.move(
                job,
                JobState.EXECUTED,
                outputs=outputs,
                texts=entry.texts,
                seconds=entry.seconds,
                finished_at=now,
            )
        told = for_log_of(self._filled(job), str(entry.failure))
        log.warning("job %s failed on %s: %s", job.short_id, server.name, told)
        ran_out = entry.failure is not None and entry.failure.out_of_memory
        if ran_out and job.memory is None and self._servers.able(job.request.graph, server.memory):
            return await self._give_back(job, memory=server.memory, attempt=job.attempt)
        note = explain_failure(entry, job.request.graph)
        return await self._fail(job, note, seconds=entry.seconds, finished_at=now)

    # A server that is not as it should be

    async def _forgotten(self, job: Job, server: Server) -> Job:
        """The server restarted, or somebody cleared its history."""
        log.warning("job %s: %s no longer knows it", job.short_id, server.name)
        if outputs := await left_behind(job, server.client):
            return await self._store.move(
                job, JobState.EXECUTED, outputs=outputs, finished_at=datetime.now(UTC)
            )
        return await self.requeue(job, died=job.state is JobState.RUNNING)

    async def _without(self, job: Job, server: Server, seconds: float) -> Job:
        """The job while its server has not answered for so long: it waits, moves or expires."""
        job = await self._store.get(job.id) or job
        if job.state not in (JobState.SUBMITTING, JobState.QUEUED, JobState.RUNNING):
            return job
        if expired(job):
            server.abandon(job.prompt_id)
            return await self.expire(job)
        able = self._servers.able(job.request.graph, job.memory)
        if seconds > _ABSENT and any(each is not server for each in able):
            log.warning("job %s: %s is away; another takes it", job.short_id, server.name)
            server.abandon(job.prompt_id)
            return await self.requeue(job)
        return job

    def _is_stuck(self, job: Job, server: Server, queue: Queue, since: float) -> bool:
        if server.stuck is not None:
            return True
        still = min(server.still_for(queue), _now() - since)
        if not queue.running:
            return still > _IDLE_QUEUE
        if job.prompt_id not in queue.running:
            return still > _FOREIGN_RUN
        if still <= _IDLE_QUEUE:
            return False
        typical = self._estimates.seconds(job.request.workflow, job.request.work)
        if typical is not None:
            typical *= self._estimates.pace(server.name)
        return still > (_UNKNOWN_RUN if typical is None else max(_IDLE_QUEUE, 2 * typical))

    async def _leave(self, job: Job, server: Server, queue: Queue) -> Job:
        """The server takes prompts and does not run them: this one is taken back."""
        prompt_id = job.prompt_id or ""
        ran = prompt_id in queue.running
        server.put_aside(queue)
        try:
            await self._stop(prompt_id, server)
            queue = await server.client.queue()
            if not ran and prompt_id not in queue:
                entry = await server.client.history(prompt_id)
                if entry is not None:
                    return await self._ended(job, server, entry)
                return await self._give_back(job)
        except ServerError as error:
            log.warning("job %s may still run on %s: %s", job.short_id, server.name, error)
        server.abandon(job.prompt_id)
        return await self.requeue(job, died=ran)

    async def requeue(self, job: Job, *, died: bool = False) -> Job:
        """Back into our queue, where it keeps its place; after three attempts it failed.

        *died*: the server did, while it ran the job.
        """
        deaths = job.deaths + died
        if deaths >= _DEATHS:
            log.error("job %s: its server died twice while it ran it", job.short_id)
            note = say("The server stopped working twice while it ran this, so I gave it up.")
            return await self._fail(job, note, deaths=deaths)
        if job.attempt >= _ATTEMPTS:
            note = say("The server lost this job several times. Try again later.")
            return await self._fail(job, note)
        return await self._give_back(job, attempt=job.attempt, deaths=deaths)

    async def _give_back(self, job: Job, **changes: Any) -> Job:
        """Without *attempt*: what was never taken is no attempt."""
        changes = {"attempt": job.attempt - 1, "outputs": (), "texts": ()} | changes
        job = await self._store.move(job, JobState.PENDING, server=None, prompt_id=None, **changes)
        self._publisher.show_progress(job, RunProgress.of(job.request.graph))
        return job

    async def expire(self, job: Job) -> Job:
        note = say("No server could run this within a day. Ask for it again.")
        return await self._store.move(job, JobState.EXPIRED, note=note, outputs=(), texts=())

    async def _fail(self, job: Job, note: str, **changes: Any) -> Job:
        """Of what failed nothing is shown, so nothing is kept."""
        return await self._store.move(
            job, JobState.FAILED, note=note, outputs=(), texts=(), **changes
        )

    async def stop(self, job: Job, server: Server) -> None:
        """Only ever this prompt: deleted while it waits, interrupted by its id while it runs.

        A server that does not answer is asked again, for a while.
        """
        if job.prompt_id is None:
            return
        for delay in _STOP_DELAYS:
            try:
                await self._stop(job.prompt_id, server)
            except ServerError as error:
                log.warning("job %s may still run: %s", job.short_id, error)
                await asyncio.sleep(delay)
            else:
                return

    async def _stop(self, prompt_id: str, server: Server) -> None:
        await server.client.delete_queued(prompt_id)
        for _ in range(_ATTEMPTS):  # an interrupt right after the start can be lost
            if prompt_id not in (await server.client.queue()).running:
                return
            await server.client.interrupt(prompt_id)
            await asyncio.sleep(1)


def _told(job: Job, watch: Watch) -> tuple[OutputFile, ...]:
    """What the socket has told of its files."""
    known = (each for each in job.outputs if each.node_id not in watch.outputs)
    return (*known, *(each for one in watch.outputs.values() for each in saved(one.files)))


def expired(job: Job) -> bool:
    return datetime.now(UTC) - job.request.created_at > PATIENCE


def _now() -> float:
    return asyncio.get_running_loop().time()
