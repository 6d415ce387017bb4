"""What a monitor costs, and how long it waits for /metrics while the bot works.

    uv run python -m benchmarks.watching

Ten thousand jobs wait, two servers run them one after the other as quickly as they can, and a
monitor reads /metrics ten times a second: 150 times as often as a Prometheus usually does. Beside
it stands a server that only sends the same bytes.
"""

import asyncio
import statistics
import time

import aiohttp
from aiohttp import web

from benchmarks.lab import lab, used
from benchmarks.report import Goal, Report, main
from benchmarks.waiting import fill, placeholders, rows_of
from comfy.standin import Pace
from tests.discord.http_face import free_port
from tests.fakes.comfyui import FakeComfyUI

WAITING = 10_000
TIMES = 80
EVERY = 0.1  # seconds
GOAL = 20.0  # ms


async def measure() -> Report:
    comfyui = [FakeComfyUI(pace=Pace(0.05, 0)) for _ in range(2)]
    async with lab(comfyui) as here, aiohttp.ClientSession() as session:
        guild = here.channel.guild
        assert guild
        channels = [here.discord.add_channel(guild, f"art{n}") for n in range(20)]
        messages = placeholders(here.discord, channels, WAITING)
        await fill(here.folder, await rows_of(channels, WAITING, messages, steps=1))
        port = free_port()
        async with here.running(http={"port": port}):
            assert here.bot is not None
            await here.discord.until(lambda: all(each.executed for each in comfyui), timeout=30)
            before, began = used(here.bot.pid).cpu_seconds, time.monotonic()
            took, page = await read(session, f"http://127.0.0.1:{port}/metrics")
            alive, _ = await read(session, f"http://127.0.0.1:{port}/healthz")
            busy = (used(here.bot.pid).cpu_seconds - before) / (time.monotonic() - began)
            jobs = sum(len(each.executed) for each in comfyui)
        bare, _ = await read_from_bare(session, page)
    rows = [
        row("/metrics under load", took),
        row("/healthz under load", alive),
        row("a server that only sends the bytes of /metrics", bare),
    ]
    return Report(
        "What a monitor waits for",
        f"`/metrics` read {TIMES} times, {EVERY} s apart, with {WAITING:,} jobs waiting and "
        f"{jobs} run meanwhile; the bot used {100 * busy:.0f} % of a core. The page has "
        f"{len(page) / 1024:.1f} KiB.",
        ("", "median ms", "p99 ms", "longest ms"),
        rows,
        [
            Goal("milliseconds for /metrics under load, median", statistics.median(took), GOAL),
            Goal("milliseconds for /metrics under load, p99", _p99(took), GOAL),
        ],
    )


async def read(session: aiohttp.ClientSession, url: str) -> tuple[list[float], bytes]:
    took, page = list[float](), b""
    for _ in range(TIMES):
        await asyncio.sleep(EVERY)
        began = time.perf_counter()
        async with session.get(url) as answer:
            page = await answer.read()
        assert answer.status == 200
        took.append((time.perf_counter() - began) * 1000)
    return took, page


async def read_from_bare(session: aiohttp.ClientSession, page: bytes) -> tuple[list[float], bytes]:
    async def send(request: web.Request) -> web.Response:
        return web.Response(body=page)

    app = web.Application()
    app.router.add_get("/", send)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        return await read(session, f"http://127.0.0.1:{port}/")
    finally:
        await runner.cleanup()


def row(name: str, took: list[float]) -> tuple[str | float, ...]:
    return name, statistics.median(took), _p99(took), max(took)


def _p99(took: list[float]) -> float:
    return sorted(took)[int(0.99 * (len(took) - 1))]


if __name__ == "__main__":
    main(measure)
