"""Answers that only a token reaches: private ones, and where the bot is no member."""

import asyncio
import contextlib
import gc
import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot import answers
from bot.jobs import JobState
from tests.discord.conftest import World, text_of
from tests.fakes.discord import Channel, Interaction

REFUSED = "Only the person who asked for it can get it."


class Clock:
    """What `Answers` takes for now; moves on only when told."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def pass_minutes(self, minutes: float) -> None:
        self.ahead += timedelta(minutes=minutes)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(answers, "_LOOK_EVERY", 0.05)
    return Clock()


async def started(world: World, clock: Clock) -> None:
    await world.start()
    world.bot.answers._now = clock


async def held_job(world: World, clock: Clock, **options: object) -> Interaction:
    """A private job that ComfyUI holds until `finish`."""
    world.comfyui.hold()
    await started(world, clock)
    interaction = await world.generate(private=True, **options)
    await world.until_job(lambda job: job.state is JobState.RUNNING)
    await world.commands_end()
    return interaction


async def with_button(world: World, clock: Clock, interaction: Interaction) -> str:
    """The answer has become a button, and the token is dead. The button's `custom_id`."""
    clock.pass_minutes(13.5)
    await world.told(interaction, "Get result")
    clock.pass_minutes(2)
    world.discord.expire_tokens()
    (job,) = await world.bot.store.recent(world.alice.id, 1)
    return f"job:{job.id}:collect"


def in_channel(world: World, channel: Channel | None = None) -> list[dict]:
    return world.discord.messages[(channel or world.channel).id]


async def test_a_private_job_is_seen_by_one_person_alone(world: World) -> None:
    await world.start()

    interaction = await world.generate(private=True)
    files = await world.posted(interaction)

    assert len(files) == 1
    assert interaction.ephemeral
    assert "a cat in the snow" in text_of(interaction.message)
    assert "Delete" not in text_of(interaction.message)
    assert in_channel(world) == []
    await world.jobs_end()
    sent = [each for each in world.discord.requests if each.method in ("POST", "PATCH")]
    assert not any("/channels/" in each.path for each in sent)


async def test_a_private_job_of_many_pictures_stays_private(world: World) -> None:
    await world.start()

    interaction = await world.generate(
        workflow="txt2img", private=True, width=256, height=256, batch=4, seed="1"
    )
    await world.posted(interaction)

    assert len(world.files(interaction)) == 4
    assert in_channel(world) == []


async def test_the_failure_of_a_private_job_is_private(world: World) -> None:
    world.comfyui.fail()
    await world.start()

    interaction = await world.generate(private=True)

    assert "ran out of memory" in await world.told(interaction, "It did not work.")
    assert interaction.ephemeral
    assert in_channel(world) == []


async def test_the_cancel_of_a_private_job_is_private(world: World, clock: Clock) -> None:
    interaction = await held_job(world, clock)
    (job,) = await world.bot.store.recent(world.alice.id, 1)

    world.discord.click(world.alice, interaction.message, f"job:{job.id}:cancel")

    await world.told(interaction, "Cancelled.")
    assert in_channel(world) == []


async def test_before_the_token_dies_the_answer_becomes_a_button(
    world: World, clock: Clock
) -> None:
    interaction = await held_job(world, clock)
    clock.pass_minutes(12.5)
    await asyncio.wait_for(looked_twice(world), 20)
    early = text_of(interaction.message)

    clock.pass_minutes(1)
    text = await world.told(interaction, "Get result")

    assert "Get result" not in early
    assert "Still at work." in text
    assert "a cat in the snow" in text


async def looked_twice(world: World) -> None:
    """Until `keep_reachable` has asked the database for tokens twice."""
    looks, ask = asyncio.Queue[None](), world.bot.store.open_by_token

    async def counted() -> list:
        looks.put_nowait(None)
        return await ask()

    world.bot.store.open_by_token = counted  # type: ignore[method-assign]
    for _ in range(2):
        await looks.get()


async def test_a_click_on_the_button_brings_the_result(world: World, clock: Clock) -> None:
    interaction = await held_job(world, clock)
    button = await with_button(world, clock, interaction)
    world.comfyui.finish()

    click = world.discord.click(world.alice, interaction.message, button)
    await click.answered()

    assert len(await world.posted(click)) == 1
    assert click.ephemeral
    assert in_channel(world) == []


