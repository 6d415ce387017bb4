"""The bot itself is away, blocked or without its disk for a while, or its clock jumps."""

import asyncio
import shutil
import sqlite3
import time
from contextlib import closing
from datetime import datetime, timedelta, tzinfo
from importlib import import_module
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import sqlalchemy as sa

from bot import runner
from bot.jobs import JobState
from bot.tables import jobs, tokens
from tests.discord.conftest import World, text_of
from tests.fakes.discord import Interaction

DAY = 25 * 3600.0  # and an hour, in seconds
CLOCKS = ("answers", "execution", "line", "requests", "runner", "spool", "store")


async def finished(world: World, interaction: Interaction) -> None:
    """The result is there once, and ran once."""
    await world.posted(interaction)
    assert (await world.until_job(lambda job: not job.open)).state is JobState.POSTED
    assert len(world.comfyui.executed) == 1


async def aged(world: World, seconds: float) -> None:
    """Everything that is stored was stored so long ago."""
    moments = {name: jobs.c[name] - seconds for name in ("created_at", "submitted_at")}
    await world.bot.store._write(sa.update(jobs).values(**moments))
    await world.bot.store._write(sa.update(tokens).values(at=tokens.c.at - seconds))


# Away


async def test_what_ran_while_the_bot_was_away_for_a_day_is_posted(world: World) -> None:
    interaction = await world.running_job()
    await world.commands_end()
    await aged(world, DAY)
    world.discord.expire_tokens()
    await world.stop()
    world.comfyui.finish()
    await world.until(lambda: world.comfyui.queue.history)

    await world.start()

    await finished(world, interaction)


async def test_a_private_result_of_a_time_when_the_bot_was_away_can_be_fetched(
    world: World,
) -> None:
    world.comfyui.hold()
    await world.start()
    interaction = await world.generate(private=True)
    job = await world.until_job(lambda job: job.state is JobState.RUNNING)
    await world.commands_end()
    await aged(world, 3600)
    world.discord.expire_tokens()
    await world.stop()
    world.comfyui.finish()
    await world.start()
    await world.until_job(lambda job: job.state is JobState.EXECUTED)

    # the only button that the message still has
    click = world.discord.click(world.alice, interaction.message, f"job:{job.id}:cancel")

    assert len(await world.posted(await click.answered())) == 1
    assert click.ephemeral


# Clocks


@pytest.mark.parametrize("hours", [1, -1], ids=["ahead", "back"])
async def test_a_clock_that_jumps_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    class Jumped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(hours=hours)

    interaction = await world.running_job()
    private = await world.generate(private=True)
    await world.until_job(lambda job: job.state is JobState.QUEUED)
    await world.commands_end()

    for name in CLOCKS:
        monkeypatch.setattr(import_module(f"bot.{name}"), "datetime", Jumped, raising=False)
    world.comfyui.finish()

    for each in (interaction, private):
        await world.posted(each)
    assert (await world.until_job(lambda job: not job.open)).attempt == 1
    assert len(world.comfyui.executed) == 2


# The database


async def test_a_database_that_another_program_locks_delays_a_command(world: World) -> None:
    await world.start()
    database = world.folder / "data" / "test.db"
    with closing(sqlite3.connect(database, check_same_thread=False)) as other:
        # in a thread: the bot may be about to commit, and needs the loop for that
        await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
        asked = world.discord.slash(
            world.alice, world.channel, "generate", workflow="postcard", prompt="hi"
        )
        status = world.discord.slash(world.alice, world.channel, "status")
        await status.answered()  # what only reads goes on
        assert asked.acked_at is None
        other.rollback()

    await finished(world, await asked.answered())


async def test_a_database_that_stays_locked_is_told_in_time_and_leaves_no_job(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.acceptance._STORED_WITHIN", 0.2)
    monkeypatch.setattr(runner, "_IDLE", 0.1)
    monkeypatch.setattr(runner, "_UNANSWERED", 0.1)
    await world.start()
    database = world.folder / "data" / "test.db"
    with closing(sqlite3.connect(database, check_same_thread=False)) as other:
        # in a thread: the bot may be about to commit, and needs the loop for that
        await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
        refused = await world.generate()
        assert "Try again in a minute" in text_of(refused.message)
        other.rollback()

    await world.posted(await world.generate())
    async with asyncio.timeout(20):
        while await world.bot.store.unacknowledged():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert len(await world.bot.store.recent(world.alice.id, 5)) == 1
    assert len(world.comfyui.executed) == 1


# The disk, and the event loop


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a device that is always full")
async def test_a_disk_without_room_for_a_picture_delays_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, tries = Path.open, 0

    def full(path: Path, mode: str = "r", **options: Any) -> Any:
        nonlocal tries
        if "spool" not in path.parent.parent.name or mode != "wb":
            return opened(path, mode, **options)
        tries += 1
        return opened(FULL if tries < 3 else path, mode, **options)

    monkeypatch.setattr(Path, "open", full)
    await world.start()

    interaction = await world.generate()

    await finished(world, interaction)
    assert tries == 3


async def test_who_has_no_room_left_takes_no_more_commands(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.start()
    nearly_full = shutil.disk_usage(world.folder)._replace(free=10 * 2**20)
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda _: nearly_full)
        refused = await world.generate()
        await world.told(refused, "disk")
        assert await world.bot.store.recent(world.alice.id, 1) == []

    await finished(world, await world.generate())


async def test_what_blocks_the_bot_is_written_into_the_log(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("bot.watchdog._ALLOWED", 0.1)
    interaction = await world.running_job()

    def hog() -> None:
        time.sleep(0.6)

    asyncio.get_running_loop().call_soon(hog)
    await world.until(lambda: "in hog" in caplog.text)
    world.comfyui.finish()

    await finished(world, interaction)


# Others at the same ComfyUI


async def test_prompts_of_other_programs_take_none_of_our_slots_and_go_on(world: World) -> None:
    world.comfyui.hold()
    await world.start()
    ours = await world.generate()
    await world.until_job(lambda job: job.state is JobState.RUNNING)
    graph = world.comfyui.queue.running.graph  # type: ignore[union-attr]
    async with aiohttp.ClientSession() as session:
        for _ in range(3):
            await session.post(f"{world.comfyui.url}/prompt", json={"prompt": graph})

    second = await world.generate(prompt="another")
    await world.until_job(lambda job: job.state is JobState.QUEUED)
    world.comfyui.finish()

    await world.posted(ours)
    await world.posted(second)
    assert len(world.comfyui.executed) == 5
