"""The bot is told to stop while everything is under way: it goes soon, and loses nothing."""

import asyncio
import contextlib
import json
import shutil
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from comfy.standin import Pace
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.discord import FakeDiscord, Interaction
from tests.fakes.discord_faults import Hold
from tests.fakes.proxy import Proxy
from tests.process.forked import Forked, comfycord
from tests.process.test_process import ROOT, TOKEN, Lab

SOON = 10.0  # seconds; then `docker stop` kills
SLOTS = 2
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b49444154789c6364f8"
    "5f0f0002870180eb47ba920000000049454e44ae426082"
)
TERM, INT = signal.SIGTERM, signal.SIGINT


class SlowToTake(FakeComfyUI):
    """Keeps an upload waiting until it may `take`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.uploading, self.take = asyncio.Event(), asyncio.Event()

    async def answer(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path == "/upload/image":
            self.uploading.set()
            await self.take.wait()
            if request.transport is None:  # nobody is there any more
                return web.Response(status=400)
        return await super().answer(request, handler)


class Crowd:
    """A bot with several servers, of which the last one is reached through a proxy, as Discord is
    by its *way*."""

    def __init__(self, lab: Lab, servers: list[SlowToTake], proxy: Proxy, way: Proxy) -> None:
        self.lab, self.servers, self.proxy, self.way = lab, servers, proxy, way
        self.asked: list[Interaction] = []

    async def start(self) -> Forked:
        urls = [each.url for each in self.servers[:-1]] + [self.proxy.url]
        settings = {
            "servers": [{"name": f"s{number}", "url": url} for number, url in enumerate(urls)],
            "limits": {"jobs_per_user": 1000},
        }
        (self.lab.folder / "config.yaml").write_text(json.dumps(settings))
        environment = {
            "DISCORD_TOKEN": TOKEN,
            "COMFYCORD_DISCORD_API": self.way.url,
        }
        (self.lab.folder / "log").write_bytes(b"")
        bot = comfycord(self.lab.folder, environment, log=self.lab.folder / "log")
        await self.lab.discord.ready(timeout=30)
        await self.until(lambda: all(each.sockets for each in self.servers))
        return bot

    async def ask(self, **options: Any) -> Interaction:
        asked = {"workflow": "postcard", "prompt": f"cat {len(self.asked)}"} | options
        lab = self.lab
        interaction = lab.discord.slash(lab.alice, lab.channel, "generate", **asked)
        self.asked.append(await interaction.answered(20))
        return interaction

    async def under_way(self, waiting: int) -> None:
        """A result that Discord has and did not confirm, an upload, all slots taken that are worth
        it, a line, and an answer to a command that is not confirmed either.

        The second slot beside the upload stays free: the postcards are expected to be done sooner
        elsewhere.
        """
        for each in self.servers[1:]:
            each.hold()
        held = await self.posting(await self.ask())
        self.servers[0].hold()
        await self.ask(workflow="img2img", image=("a.png", PNG))
        await asyncio.wait_for(self.servers[0].uploading.wait(), 20)
        on_servers = SLOTS * len(self.servers) - 2
        for _ in range(on_servers + waiting):
            await self.ask()
        await self.until(lambda: sum(map(prompts_in, self.servers)) == on_servers)
        self.lab.discord.hold("POST", "/interactions/*")
        await self.ask()
        assert self.states() == {**self.states(), "executed": 1, "pending": waiting + 1}
        assert not held.requests[0].done_at
        self.proxy.freeze()

    async def posting(self, interaction: Interaction) -> Hold:
        """Of its result: what was held before was an edit of its progress."""
        discord = self.lab.discord
        while True:
            held = discord.hold("PATCH", "/channels/*/messages/*")
            for each in discord.holds[:-1]:
                each.release()
            await held.reached()
            if self.lab.files(interaction.message):
                return held

    def go_on(self) -> None:
        self.proxy.heal()
        self.way.heal()
        for each in self.lab.discord.holds:
            each.release()
        for each in self.servers:
            each.take.set()
            each.finish()

    async def everything_ends(self) -> None:
        """Every answer became its result, once, of one run."""
        discord, lab = self.lab.discord, self.lab
        await discord.until(lambda: all(lab.files(each.message) for each in self.asked), 60)
        await self.until(lambda: self.states() == {"posted": len(self.asked)})
        assert [len(lab.files(each.message)) for each in self.asked] == [1] * len(self.asked)
        assert len(discord.messages[lab.channel.id]) == len(self.asked)
        assert sum(len(each.executed) for each in self.servers) == len(self.asked)

    def states(self) -> dict[str, int]:
        with contextlib.closing(self.database()) as connection:
            return dict(connection.execute("select state, count(*) from jobs group by state"))

    def database(self, **options: Any) -> sqlite3.Connection:
        return sqlite3.connect(self.lab.folder / "data/comfycord.db", timeout=20, **options)

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.05)


def prompts_in(server: FakeComfyUI) -> int:
    return len(server.queue.pending()) + (server.queue.running is not None)


@asynccontextmanager
async def crowd_in(folder: Path, servers: int) -> AsyncIterator[Crowd]:
    async with AsyncExitStack() as stack:
        opened = stack.enter_async_context
        fakes = [await opened(SlowToTake(pace=Pace(0, 0, previews=False))) for _ in range(servers)]
        for each in fakes:
            each.picture = PNG
        proxy = await opened(Proxy(fakes[-1].url))
        shutil.copytree(ROOT / "workflows", folder / "workflows")
        discord = await opened(FakeDiscord(token=TOKEN))
        way = await opened(Proxy(discord.url))
        yield Crowd(Lab(discord, fakes[0], folder), fakes, proxy, way)


async def stopped(bot: Forked, *signals: signal.Signals) -> tuple[int, float]:
    """The exit code, and after how many seconds it came."""
    began = time.monotonic()
    for each in signals:
        bot.send_signal(each)
        await asyncio.sleep(0.05)  # a person's patience
    try:
        code = await asyncio.wait_for(bot.wait(), 60)
    except TimeoutError:
        bot.kill()
        raise
    return code, time.monotonic() - began


@pytest.mark.parametrize(
    ("servers", "waiting", "signals", "codes"),
    [
        pytest.param(2, 5, [TERM], {0}, id="SIGTERM"),
        pytest.param(10, 100, [TERM], {0}, id="SIGTERM-20-at-work", marks=pytest.mark.chaos),
        pytest.param(2, 5, [INT], {130}, id="SIGINT", marks=pytest.mark.chaos),
        # The second one may come when all is closed and Python itself ends.
        pytest.param(2, 5, [TERM, TERM], {0, -TERM}, id="SIGTERM-twice", marks=pytest.mark.chaos),
        pytest.param(2, 5, [INT, INT], {130, -INT}, id="SIGINT-twice", marks=pytest.mark.chaos),
    ],
)
async def test_who_is_told_to_stop_under_load_goes_soon_and_loses_nothing(
    tmp_path: Path, servers: int, waiting: int, signals: list[signal.Signals], codes: set[int]
) -> None:
    async with crowd_in(tmp_path, servers) as crowd:
        bot = await crowd.start()
        await crowd.under_way(waiting)

        code, seconds = await stopped(bot, *signals)
        crowd.go_on()
        again = await crowd.start()

        await crowd.everything_ends()
        assert (await stopped(again, TERM))[0] == 0
        assert code in codes
        assert seconds < SOON


@pytest.mark.chaos
async def test_a_database_that_another_program_holds_delays_no_stop(tmp_path: Path) -> None:
    async with crowd_in(tmp_path, 2) as crowd:
        bot = await crowd.start()
        await crowd.under_way(5)
        with contextlib.closing(crowd.database(isolation_level=None)) as other:
            other.execute("begin immediate")
            crowd.go_on()
            await crowd.until(lambda: prompts_in(crowd.servers[0]) == 0)

            code, seconds = await stopped(bot, TERM, TERM)

        again = await crowd.start()
        await crowd.everything_ends()
        assert (await stopped(again, TERM))[0] == 0
        assert code in {0, -TERM}
        assert seconds < SOON


@pytest.mark.chaos
async def test_a_discord_that_falls_silent_delays_no_stop(tmp_path: Path) -> None:
    async with crowd_in(tmp_path, 2) as crowd:
        bot = await crowd.start()
        await crowd.under_way(5)
        crowd.way.freeze()

        code, seconds = await stopped(bot, TERM)
        crowd.go_on()
        again = await crowd.start()

        await crowd.everything_ends()
        assert (await stopped(again, TERM))[0] == 0
        assert code == 0
        assert seconds < SOON


@pytest.mark.chaos
async def test_a_stop_under_load_leaves_no_traceback_in_the_log(tmp_path: Path) -> None:
    async with crowd_in(tmp_path, 2) as crowd:
        bot = await crowd.start()
        await crowd.under_way(5)

        await stopped(bot, TERM)

        assert "Traceback" not in (tmp_path / "log").read_text()
