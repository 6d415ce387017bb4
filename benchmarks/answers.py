"""How quickly commands are answered while the bot does other things.

    uv run python -m benchmarks.answers

50 members a second ask for a picture, for six seconds in each state of the bot. Measured is the
time from Discord's INTERACTION_CREATE to the arrival of the bot's answer, for which Discord waits
three seconds, and for how long the bot's event loop did one thing.
"""

import asyncio
import gc
import itertools
import json
import os
import signal
import statistics
import struct
import time
import zlib
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.lab import TOKEN, Lab, ended, lab, process, used
from benchmarks.report import Goal, Report, main
from benchmarks.waiting import fill, placeholders, rows_of
from bot import app, config
from comfy.standin import Pace
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.discord import Interaction

PER_SECOND = 50
SECONDS = 6.0
MEMBERS = 25
ACK_GOAL, STALL_GOAL = 300.0, 100.0  # ms
SERVERS = 20
UPLINK = 8 / 3 * 2**20  # bytes a second of each delivery, so that 8 MiB take three seconds
_TICK = 0.005  # seconds


@dataclass(frozen=True, slots=True)
class State:
    """*waiting*: jobs in the database before the bot starts; *servers* hold theirs, unless one
    of the others is set."""

    name: str
    servers: int = 1
    waiting: int = 0
    deliveries: int = 0
    progress: int = 0


STATES = (
    State("idle"),
    State("20 deliveries of 8 MiB", SERVERS, waiting=400, deliveries=20),
    State("10,000 jobs waiting", waiting=10_000),
    State("200 progress events a second", SERVERS, waiting=5 * SERVERS, progress=200),
)


def run_bot() -> None:
    """The bot. At SIGUSR1 it tells for how many ms its loop stood still at most since the last."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            await asyncio.sleep(_TICK)
            longest = max(longest, clock() - began - _TICK)

    def tell() -> None:
        nonlocal longest
        print(longest * 1000, flush=True)
        longest = 0.0

    async def run() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell)
        ticking = asyncio.create_task(tick())
        await app.run(*config.load())
        ticking.cancel()

    asyncio.run(run())


async def longest_stall(bot: Process) -> float:
    assert bot.stdout is not None
    bot.send_signal(signal.SIGUSR1)
    return float(await bot.stdout.readline())


@asynccontextmanager
async def bot_in(laboratory: Lab) -> AsyncIterator[Process]:
    """As `Lab.running`, with the eye on its loop."""
    servers = [{"name": f"s{n}", "url": each.url} for n, each in enumerate(laboratory.comfyui)]
    limits = {"jobs_per_user": 100_000, "queue": 100_000}
    settings = {"servers": servers, "limits": limits}
    (laboratory.folder / "config.yaml").write_text(json.dumps(settings))
    environment = {"DISCORD_TOKEN": TOKEN, "COMFYCORD_DISCORD_API": laboratory.discord.url}
    code = "from benchmarks.answers import run_bot; run_bot()"
    bot = await process("-c", code, folder=laboratory.folder, environment=environment, stdout=PIPE)
    try:
        await laboratory.discord.ready(timeout=60)
        yield bot
    finally:
        await ended(bot)


def picture(size: int) -> bytes:
    """A PNG of *size* bytes, for whoever does not decode it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2048, 2048, 8, 2, 0, 0, 0))
    return head + chunk(b"IDAT", os.urandom(size - len(head) - 24)) + chunk(b"IEND", b"")


def posted(laboratory: Lab) -> int:
    return sum(bool(each.files and each.done_at) for each in laboratory.discord.requests)


async def keep_delivering(laboratory: Lab, at_once: int) -> None:
    """For ever: as one picture is posted, the next job ends."""
    for let, server in enumerate(itertools.cycle(laboratory.comfyui)):
        await laboratory.discord.until(
            lambda let=let: let - posted(laboratory) < at_once,  # type: ignore[misc]
            timeout=60,
        )
        await server.held.wait()
        server.finish()
        server.hold()


