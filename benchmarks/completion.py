"""From ComfyUI's end of a job to Discord's request with its picture.

    uv run python -m benchmarks.completion

Compared with the least that must happen (limit.py) and with a poller as most bots are (poller.py),
each as a process of its own, beside the same 20 stand-ins and the same Discord, all on loopback.
"""

import asyncio
import itertools
import math
import statistics
import struct
import zlib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.lab import Lab, lab
from benchmarks.peers import noise, peer
from benchmarks.report import Goal, Report, main
from comfy.standin import Pace
from tests.fakes.comfyui import FakeComfyUI

SERVERS = 20
ROUNDS = {1: 6, 20: 2, 200: 1}  # by the number of jobs at once
STEPS = 4
SECONDS = (0.1, 1.1)  # a job on its server: from, to
_SIDE = 590  # of a picture of 1 MB, as noise does not compress
_END = 12  # bytes of a PNG's last chunk

# Evenly spread in whatever stretch: where in its second a poller looks is not left to luck.
_lengths = (SECONDS[0] + (n * 0.618034 % 1) * (SECONDS[1] - SECONDS[0]) for n in itertools.count())

Ask = Callable[[int], Awaitable[None]]
"""How to ask for so many jobs; back when all of them are asked for."""


class TimedComfyUI(FakeComfyUI):
    """Each picture tells its prompt; *ended* has when its last frame was sent."""

    def __init__(self, picture: bytes) -> None:
        super().__init__(pace=Pace(0.0, 0.0, previews=False))
        self.picture = picture
        self.ended: dict[bytes, float] = {}

    def paint(self, graph: dict[str, Any], node_id: str, index: int) -> bytes:
        assert self.run is not None
        assert self.picture is not None
        told = b"joBs" + self.run.item.prompt_id.encode()
        chunk = struct.pack(">I", len(told) - 4) + told + struct.pack(">I", zlib.crc32(told))
        return self.picture[:-_END] + chunk + self.picture[-_END:]

    async def execute(self, item: Any) -> dict[str, Any]:
        self.pace = Pace(0.0, next(_lengths) / STEPS, previews=False)
        return await super().execute(item)

    async def deliver(self, socket: Any, frame: Any) -> None:
        if getattr(frame, "type", "") == "executing" and frame.data["node"] is None:
            self.ended[frame.data["prompt_id"].encode()] = asyncio.get_running_loop().time()
        await super().deliver(socket, frame)


def prompt_of(picture: bytes) -> bytes:
    return picture[-_END - 40 : -_END - 4]


@dataclass(frozen=True, slots=True)
class Stage:
    lab: Lab
    comfyui: Sequence[TimedComfyUI]

    async def measured(self, ask: Ask, at_once: Iterable[int]) -> dict[int, list[float]]:
        """Milliseconds of each job, by the number of jobs at once."""
        await self._round(1, ask)  # warms both sides
        return {
            jobs: [each for _ in range(ROUNDS[jobs]) for each in await self._round(jobs, ask)]
            for jobs in at_once
        }

    async def _round(self, jobs: int, ask: Ask) -> list[float]:
        """From the end of each job to the head of its request. No job ends before all of them are
        asked for."""
        self.lab.discord.requests.clear()
        for each in self.comfyui:
            each.ended.clear()
            each.hold()
        await ask(jobs)
        for each in self.comfyui:
            each.finish()
        posted = await self.lab.discord.until(lambda: self._posted(jobs), timeout=60)
        ended = {prompt: at for each in self.comfyui for prompt, at in each.ended.items()}
        return [1000 * (at - ended[prompt]) for prompt, at in posted]

    def _posted(self, jobs: int) -> list[tuple[bytes, float]]:
        done = [each for each in self.lab.discord.requests if each.files and each.done_at]
        found = [(prompt_of(file), each.at) for each in done for file in each.files.values()]
        return found if len(found) == jobs else []

    async def of_bot(self, at_once: Iterable[int]) -> dict[int, list[float]]:
        member = self.lab.discord.add_user("member")

        async def ask_one() -> None:
            options = {"workflow": "txt2img", "prompt": "a cat", "steps": STEPS}
            while (await self.lab.ask(member, **options)).ephemeral:
                pass  # it was too busy to take it

        async def ask(jobs: int) -> None:
            for _ in range(0, jobs, SERVERS):
                await asyncio.gather(*(ask_one() for _ in range(min(jobs, SERVERS))))

        async with self.lab.running():
            return await self.measured(ask, at_once)

    async def of_peer(self, at_once: Iterable[int], *module: str) -> dict[int, list[float]]:
        async with peer(self.lab, *module) as started:

            async def ask(jobs: int) -> None:
                before = self._taken
                for number in range(jobs):
                    started.run(self.comfyui[number % SERVERS].url, STEPS)
                while self._taken < before + jobs:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)

            return await self.measured(ask, at_once)

    @property
    def _taken(self) -> int:
        """Prompts so far."""
        return sum(each.number for each in self.comfyui)


def top(milliseconds: Sequence[float]) -> float:
    """The 99th percentile; of few the longest."""
    return sorted(milliseconds)[math.ceil(0.99 * len(milliseconds)) - 1]


async def measure() -> Report:
    picture = noise(_SIDE)
    servers = [TimedComfyUI(picture) for _ in range(SERVERS)]
    async with lab(servers) as laboratory:
        stage = Stage(laboratory, servers)
        found = {
            "the bot": await stage.of_bot(ROUNDS),
            "limit": await stage.of_peer(ROUNDS, "limit"),
            "limit, streamed": await stage.of_peer((1,), "limit", "streamed"),
            "poller, once a second": await stage.of_peer(ROUNDS, "poller"),
        }
    medians = {
        who: {n: statistics.median(all_) for n, all_ in each.items()} for who, each in found.items()
    }
    bot, limit, poller = (medians[who] for who in ("the bot", "limit", "poller, once a second"))
    tops = [top(found["the bot"][n]) / top(found["poller, once a second"][n]) for n in ROUNDS]
    return Report(
        title="From the end of a job to its picture in Discord",
        about=(
            f"From ComfyUI's last frame of a job to the first byte of the request to Discord that "
            f"has its picture ({len(picture) / 2**20:.1f} MiB). The limit is the least that Python "
            f"with aiohttp has to do: fetch and post. The jobs run on {SERVERS} servers, each for "
            f"{SECONDS[0]} to {SECONDS[1]} s; 200 wait for one another."
        ),
        columns=("jobs at once", "", "measured", "median ms", "p99 ms"),
        rows=[
            (f"{n}", who, len(each[n]), medians[who][n], top(each[n]))
            for n in ROUNDS
            for who, each in found.items()
            if n in each
        ],
        goals=[
            *(
                Goal(f"median, times the limit's, {n} at once", bot[n] / limit[n], 1.5)
                for n in (1, 20)
            ),
            *(
                Goal(
                    f"median, times faster than the poller's, {n} at once",
                    poller[n] / bot[n],
                    times,
                    at_least=True,
                )
                for n, times in ((1, 20), (200, 10))
            ),
            Goal("p99, part of the poller's, at worst", max(tops), 0.25),
        ],
    )


if __name__ == "__main__":
    main(measure)
