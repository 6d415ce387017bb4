"""Servers of which only the time is simulated: hours of work pass in seconds.

The store (SQLite), the dispatch, the servers' slots, the estimates and the line are the bot's own;
a run on a server is a sleep. The clock of the loop leaps to its next timer as soon as nothing is
under way, and stands while the database works: what this machine takes counts nothing.
"""

import asyncio
import contextlib
import selectors
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, cast
from unittest.mock import patch

from bot.delivery import Delivery
from bot.dispatch import Dispatch
from bot.estimates import UNKNOWN_SECONDS, Estimates, Run
from bot.fairness import Share
from bot.jobs import Job, JobState, Request
from bot.line import Line
from bot.servers import Server, Servers
from bot.store import Store
from bot.wishes import Wish
from comfy.client import ComfyClient
from comfy.nodes import NodeType, models_in

LOADING = 14.0  # seconds for a model, on a server of speed 1
_IDLE = 30.0  # seconds, after which the bot looks at its line even if nothing happened
_LOST = 600.0  # seconds without any work, after which what waits is lost
_LEARNED = 5  # runs of each workflow on each server
_NODES = {"Load": NodeType("Load", "Load")}


@dataclass(slots=True)
class Asked:
    """A job. *work*: seconds on a server of speed 1; *noise*: what this run's are multiplied with.

    *told*: after how many seconds it was said to be ready, when it was asked for; *ahead*: how many
    waited before it. *loading*: seconds of its time on the server. The others are moments.
    """

    user: int
    model: str
    work: float
    at: float = 0.0
    noise: float = 1.0
    told: float | None = None
    ahead: int = 0
    server: str | None = None
    sent: float = 0.0
    began: float = 0.0
    loading: float = 0.0
    ended: float = 0.0

    @property
    def done(self) -> bool:
        return self.ended > 0

    @property
    def wait(self) -> float:
        return self.began - self.at

    @property
    def turnaround(self) -> float:
        return self.ended - self.at

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class Policy(Protocol):
    """Says which job goes where, as `Dispatch` does."""

    def __init__(self, store: Store, servers: Servers, estimates: Estimates) -> None: ...

    def claimed(self) -> AsyncIterator[tuple[Job, Server | None]]: ...


class FirstCome:
    """The reference: a server with room pulls the oldest job, the emptiest server first."""

    def __init__(self, store: Store, servers: Servers, _: Estimates) -> None:
        self._store, self._servers = store, servers

    async def claimed(self) -> AsyncIterator[tuple[Job, Server | None]]:
        while self._servers.have_room and (line := await self._store.line(10_000)):
            server = min(self._servers.with_room, key=lambda each: len(each.holding))
            oldest = min(each.id for each in line)  # they are numbered
            now, prompt_id = datetime.now(UTC), str(uuid.uuid4())
            if (job := await self._store.claim(oldest, server.name, prompt_id, now)) is not None:
                yield job, server


class InTurns(Dispatch):
    """The bot as it would be if it did not look at what a server has loaded."""

    async def claimed(self) -> AsyncIterator[tuple[Job, Server | None]]:
        with patch("bot.dispatch.choice", lambda line, *_, **__: 0 if line else None):
            async for each in super().claimed():
                yield each


def simulate(
    speeds: Sequence[float],
    jobs: Sequence[Asked],
    policy: type[Policy] = Dispatch,
    *,
    loading: float = LOADING,
    learned: bool = False,
) -> list[Asked]:
    """*jobs*, with what became of them; what is not done was left in the line by idle servers.

    *learned*: the bot has seen each workflow before. A model is a workflow of its own. In a process
    of its own, or at least outside of any loop.
    """

    async def run() -> list[Asked]:
        with tempfile.TemporaryDirectory() as folder:
            async with Store.open(f"sqlite:///{Path(folder) / 'line.db'}") as store:
                farm = Farm(store, speeds, policy, loading)
                if learned:
                    farm.learn(jobs)
                await farm.work(jobs)
                return farm.asked

    with asyncio.Runner(loop_factory=_Loop) as runner:
        clock = SimpleNamespace(monotonic=runner.get_loop().time)
        with patch("bot.servers.time", clock):
            return runner.run(run())