async def test_a_result_waits_for_the_click(world: World, clock: Clock) -> None:
    interaction = await held_job(world, clock)
    button = await with_button(world, clock, interaction)
    asked = len(world.discord.requests)
    world.comfyui.finish()
    job = await world.until_job(lambda job: job.state is JobState.EXECUTED)

    click = world.discord.click(world.alice, interaction.message, button)
    await world.posted(await click.answered())

    assert not job.told
    refused = [each for each in world.discord.requests[asked:] if each.status in (401, 404)]
    assert len(refused) <= 2
    assert (await world.until_job(lambda job: job.told)).state is JobState.POSTED


async def test_what_failed_waits_for_the_click_too(world: World, clock: Clock) -> None:
    interaction = await held_job(world, clock)
    button = await with_button(world, clock, interaction)
    world.comfyui.fail()

    click = world.discord.click(world.alice, interaction.message, button)

    await click.answered()
    assert "ran out of memory" in await world.told(click, "It did not work.")
    assert click.ephemeral


async def test_nobody_else_gets_the_result(world: World, clock: Clock) -> None:
    interaction = await held_job(world, clock)
    button = await with_button(world, clock, interaction)

    click = world.discord.click(world.mod, interaction.message, button)
    await click.answered()

    assert text_of(click.message) == REFUSED
    assert click.ephemeral
    world.comfyui.finish()
    mine = world.discord.click(world.alice, interaction.message, button)
    await world.posted(await mine.answered())


async def test_who_has_the_result_is_told_so_at_a_late_click(world: World, clock: Clock) -> None:
    interaction = await held_job(world, clock)
    button = await with_button(world, clock, interaction)
    world.comfyui.finish()
    click = world.discord.click(world.alice, interaction.message, button)
    await world.posted(await click.answered())
    await world.jobs_end()
    world.bot.clock = lambda: 1e9  # a second later

    late = world.discord.click(world.alice, interaction.message, button)
    await late.answered()

    assert text_of(late.message).startswith("You have it already.")


async def test_a_click_after_a_restart_brings_the_result(world: World, clock: Clock) -> None:
    interaction = await held_job(world, clock)
    button = await with_button(world, clock, interaction)
    await world.stop()
    world.comfyui.finish()
    await started(world, clock)

    click = world.discord.click(world.alice, interaction.message, button)
    await world.posted(await click.answered())

    assert click.ephemeral
    assert in_channel(world) == []


async def test_a_renewed_token_is_offered_a_button_again(world: World, clock: Clock) -> None:
    interaction = await held_job(world, clock)
    button = await with_button(world, clock, interaction)
    (job,) = await world.bot.store.recent(world.alice.id, 1)
    click = world.discord.click(world.alice, interaction.message, button)
    await click.answered()
    async with asyncio.timeout(20):
        while (await world.bot.store.token(job.id)).token != click.token:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    clock.pass_minutes(13.5)
    await world.told(click, "Get result")
    clock.pass_minutes(2)
    world.bot.clock = lambda: 1e9  # a second later
    world.comfyui.finish()
    second = world.discord.click(world.alice, click.message, button)

    assert len(await world.posted(await second.answered())) == 1


