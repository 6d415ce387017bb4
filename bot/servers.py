"""The ComfyUI servers: which are up, what each can run, what each holds, which prompt is where."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from comfy.client import ComfyClient, Socket
from comfy.errors import ServerError, ServerUnavailable
from comfy.events import Event, Executed, Executing, Finished, Progress, Started
from comfy.graph import Graph
from comfy.models import Queue
from comfy.nodes import NodeTypes, merged, missing_models, missing_nodes
from comfy.phrases import say
from comfy.progress import RunProgress
from comfy.workflow import Workflow

log = logging.getLogger(__name__)

SLOTS = 2  # one prompt runs, one waits: the GPU never idles, and the order stays ours
_OVERDUE = 0.1  # of what was expected, is left of a job that should be over
_RETRY = (1.0, 30.0)  # seconds between attempts to connect: from, to
_LEARN_EVERY = 600.0  # people add models while ComfyUI runs
_VISIT_EVERY = 60.0  # seconds, where another process does the work
_LOOK_EVERY = 30.0  # seconds, whether one that was stuck goes on


@dataclass(slots=True)
class Watch:
    """What the socket has told of one prompt. *changed* is set with every event.

    *disturbed*: something else happened, so what is stored of its job may have changed.
    """

    progress: RunProgress
    client_id: str | None = None  # of the socket that the prompt reports to, if it was sent here
    started: bool = False
    finished: bool = False
    disturbed: bool = False
    heard_at: float = 0.0  # loop time of its last event
    outputs: dict[str, Executed] = field(default_factory=dict)  # by node
    outputs_changed: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, event: Event) -> None:
        match event:
            case Started() | Executing() | Progress():
                self.started = True
            case Executed(_, node_id):
                self.started = self.outputs_changed = True
                self.outputs[node_id] = event
            case Finished():
                self.finished = True
        self.progress = self.progress.after(event)
        self.changed.set()

    def disturb(self) -> None:
        self.disturbed = True
        self.changed.set()


@dataclass(slots=True)
class Held:
    """A job in a slot. *seconds*: see `Server.hold`; *began*: when, by the monotonic clock."""

    seconds: float
    began: float | None = None

    def left(self, pace: float, now: float) -> float:
        whole = self.seconds * pace
        if self.began is None:
            return whole
        return max(whole - (now - self.began), whole * _OVERDUE)


class Server:
    """One ComfyUI instance. It is up while its socket is open and its nodes are known."""

    def __init__(self, name: str, client: ComfyClient) -> None:
        self.name = name
        self.client = client
        self.nodes: NodeTypes = {}
        self.version = "unknown"
        self.memory = 0  # bytes of VRAM
        self.problem: str | None = say("not connected yet")
        self.heard_at = 0.0  # loop time of the last event of any of our prompts
        self.ours = True  # no other process sends it prompts
        self._turned = asyncio.Event()  # it became ours, or no longer is
        self.paused = False
        self.leaving = False  # it left the configuration, and ends what it has
        self.holding: dict[str, Held] = {}  # by job
        self.loaded: frozenset[str] = frozenset()  # model files, when all that it holds is done
        self.client_id: str | None = None
        self.stuck: tuple[str, ...] | None = None  # what ran when it was put aside
        self._running: tuple[str, ...] | None = None
        self._still_since = 0.0
        self._abandoned: set[str] = set()
        self._watches: dict[str, Watch] = {}
        self._changed = asyncio.Event()
        self._doubts: asyncio.Queue[ServerError] = asyncio.Queue()
        self._able_with: NodeTypes = self.nodes
        self._able: WeakKeyDictionary[Workflow, bool] = WeakKeyDictionary()

    @property
    def up(self) -> bool:
        return self.problem is None

    @property
    def takes_jobs(self) -> bool:
        return self.up and self.ours and not (self.paused or self.leaving)

    @property
    def has_room(self) -> bool:
        return self.takes_jobs and len(self.holding) < SLOTS

    def own(self, *, ours: bool) -> None:
        if ours is not self.ours:
            self.ours = ours
            self._turned.set()

    def move(self, client: ComfyClient) -> None:
        """It is somewhere else from now on."""
        self.client = client
        self._turned.set()

    def hold(self, job_id: str, seconds: float) -> None:
        """It takes a slot; *seconds*: what it is expected to take an average server."""
        self.holding.setdefault(job_id, Held(seconds))

    def release(self, job_id: str) -> None:
        self.holding.pop(job_id, None)

    def begin(self, job_id: str) -> None:
        if (held := self.holding.get(job_id)) and held.began is None:
            held.began = time.monotonic()

    def busy(self, pace: float) -> float:
        """Seconds until what it holds is done, if it takes *pace* times as long as the average."""
        return sum(each.left(pace, time.monotonic()) for each in self.holding.values())

    def can_run(self, workflow: Workflow) -> bool:
        """Whether it has the nodes and the models; asked for every workflow while people type."""
        if self._able_with is not self.nodes:
            self._able_with, self._able = self.nodes, WeakKeyDictionary()
        if workflow not in self._able:
            graph, nodes = workflow.graph, self.nodes
            self._able[workflow] = bool(nodes) and not (
                missing_nodes(graph, nodes) or missing_models(graph, nodes)
            )
        return self._able[workflow]

    @contextmanager
    def watching(self, prompt_id: str, graph: Graph) -> Iterator[Watch]:
        """Events of *prompt_id* go to the watch; begin before the prompt is sent."""
        watch = Watch(RunProgress.of(graph))
        self._watches[prompt_id] = watch
        try:
            yield watch
        finally:
            del self._watches[prompt_id]

    def hurry(self, prompt_id: str | None) -> None:
        """Wake whoever watches *prompt_id*: something else happened to its job."""
        if watch := self._watches.get(prompt_id or ""):
            watch.disturb()

    def hurry_all(self) -> None:
        for watch in self._watches.values():
            watch.disturb()

    def doubt(self, error: ServerError) -> None:
        """It took no prompt: out of rotation, until a new connection and its delay."""
        log.warning("server %s takes no prompts: %s", self.name, error)
        self.problem = error.args[0]
        self._doubts.put_nowait(error)

    def still_for(self, queue: Queue) -> float:
        """Seconds in which nothing moved: the same prompt runs, and no event of ours came."""
        now = asyncio.get_running_loop().time()
        if queue.running != self._running:
            self._running, self._still_since = queue.running, now
        self._still_since = max(self._still_since, self.heard_at)
        return now - self._still_since

    def put_aside(self, queue: Queue) -> None:
        """It answers and runs nothing: out of rotation until it moves or starts anew."""
        if self.stuck is None:
            log.error("server %s takes prompts and does not run them: restart it", self.name)
            self.stuck = queue.running
            self.problem = say("it takes prompts and does not run them. Restart it.")
            self.hurry_all()

    def abandon(self, prompt_id: str | None) -> None:
        """Somebody else runs it: this server is to drop it when it answers again."""
        self._abandoned.add(prompt_id or "")

    def renew_socket(self) -> None:
        log.warning("server %s tells nothing over its socket: it gets a new one", self.name)
        self._doubts.put_nowait(ServerUnavailable(f"{self.client.url} tells nothing"))

    async def wait_up(self) -> None:
        while not self.up:
            self._changed.clear()
            await self._changed.wait()

    async def run(self, on_change: Callable[[], None]) -> None:
        """For ever: connect, learn what it can do, listen; after a failure, again."""
        delay = _RETRY[0]
        while True:
            self._turned.clear()
            try:
                await (self._serve(on_change) if self.ours else self._visit(on_change))
                continue
            except ServerError as error:
                if self.up:
                    delay = _RETRY[0]
                if self.problem != str(error):
                    log.warning("server %s is not available: %s", self.name, error)
                self.problem = error.args[0]
            except Exception:
                log.exception("server %s: the connection failed in an unknown way", self.name)
                self.problem = say("{server} failed in an unknown way", server=self.client.url)
            self._announce(on_change)
            await asyncio.sleep(delay * random.uniform(0.8, 1.2))
            delay = min(delay * 2, _RETRY[1])

    async def _serve(self, on_change: Callable[[], None]) -> None:
        async with self.client.connect() as socket:
            self.client_id = socket.client_id
            self._doubts = asyncio.Queue()
            self.stuck = None  # a new socket is most often a new process
            turned = asyncio.create_task(self._turned.wait())
            tasks: list[asyncio.Task[Any]] = [
                turned,
                asyncio.create_task(self._listen(socket)),
                asyncio.create_task(self._learn(on_change)),
                asyncio.create_task(self._notice_moves(on_change)),
            ]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            if turned in done:
                return
        raise ServerUnavailable(f"{self.client.url} closed its socket")

    async def _listen(self, socket: Socket) -> None:
        clock = asyncio.get_running_loop().time
        async for event in socket.frames(self._watches):
            if event is not None and (watch := self._watches.get(event.prompt_id)):
                watch.heard_at = self.heard_at = clock()
                watch.hear(event)

    async def _learn(self, on_change: Callable[[], None]) -> None:
        while True:
            await self._drop_abandoned()
            await self._ask()
            self._is_up(on_change)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LEARN_EVERY):
                    raise await self._doubts.get()

    async def _ask(self) -> None:
        stats = await self.client.system_stats()
        self.version = stats.version
        self.memory = max((each.vram_total for each in stats.devices), default=0)
        self.nodes = await self.client.object_info()

    async def _visit(self, on_change: Callable[[], None]) -> None:
        """While it is another process's: what it can do and whether it answers."""
        while not self._turned.is_set():
            await self._ask()
            self._is_up(on_change)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_VISIT_EVERY):
                    await self._turned.wait()

    def _is_up(self, on_change: Callable[[], None]) -> None:
        if self.stuck is not None:
            return
        if not self.up:
            log.info("server %s is up: ComfyUI %s", self.name, self.version)
        self.problem = None
        self._announce(on_change)

    async def _drop_abandoned(self) -> None:
        for prompt_id in tuple(self._abandoned):
            await self.client.delete_queued(prompt_id)
            if prompt_id in (await self.client.queue()).running:
                await self.client.interrupt(prompt_id)
            self._abandoned.discard(prompt_id)

    async def _notice_moves(self, on_change: Callable[[], None]) -> None:
        while True:
            stuck = self.stuck
            await asyncio.sleep(_LOOK_EVERY)
            if stuck is not None and (await self.client.queue()).running != stuck:
                self.stuck = None
                self._is_up(on_change)

    def _announce(self, on_change: Callable[[], None]) -> None:
        self._changed.set()
        self.hurry_all()
        on_change()