async def asked(laboratory: Lab) -> tuple[list[float], int]:
    """Milliseconds that each answer took, and how many of them were "I am busy"."""
    discord, clock = laboratory.discord, asyncio.get_running_loop().time
    members = [discord.add_user(f"member{n}") for n in range(MEMBERS)]
    began, interactions = clock(), list[Interaction]()
    for number in range(int(PER_SECOND * SECONDS)):
        await asyncio.sleep(began + number / PER_SECOND - clock())
        user = members[number % MEMBERS]
        options = {"workflow": "txt2img", "prompt": f"cat {number}"}
        interactions.append(discord.slash(user, laboratory.channel, "generate", **options))
    await discord.until(lambda: all(each.acked_at for each in interactions), timeout=10)
    arrived = {
        int(each.path.split("/")[2]): each.at
        for each in discord.requests
        if each.path.startswith("/interactions/")
    }
    took = [(arrived[each.id] - each.sent_at) * 1000 for each in interactions]
    return took, sum(each.ephemeral for each in interactions)


class Seen(NamedTuple):
    """*took*: milliseconds of each answer; *refused*: how many of them were "I am busy"; *stall*:
    milliseconds; *busy*: percent of one processor that the bot used."""

    took: list[float]
    refused: int
    stall: float
    busy: float


async def measured(state: State) -> Seen:
    step = SERVERS / state.progress if state.progress else 0
    comfyui = [FakeComfyUI(pace=Pace(0, step, previews=False)) for _ in range(state.servers)]
    async with lab(comfyui) as laboratory:
        for each in comfyui:
            each.picture = picture(8 * 2**20 if state.deliveries else 2**10)
            if not state.progress:
                each.hold()
        discord, guild = laboratory.discord, laboratory.channel.guild
        assert guild
        discord.upload_rate = UPLINK
        channels = [discord.add_channel(guild, f"art{n}") for n in range(SERVERS)]
        messages = placeholders(discord, channels, state.waiting)
        await fill(laboratory.folder, await rows_of(channels, state.waiting, messages, steps=60))
        gc.collect()
        gc.freeze()  # this side is not to stand still either
        async with bot_in(laboratory) as bot:
            if state.waiting:
                await discord.until(lambda: all(each.executed for each in comfyui), timeout=30)
            delivering = asyncio.create_task(keep_delivering(laboratory, state.deliveries))
            await discord.until(lambda: posted(laboratory) >= state.deliveries, timeout=30)
            await longest_stall(bot)
            began, before = time.monotonic(), used(bot.pid).cpu_seconds
            took, refused = await asked(laboratory)
            busy = (used(bot.pid).cpu_seconds - before) / (time.monotonic() - began)
            delivering.cancel()
            return Seen(took, refused, await longest_stall(bot), 100 * busy)


async def measure() -> Report:
    rows: list[tuple[str | float, ...]] = []
    goals: list[Goal] = []
    for state in STATES:
        took, refused, stall, busy = await measured(state)
        p99 = statistics.quantiles(took, n=100)[98]
        rows.append((state.name, statistics.median(took), p99, max(took), refused, stall, busy))
        goals.append(Goal(f"{state.name}: p99 of the answers, ms", p99, ACK_GOAL))
        goals.append(Goal(f"{state.name}: longest stall, ms", stall, STALL_GOAL))
    return Report(
        "Answers to commands",
        f"{PER_SECOND} commands a second, each of which makes a job; Discord waits three seconds "
        f"for an answer. The deliveries share a way to Discord of "
        f"{SERVERS * UPLINK * 8 / 10**6:.0f} Mbit/s; the progress is that of {SERVERS} servers.",
        ("while there is", "median ms", "p99 ms", "max ms", "refused", "longest stall ms", "CPU %"),
        rows,
        goals,
    )


if __name__ == "__main__":
    main(measure)
