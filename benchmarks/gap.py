"""How long a GPU does nothing between two jobs while more of them wait.

    uv run python -m benchmarks.gap

One server, jobs of 0.2 to 0.6 seconds, on loopback and over a way of 50 ms there and back, as to a
rented GPU. The bot keeps two prompts on it, of which one waits. Beside it, each as a process of its
own, a bot that sends the next prompt when the socket tells that the last one is done, and one that
looks once a second.
"""

import asyncio
import json
import random
import statistics
import sys
import uuid
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from benchmarks.answers import picture
from benchmarks.lab import ROOT, Lab, ended, lab, process
from benchmarks.report import Goal, Report, main
from bot.servers import SLOTS
from comfy.standin import Pace
from tests.fakes.comfyui import FakeComfyUI

JOBS = 12
POLLED = 5  # jobs of the bot that looks once a second
STEP = 0.1  # seconds
WAYS = {"loopback": 0.0, "50 ms": 0.05}  # seconds there and back
GOAL = 20.0  # ms


class FarComfyUI(FakeComfyUI):
    """*idle*: seconds between the end of each prompt and the beginning of the next."""

    def __init__(self, way: float) -> None:
        super().__init__(pace=Pace(node=0.0, step=STEP, previews=False))
        self.picture = picture(2**20)
        self.idle: list[float] = []
        self._way = way / 2
        self._ended: float | None = None
        self._sent: set[asyncio.Task[None]] = set()

    async def execute(self, item: Any) -> dict[str, Any]:
        clock = asyncio.get_running_loop().time
        if self._ended is not None:
            self.idle.append(clock() - self._ended)
        try:
            return await super().execute(item)
        finally:
            self._ended = clock()

    async def answer(self, request: web.Request, handler: Any) -> web.StreamResponse:
        await asyncio.sleep(self._way)
        response = await super().answer(request, handler)
        await asyncio.sleep(self._way)
        return response

    async def deliver(self, socket: Any, frame: Any) -> None:
        async def arrive() -> None:
            await asyncio.sleep(self._way)
            await super(FarComfyUI, self).deliver(socket, frame)

        task = asyncio.create_task(arrive())
        self._sent.add(task)
        task.add_done_callback(self._sent.discard)


async def of_bot(laboratory: Lab) -> None:
    """The first job ends when all are asked for."""
    user, (server,) = laboratory.discord.add_user("alice"), laboratory.comfyui
    server.hold()
    async with laboratory.running():
        asked = [
            await laboratory.ask(user, workflow="txt2img", prompt="a cat", steps=steps())
            for _ in range(JOBS)
        ]
        await laboratory.discord.until(lambda: server.queue.remaining() == SLOTS)
        server.finish()
        for each in asked:
            await laboratory.posted(each)


async def of_peer(comfyui: FakeComfyUI, folder: Path, how: str, jobs: int) -> None:
    arguments = ("-m", "benchmarks.gap", how, comfyui.url, str(jobs))
    peer = await process(*arguments, folder=folder, environment={})
    try:
        assert await peer.wait() == 0, f"the peer ({how}) failed"
    finally:
        await ended(peer)


def steps() -> int:
    return random.randint(2, 6)


async def peer(how: str, server: str, jobs: int) -> None:
    """In a process of its own: one prompt after the other."""
    graph = json.loads((ROOT / "workflows/txt2img.json").read_text())
    client_id = uuid.uuid4().hex
    async with (
        aiohttp.ClientSession(server) as session,
        session.ws_connect(f"/ws?clientId={client_id}") as socket,
    ):
        for _ in range(jobs):
            graph["5"]["inputs"] |= {"steps": steps(), "seed": random.getrandbits(32)}
            body = {"prompt": graph, "client_id": client_id}
            async with session.post("/prompt", json=body) as response:
                prompt_id = (await response.json())["prompt_id"]
            if how == "socket":
                await heard(socket, prompt_id)
            else:
                await seen(session, prompt_id)


async def heard(socket: aiohttp.ClientWebSocketResponse, prompt_id: str) -> None:
    async for frame in socket:
        told = json.loads(frame.data)
        if told["type"] == "executing" and told["data"]["node"] is None:
            assert told["data"]["prompt_id"] == prompt_id
            return


async def seen(session: aiohttp.ClientSession, prompt_id: str) -> None:
    entry = None
    while not entry:
        await asyncio.sleep(1)
        async with session.get(f"/history/{prompt_id}") as response:
            entry = (await response.json()).get(prompt_id)


async def measured(way: float) -> list[list[float]]:
    """Milliseconds of the gaps: of ours, of one with a socket, of one that looks."""
    ours, socket, poller = (FarComfyUI(way) for _ in range(3))
    async with lab([ours]) as laboratory, socket, poller:
        await asyncio.gather(
            of_bot(laboratory),
            of_peer(socket, laboratory.folder, "socket", JOBS),
            of_peer(poller, laboratory.folder, "poller", POLLED),
        )
    return [[1000 * seconds for seconds in each.idle] for each in (ours, socket, poller)]


async def measure() -> Report:
    names = ("comfycord: one runs, one waits", "one at a time, socket", "one at a time, poller")
    rows: list[tuple[str | float, ...]] = []
    goals = []
    for told, way in WAYS.items():
        gaps = await measured(way)
        for name, each in zip(names, gaps, strict=True):
            rows.append((f"{name}, {told}", statistics.median(each), max(each)))
        goals.append(Goal(f"longest gap with one that waits, {told}, in ms", max(gaps[0]), GOAL))
    return Report(
        "A GPU between two jobs",
        "For how long a server stands still while jobs wait. The poller looks once a second.",
        ("bot, way to the server", "median ms", "max ms"),
        rows,
        goals,
    )


if __name__ == "__main__":
    if sys.argv[1:]:
        asyncio.run(peer(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    else:
        main(measure)
