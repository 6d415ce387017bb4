"""What became of the channel, the message or the member while a job ran."""

import asyncio

import pytest

from bot.delivery import Delivery
from bot.jobs import Job, JobState
from tests.discord.conftest import World
from tests.fakes.discord import Fault, Interaction

EVER = 10**6
EDITS = ("PATCH", "/channels/*/messages/*")
POSTS = ("POST", "/channels/*/messages")
NO_PERMISSION = {"code": 50013, "message": "Missing Permissions"}
ARCHIVED = {"code": 50083, "message": "Thread is archived"}
LOCKED = {"code": 160005, "message": "Thread is locked"}


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No progress is shown, so the first edit of a placeholder is its end."""
    monkeypatch.setattr(Delivery, "show_progress", lambda *_: None)


async def ended(world: World) -> Job:
    """Alice's newest job, told and closed."""
    return await world.until_job(lambda job: not job.open)


async def all_ended(world: World, number: int) -> None:
    async with asyncio.timeout(20):
        while any(job.open for job in await world.bot.store.recent(world.alice.id, number)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def refused(world: World) -> int:
    """Requests that count towards Discord's limit of invalid ones."""
    return sum(each.status in (401, 403, 404) for each in world.discord.requests)


async def shown_again(world: World, job: Job) -> Interaction:
    """What /history gives Alice of this job in another channel."""
    elsewhere = world.discord.add_channel(world.guild, "elsewhere")
    asked = world.discord.slash(world.alice, elsewhere, "history", job=job.short_id)
    return await asked.answered()


async def test_a_result_whose_channel_is_gone_stays_for_history(world: World) -> None:
    await world.running_job()

    world.discord.delete_channel(world.channel)
    world.comfyui.finish()
    job = await ended(world)

    assert len(await world.posted(await shown_again(world, job))) == 1
    assert refused(world) <= 3
    assert len(world.comfyui.executed) == 1


async def test_a_locked_thread_ends_the_job_and_its_result_stays_for_history(world: World) -> None:
    world.discord.faults.append(Fault(*EDITS, status=400, json=ARCHIVED, times=EVER))
    world.discord.faults.append(Fault(*POSTS, status=403, json=LOCKED, times=EVER))
    await world.start()

    await world.generate()
    job = await ended(world)
    world.discord.faults.clear()

    assert len(await world.posted(await shown_again(world, job))) == 1
    assert refused(world) <= 3


async def test_who_lost_the_right_to_attach_files_tells_it_in_words(world: World) -> None:
    world.discord.faults.append(Fault(*EDITS, status=403, json=NO_PERMISSION))
    await world.start()

    interaction = await world.generate()

    text = await world.told(interaction, "does not let the bot post")
    assert "Missing Permissions" in text
    await ended(world)
    assert refused(world) == 1


async def test_a_bot_that_was_thrown_out_stops_asking(world: World) -> None:
    world.comfyui.hold()
    await world.start(limits={"jobs_per_user": 20})
    for number in range(8):
        await world.generate(prompt=f"cat {number}")
    await world.commands_end()

    world.discord.kick(world.guild)
    world.comfyui.finish()

    await world.until(lambda: len(world.comfyui.queue.history) == 8)
    await all_ended(world, 8)
    assert refused(world) <= 3


async def test_a_result_of_somebody_who_left_is_posted_and_pings_nobody(world: World) -> None:
    interaction = await world.running_job()

    del world.discord.users[world.alice.id]
    world.comfyui.finish()

    await world.posted(interaction)
    assert (await ended(world)).state is JobState.POSTED
    assert interaction.message["mentions"] == []
    last = [r for r in world.discord.requests if r.method == "PATCH"][-1]
    assert last.json["allowed_mentions"] == {"parse": []}


async def test_a_result_that_a_moderator_deleted_is_not_posted_again(world: World) -> None:
    world.discord.faults.append(Fault(*POSTS, reset=True, after_commit=True))
    interaction = await world.running_job()
    messages = world.discord.messages[world.channel.id]
    world.discord.delete_message(interaction.message)
    held = world.discord.hold(*POSTS)
    world.comfyui.finish()
    await held.reached()

    world.discord.delete_message(messages[-1])
    held.release()

    assert (await ended(world)).state is JobState.POSTED
    assert messages == []
    assert len(world.comfyui.executed) == 1
    assert sum(r.method == "POST" and "/messages" in r.path for r in world.discord.requests) == 2
