"""What breaks between the bot, ComfyUI and Discord, and that each job still ends once."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from bot.delivery import Delivery
from bot.execution import Execution
from bot.jobs import JobState
from bot.tables import jobs
from comfy.standin import Pace
from tests.discord.conftest import World, text_of
from tests.fakes.discord import Fault, Interaction

PATCHES = ("PATCH", "/channels/*/messages/*")


async def finished(world: World, interaction: Interaction) -> None:
    """The placeholder became the result, the job is closed, and it ran once."""
    await world.posted(interaction)
    await world.jobs_end()
    assert len(world.comfyui.executed) == 1
    assert len(world.discord.messages[world.channel.id]) == 1


async def test_the_socket_drops_while_a_job_runs(world: World) -> None:
    interaction = await world.running_job()

    world.comfyui.drop()
    world.comfyui.finish()

    await finished(world, interaction)


async def test_the_socket_stays_open_and_falls_silent(world: World) -> None:
    interaction = await world.running_job()

    world.comfyui.deafen()
    world.comfyui.finish()

    await finished(world, interaction)


async def test_the_answer_to_a_prompt_is_lost(world: World) -> None:
    world.comfyui.lose_answer()
    await world.start()

    interaction = await world.generate()

    await finished(world, interaction)


async def test_comfyui_restarts_and_forgets_everything(world: World) -> None:
    interaction = await world.running_job()

    world.comfyui.forget()
    world.comfyui.drop()
    world.comfyui.finish()

    await world.posted(interaction)
    assert len(world.comfyui.executed) == 2


async def test_a_server_that_loses_a_job_every_time_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.execution._ATTEMPTS", 1)
    interaction = await world.running_job()

    world.comfyui.forget()
    world.comfyui.drop()

    assert "lost this job" in await world.told(interaction, "It did not work.")


async def test_somebody_interrupts_the_job_and_it_runs_once_more(world: World) -> None:
    interaction = await world.running_job()

    world.comfyui.interrupt()
    world.comfyui.finish()

    await world.posted(interaction)
    assert len(world.comfyui.executed) == 2


async def test_comfyui_is_down_when_the_command_comes_and_up_later(world: World) -> None:
    address = world.comfyui.url
    await world.comfyui.close()
    await world.start(up=False)

    interaction = await world.generate()
    assert "No ComfyUI server answers right now" in text_of(interaction.message)
    host, port = address.removeprefix("http://").split(":")
    world.comfyui = type(world.comfyui)(pace=Pace(0, 0))
    await world.comfyui.start(host, int(port))

    await finished(world, interaction)
    await world.comfyui.close()


async def test_a_job_that_outlives_the_token_is_posted(world: World) -> None:
    interaction = await world.running_job()

    world.discord.expire_tokens()
    world.comfyui.finish()

    await finished(world, interaction)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(*PATCHES, status=502, times=2),
        Fault(*PATCHES, status=502, after_commit=True),
        Fault(*PATCHES, reset=True),
        Fault(*PATCHES, reset=True, after_commit=True),
        Fault(*PATCHES, status=429),
    ],
    ids=["502 for a while", "502 after it was done", "reset", "reset after it was done", "429"],
)
async def test_discord_fails_when_the_result_is_posted(world: World, fault: Fault) -> None:
    world.discord.faults.append(fault)
    await world.start()

    interaction = await world.generate()

    await finished(world, interaction)


async def test_a_deleted_placeholder_is_replaced_by_one_new_message(world: World) -> None:
    interaction = await world.running_job()

    world.discord.delete_message(interaction.message)
    world.comfyui.finish()

    messages = world.discord.messages[world.channel.id]
    await world.discord.until(lambda: messages and world.discord.files_of(messages[-1]))
    await world.jobs_end()
    assert len(messages) == 1


async def test_a_new_message_whose_answer_is_lost_is_not_posted_twice(world: World) -> None:
    world.discord.remember = 0  # as if the nonce had been forgotten meanwhile
    world.discord.faults.append(
        Fault("POST", "/channels/*/messages", reset=True, after_commit=True)
    )
    interaction = await world.running_job()

    world.discord.delete_message(interaction.message)
    world.comfyui.finish()

    await world.discord.until(lambda: world.discord.messages[world.channel.id])
    await world.jobs_end()
    assert len(world.discord.messages[world.channel.id]) == 1


async def test_a_channel_that_is_gone_ends_the_job_without_a_storm(world: World) -> None:
    await world.running_job()

    world.discord.delete_channel(world.channel)
    world.comfyui.finish()

    await world.jobs_end()
    refused = [r for r in world.discord.requests if r.status in (403, 404)]
    assert len(refused) <= 3


async def test_automod_that_refuses_the_message_ends_the_job(world: World) -> None:
    blocked = {"code": 200000, "message": "Message was blocked by automatic moderation"}
    world.discord.faults.append(Fault(*PATCHES, status=400, json=blocked, times=100))
    await world.start()

    await world.generate()

    await world.jobs_end()


async def test_a_button_cancels_a_running_job_and_only_that(world: World) -> None:
    first = await world.running_job()
    second = await world.generate(prompt="another")
    await world.told(first, "running on local")
    (job,) = [j for j in await world.bot.store.in_flight() if j.message_id == int(first.message_id)]

    world.discord.click(world.alice, first.message, f"job:{job.id}:cancel")
    await world.told(first, "Cancelled.")
    world.comfyui.finish()

    await world.posted(second)
    assert not world.files(first)


async def test_a_button_cancels_a_waiting_job(world: World) -> None:
    world.comfyui.stop_answering()
    await world.start(up=False)
    interaction = await world.generate()
    job = await world.pending()

    world.discord.click(world.alice, interaction.message, f"job:{job.id}:cancel")

    await world.told(interaction, "Cancelled.")
    await world.jobs_end()


async def test_others_cannot_cancel_but_moderators_can(world: World) -> None:
    world.comfyui.stop_answering()
    await world.start(up=False)
    interaction = await world.generate()
    job = await world.pending()
    ben = world.discord.add_user("ben", permissions=0)

    refused = world.discord.click(ben, interaction.message, f"job:{job.id}:cancel")
    await refused.answered()
    await world.discord.until(lambda: "Only the person" in text_of(refused.message))
    world.discord.click(world.mod, interaction.message, f"job:{job.id}:cancel")

    await world.told(interaction, "Cancelled.")


async def test_a_late_cancel_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Delivery, "show_progress", lambda *_: None)
    monkeypatch.setattr("bot.runner._PATIENCE", (60, 60))
    world.discord.faults.append(Fault(*PATCHES, reset=True))
    await world.start()
    interaction = await world.generate()
    await world.discord.until(lambda: any(r.files for r in world.discord.requests))
    (job,) = await world.bot.store.recent(world.alice.id, 1)

    click = world.discord.click(world.alice, interaction.message, f"job:{job.id}:cancel")
    await click.answered()

    await world.discord.until(lambda: "too late" in text_of(click.message))


async def test_the_same_interaction_twice_makes_one_job(world: World) -> None:
    await world.start()
    interaction = await world.generate()
    await world.posted(interaction)
    (job,) = await world.bot.store.recent(world.alice.id, 5)

    assert not await world.bot.store.add(job.request)


async def test_a_job_of_a_crash_before_its_message_was_known_is_found_in_the_channel(
    world: World,
) -> None:
    world.comfyui.stop_answering()
    await world.start(up=False)
    interaction = await world.generate()
    await world.pending()
    # As it stands between Discord's answer and the row:
    await world.bot.store._write(sa.update(jobs).values(message_id=None))

    await world.stop()
    world.comfyui.answer_again()
    await world.start()

    await world.posted(interaction)


async def test_a_request_that_discord_never_showed_is_dropped(world: World) -> None:
    await world.start()
    await world.posted(await world.generate())
    (job,) = await world.bot.store.recent(world.alice.id, 1)
    ghost = replace(
        job.request, id="0" * 8 + job.id[8:], interaction_id=1, created_at=datetime.now(UTC)
    )
    await world.bot.store.add(ghost)

    await world.stop()
    await world.start()

    await world.posted(await world.generate())
    assert await world.bot.store.get(ghost.id) is None
    assert len(world.comfyui.executed) == 2


async def test_an_answer_that_comes_too_late_leaves_no_job(world: World) -> None:
    unknown = {"code": 10062, "message": "Unknown interaction"}
    world.discord.faults.append(Fault("POST", "/interactions/*", status=404, json=unknown))
    await world.start()

    world.discord.slash(world.alice, world.channel, "generate", workflow="postcard", prompt="hi")

    await world.discord.until(lambda: any(r.status == 404 for r in world.discord.requests))
    await world.commands_end()
    assert await world.bot.store.recent(world.alice.id, 1) == []
    assert world.comfyui.executed == []


async def test_a_bug_costs_one_job_and_not_the_bot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.start()
    with monkeypatch.context() as broken:
        broken.setattr(Execution, "_await_end", lambda *_: 1 / 0)
        first = await world.generate()
        assert "went wrong on our side" in await world.told(first, "It did not work.")

    second = await world.generate()

    await world.posted(second)
    (job, failed) = await world.bot.store.recent(world.alice.id, 2)
    assert failed.state is JobState.FAILED
    assert job.state in (JobState.EXECUTED, JobState.POSTED)
