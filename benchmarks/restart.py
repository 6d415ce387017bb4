"""A bot that is killed in the middle of its work: how soon the next one goes on with it.

    uv run python -m benchmarks.restart

It is killed with 1,000 jobs waiting, 20 running on as many servers, 20 more waiting there, and
100,000 in its history. Beside it stands a start on an empty database with the same servers. A job
counts as attached when its picture is posted, which its server may finish from the moment when
the new bot hears Discord.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from benchmarks.answers import picture, posted
from benchmarks.lab import Lab, lab
from benchmarks.report import Goal, Report, main
from benchmarks.waiting import fill, placeholders, rows_of
from bot.servers import SLOTS
from comfy.standin import Pace
from tests.fakes.comfyui import FakeComfyUI

SERVERS = 20
WAITING = 1_000
FINISHED = 100_000
ATTACHED_GOAL = 10.0  # seconds after it hears Discord
MORE_GOAL = 2.0  # seconds more than an empty start


class Start(NamedTuple):
    """Seconds from the start of the process, and what it had of memory at most."""

    ready: float
    attached: float
    peak_mib: float


@asynccontextmanager
async def holding() -> AsyncIterator[Lab]:
    """A laboratory whose servers keep their first job running."""
    comfyui = [FakeComfyUI(pace=Pace(0, 0, previews=False)) for _ in range(SERVERS)]
    async with lab(comfyui) as laboratory:
        for each in comfyui:
            each.picture = picture(2**10)
            each.hold()
        yield laboratory


async def started(laboratory: Lab, running: int = 0) -> Start:
    """*running*: jobs that an earlier process left on the servers."""
    clock = asyncio.get_running_loop().time
    began = clock()
    async with laboratory.running():
        ready = clock() - began
        for each in laboratory.comfyui:
            each.finish()
            each.hold()  # what comes after the running one
        await laboratory.discord.until(lambda: posted(laboratory) >= running, timeout=60)
        return Start(ready, clock() - began, laboratory.used.peak_mib)


async def killed(laboratory: Lab) -> None:
    """A bot that dies when all slots are taken."""

    def taken(server: FakeComfyUI) -> bool:
        return server.held.is_set() and server.queue.remaining() == SLOTS

    async with laboratory.running():
        everywhere = laboratory.comfyui
        await laboratory.discord.until(lambda: all(taken(each) for each in everywhere), timeout=60)
        assert laboratory.bot
        laboratory.bot.kill()
        await laboratory.bot.wait()


async def measure() -> Report:
    async with holding() as laboratory:
        empty = await started(laboratory)
    async with holding() as laboratory:
        waiting = WAITING + SERVERS * SLOTS
        guild, discord = laboratory.channel.guild, laboratory.discord
        assert guild
        channels = [discord.add_channel(guild, f"art{n}") for n in range(SERVERS)]
        messages = placeholders(discord, channels, waiting)
        ended = await rows_of(channels, FINISHED, state="posted", told=True, seconds=4.0)
        in_line = await rows_of(channels, waiting, messages)
        await fill(laboratory.folder, itertools.chain(ended, in_line))
        await killed(laboratory)
        full = await started(laboratory, SERVERS)
    after = full.attached - full.ready
    return Report(
        "Restart",
        f"Killed with {WAITING:,} jobs waiting, {SERVERS} running on as many servers and "
        f"{FINISHED:,} in its history, and started again; beside it a start on an empty database.",
        ("database", "hears Discord after s", "all attached s later", "peak MiB"),
        [
            ("empty", empty.ready, "-", empty.peak_mib),
            ("full", full.ready, after, full.peak_mib),
        ],
        [
            Goal(f"{SERVERS} running jobs are attached after s", after, ATTACHED_GOAL),
            Goal("longer than an empty start, s", full.ready - empty.ready, MORE_GOAL),
        ],
    )


if __name__ == "__main__":
    main(measure)
