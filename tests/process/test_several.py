"""Several bots with one PostgreSQL: each serves a shard, all share the queue and the servers."""

import asyncio
import json
import re
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from comfy.standin import Pace
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.discord import Channel, FakeDiscord, Interaction
from tests.fakes.postgres import Postgres
from tests.process.forked import Forked, comfycord

ROOT = Path(__file__).parents[2]
TOKEN = "the.token.of-the-bot"
SHARDS = 2
TAKEN_OVER = 15.0  # seconds
HAVE_SERVERS = "SELECT count(DISTINCT process) FROM servers"


@dataclass
class Lab:
    discord: FakeDiscord
    servers: list[FakeComfyUI]
    postgres: Postgres
    database: str
    folder: Path
    channels: list[Channel]
    bots: dict[int, Forked] = field(default_factory=dict)

    async def start(self, shard: int) -> None:
        environment = {
            "DISCORD_TOKEN": TOKEN,
            "COMFYCORD_DISCORD_API": self.discord.url,
            "DATABASE_URL": self.database,
            "DISCORD_SHARDS": f"{shard}/{SHARDS}",
        }
        log = self.folder / f"{shard}.log"
        self.bots[shard] = comfycord(self.folder, environment, log=log)
        await self.discord.until(lambda: shard in self.connected, timeout=30)

    @property
    def connected(self) -> set[int]:
        sessions = self.discord.gateway.sessions
        return {shard for (shard, _), session in sessions.items() if session.link}

    async def ask(self, shard: int, name: str, **options: Any) -> Interaction:
        asked = {"workflow": "txt2img", "prompt": "a cat", "steps": 5} | options
        alice = self.discord.add_user(name)
        return await self.discord.slash(alice, self.channels[shard], "generate", **asked).answered(
            10
        )

    async def posted(self, *asked: Interaction, within: float = 20.0) -> None:
        def done() -> bool:
            return all(self.files(each) for each in asked)

        await self.discord.until(done, timeout=within)

    def files(self, asked: Interaction) -> dict[str, bytes]:
        return self.discord.files_of(asked.message or {})

    @property
    def executed(self) -> list[str]:
        return [prompt for each in self.servers for prompt in each.executed]

    async def until(self, condition: Callable[[], bool]) -> None:
        """For what happens outside of Discord and so tells no event there."""
        async with asyncio.timeout(60):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def both_work(self) -> None:
        """Until each process has one of the servers."""
        connection = await asyncpg.connect(self.database)
        async with asyncio.timeout(60):
            while await connection.fetchval(HAVE_SERVERS) < SHARDS:  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # a database tells no event
        await connection.close()
        await self.until(lambda: all(each.sockets for each in self.servers))


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    shutil.copytree(ROOT / "workflows", tmp_path / "workflows")
    async with AsyncExitStack() as stack:
        servers = [FakeComfyUI(pace=Pace(0, 0.02)) for _ in range(2)]
        for each in servers:
            await stack.enter_async_context(each)
        told = [f"  - {{name: s{n}, url: '{each.url}'}}" for n, each in enumerate(servers)]
        config = ["servers:", *told, "limits: {jobs_per_user: 100}"]
        (tmp_path / "config.yaml").write_text("\n".join(config))
        discord = await stack.enter_async_context(FakeDiscord(token=TOKEN))
        channels = [channel_on(discord, shard) for shard in range(SHARDS)]
        server = Postgres()
        lab = Lab(discord, servers, server, server.ready_database(), tmp_path, channels)
        yield lab
        for bot in lab.bots.values():
            bot.send_signal(signal.SIGKILL)
            await bot.wait()
        server.close()


def button(asked: Interaction, kind: str) -> str:
    """The id of a button of that kind; "": there is none."""
    found = re.search(rf"job:[\w-]+:{kind}", json.dumps(asked.message))
    return found[0] if found else ""


def channel_on(discord: FakeDiscord, shard: int) -> Channel:
    while True:
        guild = discord.add_guild("Lab")
        if (guild.id >> 22) % SHARDS == shard:
            return discord.add_channel(guild, "art")
        time.sleep(0.001)  # ids are made of milliseconds


async def test_what_is_asked_of_one_is_made_by_all(lab: Lab) -> None:
    await lab.start(0)
    await lab.start(1)
    await lab.both_work()

    asked = [await lab.ask(number % SHARDS, f"u{number}") for number in range(12)]

    await lab.posted(*asked)
    assert sorted(lab.executed) == sorted(set(lab.executed))
    assert len(lab.executed) == 12
    assert all(each.executed for each in lab.servers)


async def test_one_that_is_killed_is_replaced_by_the_other(lab: Lab) -> None:
    await lab.start(0)
    await lab.start(1)
    await lab.both_work()
    for each in lab.servers:
        each.hold()
    asked = [await lab.ask(number % SHARDS, f"u{number}") for number in range(8)]
    for each in lab.servers:
        await asyncio.wait_for(each.held.wait(), 20)

    lab.bots[1].send_signal(signal.SIGKILL)
    for each in lab.servers:
        each.finish()
    began = time.monotonic()

    await lab.posted(*asked, within=TAKEN_OVER + 5)
    assert time.monotonic() - began < TAKEN_OVER
    assert len(lab.executed) == 8


async def test_one_that_ends_hands_its_work_over_at_once(lab: Lab) -> None:
    await lab.start(0)
    await lab.start(1)
    await lab.both_work()
    for each in lab.servers:
        each.hold()
    asked = [await lab.ask(number % SHARDS, f"u{number}") for number in range(8)]

    lab.bots[0].send_signal(signal.SIGTERM)
    assert await lab.bots[0].wait() == 0
    for each in lab.servers:
        each.finish()

    await lab.posted(*asked, within=10)
    assert len(lab.executed) == 8


async def test_a_job_is_cancelled_by_a_process_that_does_not_run_it(lab: Lab) -> None:
    await lab.start(0)
    await lab.start(1)
    await lab.both_work()
    for each in lab.servers:
        each.hold()
    asked = [await lab.ask(0, "alice") for _ in range(2)]
    for each in lab.servers:
        await asyncio.wait_for(each.held.wait(), 20)

    for each in asked:
        assert each.message
        alice = lab.discord.users[int(each.message["interaction_metadata"]["user"]["id"])]
        await lab.discord.click(alice, each.message, button(each, "cancel")).answered(10)

    def stopped() -> bool:
        return all(("POST", "/interrupt") in each.requests for each in lab.servers)

    await lab.until(stopped)
    for each in lab.servers:
        each.finish()
    await lab.until(lambda: not any(each.queue.running for each in lab.servers))
    assert not any(lab.files(each) for each in asked)


async def test_a_database_that_is_restarted_under_load_loses_nothing(lab: Lab) -> None:
    await lab.start(0)
    await lab.start(1)
    await lab.both_work()
    asked = [await lab.ask(number % SHARDS, f"u{number}", steps=40) for number in range(8)]
    await lab.until(lambda: len(lab.executed) >= 2)

    await asyncio.to_thread(lab.postgres.stop)
    refused = await lab.ask(0, "unlucky")
    await asyncio.to_thread(lab.postgres.start)

    await lab.posted(*asked, within=40)
    assert not button(refused, "cancel")
    await lab.posted(await lab.ask(0, "lucky"), await lab.ask(1, "lucky"))
    assert len(lab.executed) == len(set(lab.executed)) == 10