async def test_the_button_stays_while_the_job_goes_on(world: World, clock: Clock) -> None:
    world.comfyui.pace = type(world.comfyui.pace)(node=0.01, step=0.2)
    await started(world, clock)
    interaction = await world.generate(workflow="txt2img", steps=25, private=True)
    await world.told(interaction, "%")

    clock.pass_minutes(13.5)
    await world.told(interaction, "Get result")
    edits = len(world.discord.requests)
    with contextlib.suppress(TimeoutError):  # there need not be another one
        await world.discord.until(lambda: len(world.discord.requests) > edits, timeout=3)

    assert "Get result" in text_of(interaction.message)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_private_job_that_nobody_comes_for_ends_after_a_day(
    world: World, clock: Clock
) -> None:
    interaction = await held_job(world, clock)
    await with_button(world, clock, interaction)
    clock.pass_minutes(25 * 60)
    world.comfyui.finish()

    job = await world.until_job(lambda job: job.told)

    assert job.state is JobState.FAILED
    gc.collect()  # what is left open is another test's matter


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are seen on Linux only")
async def test_a_result_that_waits_for_a_click_keeps_no_file_open(
    world: World, clock: Clock
) -> None:
    interaction = await held_job(world, clock)
    button = await with_button(world, clock, interaction)
    world.comfyui.finish()
    await world.until_job(lambda job: job.state is JobState.EXECUTED)
    folder = world.bot.config.spool
    await asyncio.wait_for(looked_twice(world), 20)  # time enough to come to the click

    kept = [str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    click = world.discord.click(world.alice, interaction.message, button)
    await world.posted(await click.answered())

    assert not [each for each in kept if each.startswith(str(folder))]


# Where the bot is no member


async def elsewhere(world: World) -> Channel:
    guild = world.discord.add_guild("Elsewhere", installed=False)
    return world.discord.add_channel(guild, "art")


async def test_where_the_bot_is_no_member_it_answers_by_token_for_all(world: World) -> None:
    await world.start()
    channel = await elsewhere(world)

    interaction = world.discord.slash(
        world.alice, channel, "generate", workflow="postcard", prompt="hi"
    )
    await world.posted(await interaction.answered())
    await world.jobs_end()

    assert not interaction.ephemeral
    assert [each["id"] for each in in_channel(world, channel)] == [interaction.message_id]
    asked = [each for each in world.discord.requests if f"/channels/{channel.id}" in each.path]
    assert asked == []


async def test_where_the_bot_is_no_member_only_the_owner_collects(
    world: World, clock: Clock
) -> None:
    world.comfyui.hold()
    await started(world, clock)
    channel = await elsewhere(world)
    interaction = world.discord.slash(
        world.alice, channel, "generate", workflow="postcard", prompt="hi"
    )
    await interaction.answered()
    await world.until_job(lambda job: job.state is JobState.RUNNING)
    await world.commands_end()
    button = await with_button(world, clock, interaction)

    stranger = world.discord.click(world.mod, interaction.message, button)
    await stranger.answered()
    world.comfyui.finish()
    owner = world.discord.click(world.alice, interaction.message, button)
    await world.posted(await owner.answered())

    assert text_of(stranger.message) == REFUSED
    assert not owner.ephemeral


async def test_where_the_bot_is_no_member_the_buttons_work(world: World) -> None:
    await world.start()
    channel = await elsewhere(world)
    asked = {"workflow": "txt2img", "prompt": "hi"}
    interaction = world.discord.slash(world.alice, channel, "generate", **asked)
    await world.posted(await interaction.answered())
    (job,) = await world.bot.store.recent(world.alice.id, 1)
    world.bot.clock = itertools.count(1.0, 5.0).__next__

    again = world.discord.click(world.mod, interaction.message, f"job:{job.id}:again")
    await world.posted(await again.answered())
    asking = world.discord.click(world.mod, interaction.message, f"job:{job.id}:vary")
    await asking.answered()
    vary = world.discord.click(world.mod, asking.message, f"job:{job.id}:vary:weak")
    await world.posted(await vary.answered())

    assert f"variation of {job.short_id}" in text_of(vary.message)


# What is said in direct messages stays there


async def test_history_in_a_direct_message_is_ones_own_alone(world: World) -> None:
    await world.start()
    await world.posted(await world.generate(private=True, prompt="a secret"))
    await world.jobs_end()
    channel = world.discord.dm(world.mod)

    listed = world.discord.slash(world.mod, channel, "history", user=world.alice)
    await listed.answered()

    assert "a secret" not in text_of(listed.message)


async def test_what_was_made_in_a_direct_message_is_shown_to_nobody_else(world: World) -> None:
    await world.start()
    asked = {"workflow": "postcard", "prompt": "a secret"}
    interaction = world.discord.slash(
        world.alice, world.discord.dm(world.alice), "generate", **asked
    )
    await world.posted(await interaction.answered())
    await world.jobs_end()
    (job,) = await world.bot.store.recent(world.alice.id, 1)

    named = world.discord.slash(
        world.mod, world.discord.dm(world.mod), "history", job=job.short_id[:1]
    )
    await named.answered()
    await world.commands_end()

    said = text_of(named.message) + "".join(text_of(each) for each in named.followups)
    assert "a secret" not in said
