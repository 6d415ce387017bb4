"""What one job costs: requests to ComfyUI, edits in Discord, and CPU time of the bot's process.

    uv run python -m benchmarks.requests

Jobs of 3, 30 and 300 seconds, beside a poller as most bots are (poller.py), and the bot's way to
ComfyUI with nothing around it (follower.py), as a poller has nothing around it. Each length has one
of each of its own, and each of these a stand-in; all of them run at once, the short jobs again and
again. Linux only.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from benchmarks.lab import Lab, Used, lab
from benchmarks.peers import noise, peer
from benchmarks.report import Goal, Report, main
from comfy.standin import Pace
from tests.fakes.comfyui import FakeComfyUI

TIMES = {3: 20, 30: 4, 300: 1}  # one job after the other, by its seconds
STEPS_PER_SECOND = 4  # each with a preview
EDIT_EVERY = 3  # seconds, at most
SIDE = 590  # of a picture of 1 MB
BOT, FOLLOWER, POLLER = "the bot", "its way to ComfyUI alone", "poller, once a second"


class Cost(NamedTuple):
    """Of one job. *edits*: in Discord, before the one that has the result."""

    requests: float
    edits: float
    cpu_ms: float


@dataclass(frozen=True, slots=True)
class Side:
    """One of the three. *run*: a job of so many steps, until its picture is in Discord."""

    lab: Lab
    comfyui: FakeComfyUI
    used: Callable[[], Used]
    run: Callable[[int], Awaitable[object]]

    async def cost(self, seconds: int) -> Cost:
        await self.run(1)  # warms both sides
        before = self._so_far()
        for _ in range(TIMES[seconds]):
            await self.run(seconds * STEPS_PER_SECOND)
        spent = zip(before, self._so_far(), strict=True)
        return Cost(*((after - was) / TIMES[seconds] for was, after in spent))

    def _so_far(self) -> Cost:
        edits = (each for each in self.lab.discord.requests if each.method == "PATCH")
        shown = sum(not has_result(each.files) for each in edits)
        return Cost(len(self.comfyui.requests), shown, self.used().cpu_seconds * 1000)


def has_result(files: Iterable[str]) -> bool:
    return any(not name.startswith("preview") for name in files)


@asynccontextmanager
async def bot_side(picture: bytes) -> AsyncIterator[Side]:
    async with lab([stand_in(picture)]) as laboratory:
        discord, workflow = laboratory.discord, laboratory.folder / "workflows/txt2img.yaml"
        workflow.write_text(workflow.read_text().replace("max: 60", "max: 10000"))
        member = discord.add_user("member")

        async def run(steps: int) -> None:
            asked = await laboratory.ask(member, workflow="txt2img", prompt="a cat", steps=steps)
            assert asked.message is not None
            message = asked.message
            await discord.until(lambda: has_result(discord.files_of(message)), timeout=600)

        async with laboratory.running():
            yield Side(laboratory, laboratory.comfyui[0], lambda: laboratory.used, run)


@asynccontextmanager
async def peer_side(module: str, picture: bytes) -> AsyncIterator[Side]:
    async with lab([stand_in(picture)]) as laboratory, peer(laboratory, module) as started:
        discord, (comfyui,) = laboratory.discord, laboratory.comfyui

        async def run(steps: int) -> None:
            before = len(discord.messages[laboratory.channel.id])
            started.run(comfyui.url, steps)
            await discord.until(
                lambda: len(discord.messages[laboratory.channel.id]) > before, timeout=600
            )

        yield Side(laboratory, comfyui, lambda: started.used, run)


def stand_in(picture: bytes) -> FakeComfyUI:
    made = FakeComfyUI(pace=Pace(0.0, 1 / STEPS_PER_SECOND))
    made.picture = picture
    return made


async def measure() -> Report:
    picture = noise(SIDE)

    async def cost(
        make: Callable[[bytes], AbstractAsyncContextManager[Side]], seconds: int
    ) -> Cost:
        async with make(picture) as side:
            return await side.cost(seconds)

    sides = {
        BOT: bot_side,
        FOLLOWER: partial(peer_side, "follower"),
        POLLER: partial(peer_side, "poller"),
    }
    asked = [(seconds, who) for seconds in TIMES for who in sides]
    costs = await asyncio.gather(*(cost(sides[who], seconds) for seconds, who in asked))
    found = dict(zip(asked, costs, strict=True))
    bot = {seconds: found[seconds, BOT] for seconds in TIMES}
    cpu = {
        (seconds, who): found[seconds, who].cpu_ms / found[seconds, POLLER].cpu_ms
        for seconds, who in asked
    }
    edits = max(bot[seconds].edits / (seconds / EDIT_EVERY) for seconds in (30, 300))
    return Report(
        title="What a job costs",
        about=(
            f"Jobs of one picture with {STEPS_PER_SECOND} steps a second and as many previews. "
            "CPU time is all that the process used from the first job's request to the last one's "
            "picture in Discord, a share of its heartbeats and timers included. The poller takes "
            "no commands, keeps no record and shows no progress in Discord; the bot does. Its way "
            "to ComfyUI alone does as little as the poller."
        ),
        columns=("seconds", "", "jobs", "requests to ComfyUI", "edits in Discord", "CPU ms"),
        rows=[(f"{s}", who, TIMES[s], *each) for (s, who), each in found.items()],
        goals=[
            Goal("requests to ComfyUI for a job", max(each.requests for each in bot.values()), 3),
            *(
                Goal(
                    f"CPU of a job of {seconds} s, {who}, times the poller's",
                    cpu[seconds, who],
                    at_most,
                )
                for who in (FOLLOWER, BOT)
                for seconds, at_most in ((3, 1), (300, 0.25))
            ),
            Goal(f"edits of a message in {EDIT_EVERY} s", edits, 1),
        ],
    )


if __name__ == "__main__":
    main(measure)