async def simulated(*each: tuple[Any, ...], **settings: Any) -> list[list[Asked]]:
    """Several simulations, on as many processors as there are."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(simulate, *arguments, **settings) for arguments in each]
        return await asyncio.gather(*map(asyncio.wrap_future, futures))


class Farm:
    """The bot between its members and servers of *speeds*."""

    def __init__(
        self, store: Store, speeds: Sequence[float], policy: type[Policy], loading: float
    ) -> None:
        self.asked: list[Asked] = []
        self._store = store
        self._speeds: Mapping[str, float] = {f"s{n}": each for n, each in enumerate(speeds)}
        self._loading = loading
        self._servers = Servers(_server(name) for name in self._speeds)
        self._estimates = Estimates()
        self._policy = policy(store, self._servers, self._estimates)
        self._line = Line(store, self._servers, cast(Delivery, None), self._estimates)
        self._gpus = {name: asyncio.Lock() for name in self._speeds}
        self._loaded = dict.fromkeys(self._speeds, frozenset[str]())
        self._running: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._now = asyncio.get_running_loop().time

    def learn(self, jobs: Sequence[Asked]) -> None:
        for model, (name, speed) in product({each.model for each in jobs}, self._speeds.items()):
            sizes = sorted({each.work for each in jobs if each.model == model})
            for n in range(_LEARNED):
                size = sizes[n % len(sizes)]
                self._estimates.learn(Run(model, size, name, size / speed))

    async def work(self, jobs: Sequence[Asked]) -> None:
        dispatching = asyncio.create_task(self._dispatch())
        for each in sorted(jobs, key=lambda each: each.at):
            await asyncio.sleep(max(0.0, each.at - self._now()))
            await self._ask(each)
        while not all(each.done for each in jobs):
            if not self._running:
                await asyncio.sleep(_LOST)
                if not self._running:
                    break
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        if dispatching.done():
            dispatching.result()
        dispatching.cancel()

    async def _ask(self, asked: Asked) -> None:
        self.asked.append(asked)
        job = Job(request=_request(len(self.asked), asked))
        place = await self._store.add(job.request, lambda *_: Share(self._cost(job)))
        assert place is not None
        asked.ahead = place.number - 1
        if (ready_at := self._line.ready_at(job, place)) is not None:
            asked.told = (ready_at - datetime.now(UTC)).total_seconds()
        await self._store.acknowledge(job.id, len(self.asked))
        self._wake.set()

    def _cost(self, job: Job) -> float:
        request = job.request
        return self._estimates.seconds(request.workflow, request.work) or UNKNOWN_SECONDS

    async def _dispatch(self) -> None:
        while True:
            self._wake.clear()
            async for job, server in self._policy.claimed():
                assert server is not None
                server.hold(job.id, self._cost(job))
                task = asyncio.create_task(self._run(job, server))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_IDLE):
                    await self._wake.wait()

    async def _run(self, job: Job, server: Server) -> None:
        asked = self.asked[job.request.interaction_id - 1]
        asked.server, asked.sent = server.name, self._now()
        job = await self._store.move(job, JobState.QUEUED)
        async with self._gpus[server.name]:
            server.begin(job.id)
            asked.began = self._now()
            models, speed = models_in(job.request.graph), self._speeds[server.name]
            if self._loaded[server.name] != models:
                self._loaded[server.name], asked.loading = models, self._loading / speed
            await asyncio.sleep(asked.loading + asked.work * asked.noise / speed)
            asked.ended = self._now()
        self._estimates.learn(Run(asked.model, asked.work, server.name, asked.seconds))
        job = await self._store.move(job, JobState.EXECUTED, seconds=asked.seconds)
        await self._store.settle(job)
        server.release(job.id)
        self._wake.set()


def _server(name: str) -> Server:
    server = Server(name, cast(ComfyClient, None))
    server.nodes, server.problem = _NODES, None
    return server


def _request(number: int, asked: Asked) -> Request:
    return Request(
        id=f"{number:08}-0000-4000-8000-000000000000", interaction_id=number, guild_id=1,
        channel_id=1, user_id=asked.user, workflow=asked.model, text="", settings={},
        graph={"1": {"class_type": "Load", "inputs": {"name": f"{asked.model}.safetensors"}}},
        created_at=datetime.now(UTC), wish=Wish(workflow=asked.model), work=asked.work,
    )  # fmt: skip


class _Clock(selectors.DefaultSelector):
    """Instead of waiting for a timer it moves *now*, unless threads are at work."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.at_work = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout and not self.at_work:
            self.now, timeout = self.now + timeout, 0
        return super().select(timeout and None)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.clock = _Clock()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now

    def run_in_executor(self, *work: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = super().run_in_executor(*work)
        self.clock.at_work += 1
        future.add_done_callback(self._is_back)
        return future

    def _is_back(self, _: object) -> None:
        self.clock.at_work -= 1
