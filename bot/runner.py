"""The background task: one step for every unfinished job, for ever.

A job that left our queue is followed by one task until its end is visible. What it does next
depends only on the stored state, so a restart is the same loop over the unfinished rows.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from bot.dispatch import Dispatch
from bot.errors import StoreError
from bot.estimates import UNKNOWN_SECONDS, Estimates
from bot.execution import PATIENCE, Execution, expired
from bot.jobs import ON_SERVER, Job, JobState
from bot.people import PAUSED
from bot.publisher import DeliveryDelayed, Publisher, Undeliverable
from bot.servers import Server, Servers
from bot.spool import KEPT, Spool
from bot.store import Store
from bot.uploads import Uploads
from comfy.library import Library
from comfy.phrases import say

log = logging.getLogger(__name__)

_BROKEN = 5.0  # seconds, while the database does not work
_IDLE = 30.0  # the rounds go on even if nobody wakes them
_UNANSWERED = 15.0  # seconds, after which a command's answer arrived or never will
_PATIENCE = (1.0, 60.0)  # between two tries to reach Discord or a server: from, to


class Runner:
    def __init__(
        self,
        store: Store,
        servers: Servers,
        publisher: Publisher,
        spool: Spool,
        uploads: Uploads,
        library: Library,
        estimates: Estimates,
    ) -> None:
        self._uploads = uploads
        self._store = store
        self._servers = servers
        self._publisher = publisher
        self._spool = spool
        self._estimates = estimates
        self._dispatch = Dispatch(store, servers, estimates)
        self._execution = Execution(store, servers, publisher, uploads, library, estimates, spool)
        self._wake = asyncio.Event()
        self._resumed_at = float("-inf")  # loop time
        self._following: dict[str, asyncio.Task[None]] = {}
        self._expected: dict[str, float] = {}  # jobs that are being answered, since when

    def wake(self) -> None:
        """Something changed: a new job, a free slot, a server."""
        self._wake.set()

    def expect(self, job_id: str) -> None:
        """Its command is being answered, and says itself whether Discord took the answer."""
        self._expected[job_id] = asyncio.get_running_loop().time()

    def hear(self, what: str) -> None:
        """Another process tells: this job changed; "": the line did."""
        for server in self._servers.values():
            if what in server.holding:
                server.hurry_all()
        if what == PAUSED:
            self._resumed_at = float("-inf")
        self.wake()

    def take(self, names: Collection[str]) -> None:
        """These servers are this process's from now on, with the jobs on them."""
        for name, server in self._servers.items():
            server.own(ours=name in names)
        self._resumed_at = float("-inf")
        self.wake()

    async def pause(self, server: Server, *, paused: bool) -> None:
        """It gets no new jobs from any process, also after a restart."""
        await self._store.pause_server(server.name, paused=paused)
        server.paused = paused
        self.wake()

    async def let_go(self, names: Collection[str]) -> None:
        """Another process may have these servers: nothing more is done on them from here."""
        held: set[str] = set()
        for server in (self._servers[name] for name in names):
            server.own(ours=False)
            held |= server.holding.keys()
        await self._stop_following(held)

    async def halt(self) -> None:
        """Another process may have everything."""
        for server in self._servers.values():
            server.own(ours=False)
        await self._stop_following(set(self._following))

    async def _stop_following(self, job_ids: Collection[str]) -> None:
        await _ended(task for job_id, task in self._following.items() if job_id in job_ids)
        for job_id in job_ids:
            self._publisher.hush(job_id)

    async def run(self) -> None:
        """For ever. An error of one round is logged, and the next round comes."""
        clock = asyncio.get_running_loop().time
        try:
            while True:
                try:
                    if clock() - self._resumed_at >= _IDLE:
                        self._resumed_at = clock()
                        await self._resume()
                    await self.dispatch()
                except Exception as error:
                    if isinstance(error, StoreError):
                        log.error("the queue has to wait for the database: %s", error)
                    else:
                        log.exception("the queue could not be worked on; trying again")
                    self._resumed_at = float("-inf")
                    await asyncio.sleep(_PATIENCE[0])
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_IDLE):
                        await self._wake.wait()
                self._wake.clear()
        finally:
            await _ended(self._following.values())

    async def _resume(self) -> None:
        """Follow what nobody follows: an earlier process left it, or its task broke off."""
        self._estimates.replace(await self._store.runs())
        paused = await self._store.paused_servers()
        for name, server in self._servers.items():
            server.paused = name in paused
        for job in await self._store.in_flight():
            self._follow(job)
        for job in await self._store.pending_since(datetime.now(UTC) - PATIENCE):
            self._follow(await self._execution.expire(job))
        now = asyncio.get_running_loop().time()
        self._expected = {n: at for n, at in self._expected.items() if now - at < _UNANSWERED}
        for job in await self._store.unacknowledged():
            if job.id not in self._expected:
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
        """Give waiting jobs to servers with room."""
        async for job, server in self._dispatch.claimed():
            if server is not None:
                self._follow(job, unsent=True)
                continue
            missing = self._servers.missing_everywhere(job.request.graph)
            names = ", ".join(f"`{each}`" for each in sorted(missing)[:5])
            note = say(
                "No server has the custom node {names}. Ask a moderator to install it.", names=names
            )
            self._follow(await self._store.move(job, JobState.FAILED, note=note))

    async def cancel(self, job: Job) -> bool:
        found: Job | None = job  # False if it is too late; the placeholder tells the rest
        while found is not None and found.state.can_become(JobState.CANCELLED):
            cancelled = found.to(JobState.CANCELLED, finished_at=datetime.now(UTC))
            if await self._store.save(found, cancelled):
                if server := self._server_of(found):
                    server.hurry(found.prompt_id)
                if found.state in ON_SERVER and server is not None and not server.ours:
                    await self._store.tell(found.id)  # its process does the rest
                elif cancelled.message_id is not None:  # else the next rounds, when it is known
                    self._follow(cancelled)
                return True
            found = await self._store.get(job.id)  # it moved on in the meantime
        return False

    def _follow(self, job: Job, *, unsent: bool = False) -> None:
        if job.id in self._following:
            return
        if (server := self._server_of(job)) and job.state in ON_SERVER:
            if not server.ours:
                return
            request = job.request
            server.hold(
                job.id, self._estimates.seconds(request.workflow, request.work) or UNKNOWN_SECONDS
            )
        task = asyncio.create_task(self._carry(job, unsent), name=f"job {job.short_id}")
        self._following[job.id] = task
        task.add_done_callback(lambda _: self._let_others(job))

    def _let_others(self, job: Job) -> None:
        """Nobody follows it any more: who claims it, and what waits for its server, may go on."""
        self._following.pop(job.id, None)
        self._release(job)

    async def _carry(self, job: Job, unsent: bool) -> None:
        """Step by step to the end. One bad job costs one job.

        *unsent*: it was claimed just now, so its prompt was surely not sent yet.
        """
        broken = False
        try:
            while job.open and job.state is not JobState.PENDING:
                try:
                    if broken:
                        note = say("Something went wrong on our side. The log has the details.")
                        job = await self._store.move(job, JobState.FAILED, note=note)
                        broken = False
                    else:
                        job = await self._step(job, unsent)
                except StoreError as error:
                    log.error("job %s has to wait for the database: %s", job.short_id, error)
                    await asyncio.sleep(_BROKEN)
                except OSError as error:  # most often a full disk, which is the owner's to mend
                    log.error("job %s has to wait: %s", job.short_id, error)
                    broken = expired(job) and not job.state.final
                    await asyncio.sleep(_BROKEN)
                except Exception:
                    log.exception("job %s failed in state %s", job.short_id, job.state)
                    if job.state.final:
                        return  # the next rounds try to tell it again
                    broken = True
                unsent = False
                if job.open and job.state not in (*ON_SERVER, JobState.PENDING):
                    self._release(job)
            if job.state is JobState.PENDING:
                return
            with contextlib.suppress(StoreError):  # the next rounds try again
                await self._store.settle(job)
                if job.request.by_token and not job.open:
                    await self._store.drop_token(job.id)
                await self._uploads.remove(await self._store.forget_over(job.id))
        finally:
            await self._spool.drop(job.id)

    def _release(self, job: Job) -> None:
        for server in self._servers.values():
            server.release(job.id)
        self.wake()

    async def _step(self, job: Job, unsent: bool) -> Job:
        if job.state in ON_SERVER:
            server = self._server_of(job)
            if server is None or job.prompt_id is None:
                return await self._execution.requeue(job)  # the server left the configuration
            return await self._execution.step(job, server, unsent)
        if job.state is JobState.EXECUTED:
            return await self._deliver(job)
        return await self._tell(job)

    # To people

    async def _deliver(self, job: Job) -> Job:
        server = self._server_of(job)
        if server is None and job.outputs:
            note = say("The server that has this picture is no longer set up.")
            return await self._store.move(job, JobState.FAILED, note=note, outputs=())
        if await self._store.banned(job.request.user_id, job.request.guild_id):
            note = say("You may not use me here any more.")
            return await self._store.move(job, JobState.FAILED, note=note, outputs=(), texts=())
        client = server.client if server else None
        too_late = (job.finished_at or datetime.now(UTC)) + KEPT
        async with self._spool.fetched(job, client, until=too_late) as (files, lost):
            if lost and not files:
                note = say("The picture is no longer on the server.")
                return await self._store.move(job, JobState.FAILED, note=note, outputs=())
            pages = await self._publisher.pack(job, files)
            while len(job.messages) < len(pages):
                try:
                    post = partial(self._publisher.post_result, job, len(job.messages), pages, lost)
                    message_id = await _patiently(job, post)
                except Undeliverable as error:
                    log.warning("job %s cannot be posted: %s", job.short_id, error)
                    if job.messages:  # what stands there already is not turned into a failure
                        break
                    note = error.args[0]
                    if job.outputs:
                        note = say("{why} `/history` shows the result.", why=note)
                    return await self._store.move(job, JobState.FAILED, note=note)
                job = await self._store.keep(job, _shown(job, message_id))
        return await self._store.move(job, JobState.POSTED, told=True)

    async def _tell(self, job: Job) -> Job:
        """A failure or a cancel is told with the same care as a picture."""
        try:
            message_id = await _patiently(job, partial(self._publisher.post_failure, job))
            job = _shown(job, message_id)
        except Undeliverable as error:
            log.warning("the end of job %s cannot be told: %s", job.short_id, error)
        if job.state is JobState.CANCELLED and (server := self._server_of(job)):
            await self._execution.stop(job, server)
        return await self._store.keep(job, replace(job, told=True))

    def _server_of(self, job: Job) -> Server | None:
        return self._servers.get(job.server or "")


async def _ended(tasks: Iterable[asyncio.Task[None]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _shown(job: Job, message_id: int) -> Job:
    """A first message that is posted anew stands for the placeholder from then on."""
    first = message_id if not job.messages else job.message_id
    return replace(job, message_id=first, messages=(*job.messages, message_id))


async def _patiently(job: Job, publish: Callable[[], Awaitable[int]]) -> int:
    """Again and again until Discord takes it, or says that it never will."""
    delay = _PATIENCE[0]
    while True:
        try:
            return await publish()
        except DeliveryDelayed as error:
            log.warning("job %s is not shown yet: %s", job.short_id, error)
            await asyncio.sleep(delay)
            delay = min(delay * 2, _PATIENCE[1])
