"""A job's way on its server: sent, followed, and over or back in our queue.

What happens next depends only on the stored state. Socket events are hints; `/history` is the
truth.
"""

import asyncio
import contextlib
import logging
from dataclasses import replace
from datetime import UTC, datetime

from bot.errors import explain_failure, explain_refusal
from bot.jobs import Job, JobState
from bot.logs import for_log
from bot.publisher import Publisher
from bot.servers import Server, Watch
from bot.store import Store
from bot.uploads import Uploads
from comfy.errors import PromptRefused, ServerError, ServerUnavailable
from comfy.models import Ending, HistoryEntry, Queue
from comfy.phrases import say
from comfy.progress import RunProgress

log = logging.getLogger(__name__)

_SILENCE = 25.0  # seconds without an event after which the server is asked
_STRANGER = 2.0  # the same, for a prompt that reports to a socket that is gone
_CERTAIN = 5.0  # between two looks that must agree that the server does not know a prompt
_LOOKS = 3  # without queue or history entry, before a prompt counts as lost
_SETTLING = 0.3  # between them, when the socket said that it ended
_ATTEMPTS = 3
_STOP_DELAYS = (0, 0.5, 1, 2, 5, 10, 30, 60)  # seconds between tries to stop a cancelled prompt
_NO_FILE = say("The file that it began with is no longer kept. Give it again.")


class Execution:
    def __init__(self, store: Store, publisher: Publisher, uploads: Uploads) -> None:
        self._store = store
        self._publisher = publisher
        self._uploads = uploads

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
            client_id = server.client_id or job.id
            accepted = await server.client.queue_prompt(graph, prompt_id, client_id)
        except FileNotFoundError:
            return await self._store.move(job, JobState.FAILED, note=_NO_FILE)
        except PromptRefused as error:
            log.warning("job %s: %s %s", job.short_id, error, error.node_errors)
            return await self._store.move(
                job, JobState.FAILED, note=explain_refusal(error, graph, server.nodes)
            )
        except ServerUnavailable as error:
            log.warning("job %s: %s; looking whether it arrived", job.short_id, error)
            return job
        except ServerError as error:  # it was answered, and not accepted
            log.warning("job %s: %s", job.short_id, error)
            server.doubt(error)
            return await self._give_back(job)
        note: str = ""
        if accepted.node_errors:
            log.warning("job %s: dropped outputs: %s", job.short_id, accepted.node_errors)
            note = say("Part of the workflow could not run and was left out.")
        return await self._store.move(job, JobState.QUEUED, note=note)

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
                job = await self._store.move(job, JobState.RUNNING)
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
                    note = say("The server's answer could not be read.")
                    return await self._store.move(job, JobState.FAILED, note=note)
                await asyncio.sleep(_STRANGER)
                continue
            if entry is not None:
                return await self._ended(job, server, entry)
            missed = 0 if waits else missed + 1
            if missed >= _LOOKS:
                log.warning("job %s: %s no longer knows it", job.short_id, server.name)
                return await self.requeue(job)
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
            return await self.requeue(job)
        if entry.ending is Ending.SUCCESS:
            outputs = entry.saved
            if not outputs and not entry.texts:
                note = say("The workflow ran but saved nothing. It needs a Save Image node.")
                return await self._store.move(job, JobState.FAILED, note=note, finished_at=now)
            return await self._store.move(
                job,
                JobState.EXECUTED,
                outputs=outputs,
                texts=entry.texts,
                seconds=entry.seconds,
                finished_at=now,
            )
        log.warning("job %s failed on %s: %s", job.short_id, server.name, entry.failure)
        note = explain_failure(entry, job.request.graph)
        return await self._store.move(
            job, JobState.FAILED, note=note, seconds=entry.seconds, finished_at=now
        )

    async def requeue(self, job: Job) -> Job:
        """Back into our queue, where it keeps its place; after three attempts it failed."""
        if job.attempt >= _ATTEMPTS:
            note = say("The server lost this job several times. Try again later.")
            return await self._store.move(job, JobState.FAILED, note=note)
        return await self._give_back(job, attempts=job.attempt)

    async def _give_back(self, job: Job, attempts: int | None = None) -> Job:
        """Without *attempts*: what was never taken is no attempt."""
        done = job.attempt - 1 if attempts is None else attempts
        job = await self._store.move(
            job, JobState.PENDING, server=None, prompt_id=None, attempt=done
        )
        self._publisher.show_progress(job, RunProgress.of(job.request.graph))
        return job

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
