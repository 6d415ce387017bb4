"""CPU time of one frame of a server's websocket, beside parsing it.

    uv run python -m benchmarks.frames

The frames pass the bot's own reader of a server's socket and, where they are of a job of ours, the
task that follows the job. The socket itself and the edits in Discord are left out. The reference
parses the same frames, as a bot does that shows the progress of every node.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import aiohttp

from benchmarks.report import Goal, Report, main
from bot.execution import Execution
from bot.jobs import Job, JobState, Request
from bot.servers import Server
from bot.wishes import Wish
from comfy.client import ComfyClient, Socket
from comfy.progress import RunProgress

FRAMES = 1000
ROUNDS = 5  # of which the quickest counts
OURS, FOREIGN = str(uuid.uuid4()), str(uuid.uuid4())


class Kind(NamedTuple):
    """*nodes*: of the graph."""

    type: str
    prompt_id: str
    nodes: int

    @property
    def ours(self) -> bool:
        return self.prompt_id == OURS

    @property
    def told(self) -> tuple[str, str, int]:
        return self.type, "ours" if self.ours else "foreign", self.nodes

    def frame(self, step: int) -> str:
        """As ComfyUI sends it."""
        data: dict[str, Any] = {"value": step, "max": FRAMES, "prompt_id": self.prompt_id}
        if self.type == "progress":
            data["node"] = "1"
        else:
            data |= {"state": "running", "parent_node_id": None}
            nodes = (str(number) for number in range(self.nodes))
            ids = ("node_id", "display_node_id", "real_node_id")
            states = {each: data | dict.fromkeys(ids, each) for each in nodes}
            data = {"prompt_id": self.prompt_id, "nodes": states}
        return json.dumps({"type": self.type, "data": data})


KINDS = [
    Kind(kind, prompt_id, nodes)
    for kind in ("progress_state", "progress")
    for prompt_id in (FOREIGN, OURS)
    for nodes in (30, 200)
]


class Wire:
    """Stands for a connection. Behind each frame who waits for it has a turn, as in the loop."""

    def __init__(self, frames: Sequence[str], *, turns: bool) -> None:
        self._frames = [aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, each, None) for each in frames]
        self._turns = turns

    async def __aiter__(self) -> AsyncIterator[aiohttp.WSMessage]:
        for each in self._frames:
            yield each
            if self._turns:
                await asyncio.sleep(0)


class Shown:
    """A publisher that keeps what it is told."""

    def show_progress(self, _: Job, progress: RunProgress) -> None:
        self.progress = progress


Reader = Callable[[Any], Awaitable[object]]


async def skip(wire: Wire) -> None:
    async for _ in wire:
        pass


async def parse(wire: Wire) -> None:
    async for message in wire:
        data = json.loads(message.data)["data"]
        [each["value"] / each["max"] for each in data.get("nodes", {"": data}).values()]


@asynccontextmanager
async def following(nodes: int) -> AsyncIterator[Reader]:
    """The bot's reader of a server that runs a job of ours."""
    graph = {str(n): {"class_type": "KSampler", "inputs": {"steps": 20}} for n in range(nodes)}
    request = Request(
        id=str(uuid.uuid4()), interaction_id=1, guild_id=1, channel_id=1, user_id=1,
        workflow="", text="", settings={}, graph=graph, created_at=datetime.now(UTC), wish=Wish(),
    )  # fmt: skip
    job = Job(request=request, state=JobState.RUNNING, prompt_id=OURS, server="server")
    unused: Any = None  # no state changes, so nothing is stored
    publisher: Any = Shown()
    server = Server("server", ComfyClient("http://server", unused))
    execution = Execution(unused, unused, publisher, unused, unused, unused, unused)
    task = asyncio.create_task(execution.step(job, server, unsent=False))
    await asyncio.sleep(0)
    try:
        yield lambda wire: server._listen(Socket("", wire))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def microseconds(kind: Kind, read: Reader) -> float:
    """Of CPU time for a frame, less what the wire itself takes."""
    frames = [kind.frame(step) for step in range(FRAMES)]
    taken: dict[Reader, list[float]] = {read: [], skip: []}
    for _ in range(ROUNDS):
        for reader, found in taken.items():
            began = time.process_time()
            await reader(Wire(frames, turns=kind.ours))
            found.append((time.process_time() - began) / FRAMES * 1e6)
    return max(min(taken[read]) - min(taken[skip]), 0.0)


async def measure() -> Report:
    found: dict[Kind, tuple[float, float]] = {}
    for kind in KINDS:
        async with following(kind.nodes) as bot:
            found[kind] = await microseconds(kind, bot), await microseconds(kind, parse)
    states = [ours / parsed for kind, (ours, parsed) in found.items() if kind.type != "progress"]
    small = {kind: ours for kind, (ours, _) in found.items() if kind.type == "progress"}
    return Report(
        title="A frame of progress",
        about=(
            "CPU time of the bot for one frame of a server's websocket, without the socket and "
            "the edits in Discord, beside the time to parse it. With every step ComfyUI sends a "
            "`progress` frame, and one with the state of all nodes."
        ),
        columns=("frame", "of a job", "nodes", "bytes", "the bot, µs", "parsed, µs", "ratio"),
        rows=[
            (*kind.told, len(kind.frame(1)), ours, parsed, ours / parsed)
            for kind, (ours, parsed) in found.items()
        ],
        goals=[
            Goal("`progress_state`, part of its parsing, at worst", max(states), 0.1),
            Goal("`progress`, foreign, µs", max(t for k, t in small.items() if not k.ours), 10),
            Goal(
                "`progress`, ours, many in a second, µs",
                max(t for k, t in small.items() if k.ours),
                10,
            ),
        ],
    )


if __name__ == "__main__":
    main(measure)
