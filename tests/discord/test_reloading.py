"""config.yaml changes while the bot works."""

import json
import logging
import os
from typing import Any

import pytest

from bot import reloading
from bot.jobs import JobState
from comfy.standin import Pace
from tests.discord.conftest import World
from tests.fakes.comfyui import FakeComfyUI


@pytest.fixture(autouse=True)
def looked_at_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "_EVERY", 0.05)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "bot.reloading")
    return caplog


def write(world: World, **settings: Any) -> None:
    """config.yaml anew: what `World.config` makes, with *settings*."""
    config = world.config().model_dump(mode="json", exclude_none=True) | settings
    part = world.folder / "config.part"
    part.write_text(json.dumps(config))
    os.replace(part, world.folder / "config.yaml")


def at(comfyui: FakeComfyUI, name: str) -> dict[str, str]:
    return {"name": name, "url": comfyui.url}


async def told(world: World, log: pytest.LogCaptureFixture, words: str) -> None:
    await world.until(lambda: words in log.text)


async def test_a_new_server_takes_jobs(world: World, log: pytest.LogCaptureFixture) -> None:
    write(world)
    world.comfyui.hold()
    await world.start()
    async with FakeComfyUI(pace=Pace(0, 0)) as other:
        write(world, servers=[at(world.comfyui, "local"), at(other, "new")])
        await world.until(lambda: "new" in world.bot.servers and world.bot.servers["new"].up)

        asked = [await world.generate(prompt=f"cat {number}") for number in range(3)]
        await world.until(lambda: other.executed)
        world.comfyui.finish()
        for each in asked:
            await world.posted(each)

    assert "changed: servers" in log.text


async def test_a_server_that_is_removed_ends_what_it_has(
    world: World, log: pytest.LogCaptureFixture
) -> None:
    async with FakeComfyUI(pace=Pace(0, 0)) as other:
        servers = [at(world.comfyui, "local"), at(other, "other")]
        write(world, servers=servers)
        world.comfyui.hold()
        await world.start(servers=servers)
        asked = [await world.generate(prompt=f"cat {number}") for number in range(4)]
        await world.until(world.comfyui.held.is_set)

        write(world, servers=servers[1:])
        await told(world, log, "server local gets no new jobs")
        world.comfyui.finish()
        for each in asked:
            await world.posted(each)

        await world.until(lambda: list(world.bot.servers) == ["other"])
        await world.posted(await world.generate())
        await world.jobs_end()
    jobs = await world.bot.store.recent(world.alice.id, 9)
    assert {each.state for each in jobs} == {JobState.POSTED}
    assert jobs[0].server == "other"


async def test_a_mistake_changes_nothing(world: World, log: pytest.LogCaptureFixture) -> None:
    write(world)
    await world.start()
    before = world.bot.config

    write(world, limits={"jobs_per_user": "many"})

    await told(world, log, "nothing was changed, as config.yaml holds a mistake: ")
    assert "`limits.jobs_per_user`: takes a whole number" in log.text
    assert world.bot.config is before
    await world.posted(await world.generate())


async def test_new_limits_count_at_once(world: World, log: pytest.LogCaptureFixture) -> None:
    write(world)
    world.comfyui.hold()
    await world.start()
    await world.generate()

    write(world, limits={"jobs_per_user": 1})
    await told(world, log, "changed: limits")
    refused = await world.generate()

    assert "1 is the most" in str(refused.message)


async def test_what_counts_from_the_next_start_on_is_said(
    world: World, log: pytest.LogCaptureFixture
) -> None:
    write(world)
    await world.start()

    write(world, database="sqlite:///elsewhere.db", workflows="elsewhere")

    await told(world, log, "`database`, `workflows` counts from the next start on")
    await world.posted(await world.generate())


async def test_a_server_that_moved_is_found_at_its_new_address(world: World) -> None:
    async with FakeComfyUI(pace=Pace(0, 0)) as other:
        write(world)
        await world.start()

        write(world, servers=[at(other, "local")])
        await world.until(lambda: other.sockets)
        await world.posted(await world.generate())

        assert other.executed
        assert not world.comfyui.executed


async def test_under_load_nothing_is_lost(world: World, log: pytest.LogCaptureFixture) -> None:
    """A mistake, a new server and a removed one while fifteen jobs of five people wait and run."""
    people = [world.discord.add_user(f"person{number}") for number in range(5)]
    limits = {"jobs_per_user": 6}
    async with FakeComfyUI(pace=Pace(0, 0)) as other:
        both = [at(world.comfyui, "local"), at(other, "new")]
        write(world, limits=limits)
        world.comfyui.hold()
        await world.start(limits=limits)
        asked = [
            await world.discord.slash(
                person, world.channel, "generate", workflow="postcard", prompt=f"cat {number}"
            ).answered()
            for number in range(3)
            for person in people
        ]
        await world.until(world.comfyui.held.is_set)

        write(world, limits=limits, servers=[{"name": "new"}])
        await told(world, log, "nothing was changed, as config.yaml holds a mistake")
        write(world, limits=limits, servers=both)
        await world.until(lambda: other.executed)
        write(world, limits=limits, servers=both[1:])
        await told(world, log, "server local gets no new jobs")
        world.comfyui.finish()

        for each in asked:
            await world.posted(each)
        await world.until(lambda: list(world.bot.servers) == ["new"])
        executed = [*world.comfyui.executed, *other.executed]
    assert len(executed) == len(set(executed)) == len(asked) == 15
