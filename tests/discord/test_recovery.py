"""A ComfyUI that forgets, dies, hangs or runs out of memory, and what becomes of its jobs."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from bot import execution, runner, servers
from bot.config import ServerSettings
from bot.jobs import JobState
from bot.store import Store
from comfy.standin import Pace
from comfy.standin_store import Place
from tests.discord.conftest import World, text_of
from tests.fakes.comfyui import FakeComfyUI


@pytest.fixture
def quickly_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "_IDLE_QUEUE", 0.6)
    monkeypatch.setattr(execution, "_UNKNOWN_RUN", 0.6)
    monkeypatch.setattr(servers, "_LOOK_EVERY", 0.05)


def two_servers(world: World, other: FakeComfyUI) -> dict[str, Any]:
    both = {"local": world.comfyui, "other": other}
    return {"servers": tuple(ServerSettings(name=n, url=c.url) for n, c in both.items())}


async def restarted(comfyui: FakeComfyUI) -> None:
    comfyui.forget()
    comfyui.drop()


async def test_a_result_that_was_told_of_outlives_the_servers_history(world: World) -> None:
    world.comfyui.hold_after_outputs()
    await world.start()
    interaction = await world.generate()
    await world.until_job(lambda job: job.outputs)

    await restarted(world.comfyui)

    await world.posted(interaction)
    await world.jobs_end()
    assert len(world.comfyui.executed) == 1


async def test_a_picture_is_found_where_it_was_saved(world: World) -> None:
    interaction = await world.running_job()
    job = await world.until_job(lambda job: job.state is JobState.RUNNING)
    await world.stop()
    picture = Place("43_00001_.png", f"comfycord/{job.id}", "output")
    world.comfyui.files[picture] = world.comfyui.paint(job.request.graph, "43", 0)
    await restarted(world.comfyui)

    await world.start()

    await world.posted(interaction)
    await world.jobs_end()
    assert len(world.comfyui.executed) == 1


async def test_half_a_picture_is_made_again(world: World) -> None:
    interaction = await world.running_job()
    job = await world.until_job(lambda job: job.state is JobState.RUNNING)
    await world.stop()
    whole = world.comfyui.paint(job.request.graph, "43", 0)
    half = Place("43_00001_.png", f"comfycord/{job.id}", "output")
    world.comfyui.files[half] = whole[: len(whole) // 2]
    await restarted(world.comfyui)
    world.comfyui.finish()

    await world.start()

    await world.posted(interaction)
    assert len(world.comfyui.executed) == 2


async def test_a_job_under_which_the_server_dies_twice_is_given_up(world: World) -> None:
    interaction = await world.running_job()
    await world.until_job(lambda job: job.state is JobState.RUNNING)
    await restarted(world.comfyui)
    await world.until_job(lambda job: job.deaths == 1 and job.state is JobState.RUNNING)

    await restarted(world.comfyui)

    assert "stopped working twice" in await world.told(interaction, "It did not work.")
    assert len(world.comfyui.executed) == 2


async def test_a_server_that_takes_prompts_and_runs_none_is_put_aside(
    world: World, quickly_stuck: None
) -> None:
    async with FakeComfyUI(pace=Pace(0, 0)) as other:
        world.comfyui.stop_working()
        await world.start(**two_servers(world, other))

        interactions = [await world.generate(prompt=f"cat {number}") for number in range(3)]

        for each in interactions:
            await world.posted(each)
        stuck = world.bot.servers["local"]
        assert not stuck.up
        assert "Restart it" in str(stuck.problem)
        assert len(other.executed) == 3
        assert not world.comfyui.executed


async def test_a_job_taken_back_goes_to_another_server_however_slow_the_database_is(
    world: World, quickly_stuck: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_over = Store.forget_over

    async def slowly(self: Store, job_id: str) -> set[str]:
        await asyncio.sleep(0.5)
        return await forget_over(self, job_id)

    monkeypatch.setattr(Store, "forget_over", slowly)
    async with FakeComfyUI(pace=Pace(0, 0)) as other:
        world.comfyui.stop_working()
        await world.start(**two_servers(world, other))

        interaction = await world.generate()

        await world.posted(interaction)
        assert len(other.executed) == 1


async def test_a_server_that_was_stuck_is_used_again_after_its_restart(
    world: World, quickly_stuck: None
) -> None:
    world.comfyui.stop_working()
    await world.start()
    interaction = await world.generate()
    await world.until(lambda: world.bot.servers["local"].stuck is not None)

    await restarted(world.comfyui)

    await world.posted(interaction)
    assert len(world.comfyui.executed) == 1


async def test_a_run_without_a_sign_of_life_moves_to_another_server(
    world: World, quickly_stuck: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeComfyUI(pace=Pace(0, 0)) as other:
        monkeypatch.setattr(servers, "_LOOK_EVERY", 1.0)
        world.comfyui.hold()
        await world.start(**two_servers(world, other))
        interaction = await world.generate()

        await world.posted(interaction)

        assert len(other.executed) == 1
        await world.until(lambda: world.comfyui.queue.running is None)
        await world.until(lambda: world.bot.servers["local"].up)


async def test_out_of_memory_is_tried_once_where_there_is_more(world: World) -> None:
    async with FakeComfyUI(pace=Pace(0, 0)) as other:
        other.memory = 2 * world.comfyui.memory
        world.comfyui.fail()
        await world.start(**two_servers(world, other))

        interaction = await world.generate()

        await world.posted(interaction)
        assert (len(world.comfyui.executed), len(other.executed)) == (1, 1)


async def test_out_of_memory_is_told_where_no_server_has_more(world: World) -> None:
    async with FakeComfyUI(pace=Pace(0, 0)) as other:
        world.comfyui.fail()
        await world.start(**two_servers(world, other))

        interaction = await world.generate()

        assert "ran out of memory" in await world.told(interaction, "It did not work.")
        assert not other.executed


async def test_the_jobs_of_a_server_that_is_away_go_to_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "_ABSENT", 0.3)
    async with FakeComfyUI(pace=Pace(0, 0)) as other:
        world.comfyui.hold()
        await world.start(**two_servers(world, other))
        interaction = await world.generate()
        await asyncio.wait_for(world.comfyui.held.wait(), 20)

        world.comfyui.refuse()
        world.comfyui.drop()

        await world.posted(interaction)
        world.comfyui.welcome()
        await world.until(lambda: world.comfyui.queue.running is None)
        assert len(other.executed) == 1
        assert not world.bot.servers["local"]._abandoned


async def test_a_request_that_no_server_took_within_a_day_is_told_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.runner._IDLE", 0.1)
    world.comfyui.stop_answering()
    await world.start(up=False)
    interaction = await world.generate()
    await world.pending()

    monkeypatch.setattr(execution, "PATIENCE", timedelta())
    monkeypatch.setattr(runner, "PATIENCE", timedelta())

    assert "within a day" in await world.told(interaction, "It did not work.")
    assert text_of(interaction.message).count("did not work") == 1
