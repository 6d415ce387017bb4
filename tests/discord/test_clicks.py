"""Clicks on the wire: at once, on slow ground, and on what just ends."""

import pytest

from bot.jobs import JobState
from tests.discord.conftest import World


@pytest.mark.parametrize("people", [1, 2])
async def test_clicks_at_once_make_a_job_for_each_person(world: World, people: int) -> None:
    await world.start()
    interaction = await world.generate()
    await world.posted(interaction)
    await world.jobs_end()
    (job,) = await world.bot.store.recent(world.alice.id, 1)
    who = [world.alice, world.mod][:people]

    clicks = [
        world.discord.click(each, interaction.message, f"job:{job.id}:again")
        for each in who
        for _ in range(2)
    ]
    for each in clicks:
        await each.answered()
    await world.jobs_end()

    new = [each for each in clicks if each.callback == 4]
    assert len(new) == people
    for each in new:
        await world.posted(each)
    assert len(world.comfyui.queue.history) == 1 + people
    assert len(await world.bot.store.recent(world.alice.id, 9)) == 2
    assert len(await world.bot.store.recent(world.mod.id, 9)) == people - 1


async def test_delete_finds_later_messages_in_a_busy_channel(world: World) -> None:
    sidecar = world.folder / "workflows/postcard.yaml"
    sidecar.write_text(sidecar.read_text().replace("max: 4\n", "max: 12\n"))
    world.comfyui.hold()
    await world.start()
    interaction = await world.generate(batch=12, width=256, height=256)
    alice = world.discord.user_payload(world.alice.id)
    for number in range(60):
        world.discord.store.create(world.channel.id, alice, {"content": f"hi {number}"}, {})
    world.comfyui.finish()
    await world.posted(interaction)
    job = await world.until_job(lambda job: job.told)
    assert job.state is JobState.POSTED
    assert len(world.discord.messages[world.channel.id]) == 62

    click = world.discord.click(world.alice, interaction.message, f"job:{job.id}:delete")
    await click.answered()

    await world.discord.until(
        lambda: len(world.discord.messages[world.channel.id]) == 60, timeout=4
    )


async def test_a_slow_picture_does_not_break_vary(world: World) -> None:
    await world.start()
    interaction = await world.generate(workflow="txt2img")
    await world.posted(interaction)
    job = await world.until_job(lambda job: job.told)
    question = world.discord.click(world.alice, interaction.message, f"job:{job.id}:vary")
    await question.answered()
    held = world.discord.hold("GET", "/attachments/*")

    click = world.discord.click(world.alice, question.message, f"job:{job.id}:vary:weak")
    await held.reached()
    try:
        await click.answered(timeout=2.5)  # Discord waits three seconds
    finally:
        held.release()


async def test_what_just_ends_is_deleted_a_moment_later(world: World) -> None:
    world.comfyui.hold()
    await world.start()
    interaction = await world.generate()
    await world.until_job(lambda job: job.state is JobState.RUNNING)
    held = world.discord.hold("PATCH", "/channels/*")
    world.comfyui.finish()
    await world.until_job(lambda job: job.state is JobState.EXECUTED)
    await held.reached()
    question = world.discord.slash(world.alice, world.channel, "privacy delete")
    await question.answered()
    await world.discord.click(
        world.alice, question.message, f"privacy:{world.alice.id}:delete"
    ).answered()
    await world.told(question, "Jobs that just end go a moment later.")

    held.release()
    await world.posted(interaction)
    await world.jobs_end()

    assert await world.bot.store.everything_of(world.alice.id) == []