class Servers(Mapping[str, Server]):
    """All servers by name, in the order of config.yaml."""

    def __init__(self, servers: Iterable[Server]) -> None:
        self._servers = {each.name: each for each in servers}
        self._altered = asyncio.Event()
        self._merged_from: list[NodeTypes] = []
        self._merged: NodeTypes = {}

    def __getitem__(self, name: str) -> Server:
        return self._servers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._servers)

    def __len__(self) -> int:
        return len(self._servers)

    def add(self, server: Server) -> None:
        self._servers[server.name] = server
        self._altered.set()

    def remove(self, server: Server) -> None:
        del self._servers[server.name]
        self._altered.set()

    async def run(self, on_change: Callable[[], None]) -> None:
        """For ever: every server's connection."""
        tasks: dict[Server, asyncio.Task[None]] = {}
        try:
            while True:
                self._altered.clear()
                for server in self.values():
                    if server not in tasks:
                        work, name = server.run(on_change), f"server {server.name}"
                        tasks[server] = asyncio.create_task(work, name=name)
                for gone in tasks.keys() - set(self.values()):
                    tasks.pop(gone).cancel()
                await self._altered.wait()
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)

    @property
    def nodes(self) -> NodeTypes:
        """Every node type that some server has, with every choice that some server offers."""
        known = [server.nodes for server in self.values()]
        if [id(each) for each in known] != [id(each) for each in self._merged_from]:
            self._merged_from, self._merged = known, merged(known)
        return self._merged

    async def raw_object_info(self) -> dict[str, Any]:
        """Of all that answer now, for conversion; the first one's word counts."""
        up = [each.client.raw_object_info() for each in self.values() if each.up]
        answers = await asyncio.gather(*up, return_exceptions=True)
        told = [each for each in answers if not isinstance(each, BaseException)]
        return {name: node for each in reversed(told) for name, node in each.items()}

    @property
    def have_room(self) -> bool:
        return any(each.has_room for each in self.values())

    @property
    def with_room(self) -> list[Server]:
        return [each for each in self.values() if each.has_room]

    @property
    def abilities(self) -> object:
        """Differs when `able` may answer otherwise than before."""
        return [(each.up, id(each.nodes)) for each in self.values()]

    def able(self, graph: Graph, memory: int | None = None) -> list[Server]:
        """Those that are up and can run it, with more VRAM than *memory* bytes.

        One that lacks a model comes into question only where all do: then its own answer says
        what is missing.
        """
        able = [s for s in self.values() if s.up and not missing_nodes(graph, s.nodes)]
        able = [s for s in able if memory is None or s.memory > memory]
        return [s for s in able if not missing_models(graph, s.nodes)] or able

    def missing_everywhere(self, graph: Graph) -> set[str]:
        """Nodes that no server has; empty while one of the servers has not been asked."""
        if not self or any(not each.nodes for each in self.values()):
            return set()
        return set.intersection(*(set(missing_nodes(graph, s.nodes)) for s in self.values()))
