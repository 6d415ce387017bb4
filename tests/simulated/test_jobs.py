"""/queue, /history and /cancel: what people learn of jobs, and what they do not."""

import asyncio
import sys
from typing import Any

import discord
import pytest

from bot.jobs import JobState
from tests.fakes.comfyui import FakeComfyUI
from tests.simulated.lab import Lab, opened, until, words

NOTHING = "There is nothing like that. Leave out an option to find more."


async def waiting(lab: Lab, who: Any, number: int = 1, prompt: str = "a cat") -> None:
    for _ in range(number):
        await lab.ask(who, "generate", workflow="postcard", prompt=prompt)
    await lab.acknowledged()


async def made(lab: Lab, who: Any, prompt: str, *, at: Any = None, **options: Any) -> Any:
    """A finished job of anybody's; its answer."""
    before = len(await lab.bot.store.recent(who.id, 50))
    named = {"workflow": "postcard"} | options
    answer = await lab.ask(who, "generate", at=at, prompt=prompt, **named)
    await lab.ended(who, before + 1)
    return answer


# /queue


async def test_the_queue_tells_what_runs_what_waits_and_whose(
    lab: Lab, comfyui: FakeComfyUI
) -> None:
    free = await lab.told(lab.alice, "queue")
    comfyui.hold()
    await waiting(lab, lab.bob, 2)
    await until(comfyui.held.is_set)
    await waiting(lab, lab.bob)
    await waiting(lab, lab.alice)

    board = await lab.ask(lab.alice, "queue")
    lines = words(board).splitlines()

    assert free.splitlines() == [
        "### Queue",
        "**local** · free",
        "**0 jobs in line**, 0 of them yours",
    ]
    assert board.ephemeral
    assert lines[:2] == ["### Queue", "**local**"]
    assert lines[2].startswith(f"<@{lab.bob.id}> running")
    assert lines[3].startswith(f"<@{lab.bob.id}> pending")
    assert lines[4:] == ["**2 jobs in line**, 1 of them yours", "Your next one is number 1."]


async def test_the_queue_marks_what_is_mine(lab: Lab, comfyui: FakeComfyUI) -> None:
    comfyui.hold()
    await waiting(lab, lab.alice)
    await until(lambda: lab.bot.delivery._live)  # its progress is shown: it runs

    told = await lab.told(lab.alice, "queue")

    assert "**yours** running" in told


async def test_the_queue_never_shows_what_others_asked_for(lab: Lab, comfyui: FakeComfyUI) -> None:
    comfyui.hold()
    await waiting(lab, lab.bob, 4, prompt="a secret garden")
    await until(comfyui.held.is_set)

    assert "secret" not in await lab.told(lab.alice, "queue")


async def test_the_queue_says_that_a_server_is_away(tmp_path: Any) -> None:
    async with opened(tmp_path, "http://127.0.0.1:9", up=False) as lab:
        await waiting(lab, lab.alice)

        told = await lab.told(lab.alice, "queue")

    assert "**local** · away" in told
    assert "They wait as no ComfyUI server answers; they start when one does." in told


async def test_the_queue_keeps_the_address_of_a_server_to_itself(tmp_path: Any) -> None:
    async with opened(tmp_path, "http://127.0.0.1:9", up=False) as lab:
        await until(lambda: "not connected" not in (lab.bot.servers["local"].problem or ""))

        told = await lab.told(lab.alice, "queue")

    assert "**local** · away" in told
    assert "127.0.0.1" not in told


# /history


async def test_history_is_searched_by_words_of_the_prompt(lab: Lab) -> None:
    await made(lab, lab.alice, "a Dog in rain")
    await made(lab, lab.alice, "a cat")

    found = await lab.told(lab.alice, "history", text="dog")
    nothing = await lab.told(lab.alice, "history", text="zebra")

    assert "a Dog in rain" in found
    assert "a cat" not in found
    assert nothing == NOTHING


@pytest.mark.parametrize(
    ("text", "prompt"), [("100%", "100% cotton"), ("a_b", "a_b c"), ("\\", "a \\ b")]
)
async def test_signs_of_sql_in_a_search_are_only_signs(lab: Lab, text: str, prompt: str) -> None:
    await made(lab, lab.alice, "1000 axb plain")
    await made(lab, lab.alice, prompt)

    found = await lab.told(lab.alice, "history", text=text)

    assert found.count("completed") == 1
    assert "plain" not in found


async def test_history_is_searched_by_workflow(lab: Lab) -> None:
    await made(lab, lab.alice, "a cat")
    await made(lab, lab.alice, "a dog", workflow="txt2img")

    found = await lab.told(lab.alice, "history", workflow="txt2img")
    offered = await lab.completed(lab.alice, "history", "workflow", "post")

    assert "a dog" in found
    assert "a cat" not in found
    assert offered == ["postcard"]


async def test_history_of_somebody_else_is_that_of_this_server(lab: Lab) -> None:
    guild = lab.env.create_guild("Elsewhere")
    there = guild.create_text_channel("art")
    bob_there = guild.add_member(lab.bob.user)
    await made(lab, lab.bob, "seen here")
    await made(lab, bob_there, "seen there", at=there)

    found = await lab.ask(lab.alice, "history", user=lab.bob)
    own = await lab.told(lab.bob, "history")

    assert "seen here" in words(found)
    assert "seen there" not in words(found)
    assert found.ephemeral
    assert "seen there" in own


async def test_history_never_holds_somebody_elses_private_jobs(lab: Lab) -> None:
    await lab.bob.slash(
        lab.channel, "generate", workflow="postcard", prompt="a secret", private=True
    )
    (job,) = await lab.ended(lab.bob)

    listed = await lab.told(lab.alice, "history", user=lab.bob)
    named = await lab.told(lab.alice, "history", job=job.short_id)

    assert listed == NOTHING
    assert named == f"I know no job {job.short_id} here."
    assert "a secret" in await lab.told(lab.bob, "history")


async def test_a_job_of_another_discord_server_is_not_shown_here(lab: Lab) -> None:
    guild = lab.env.create_guild("Elsewhere")
    there = guild.create_text_channel("art")
    await made(lab, guild.add_member(lab.bob.user), "seen there", at=there)
    (job,) = await lab.ended(lab.bob)

    told = await lab.told(lab.alice, "history", job=job.short_id)

    assert told == f"I know no job {job.short_id} here."


async def test_what_was_made_in_a_hidden_channel_is_not_shown_outside(lab: Lab) -> None:
    hidden = discord.PermissionOverwrite(view_channel=False)
    seen = discord.PermissionOverwrite(view_channel=True)
    assert lab.bot.user
    for_some = {lab.guild.default_role: hidden, lab.mod: seen, lab.bot.user: seen}
    cellar = lab.guild.create_text_channel("cellar", overwrites=for_some)
    await made(lab, lab.mod, "a plan", at=cellar)
    (job,) = await lab.ended(lab.mod)

    listed = await lab.told(lab.alice, "history", user=lab.mod)
    named = await lab.told(lab.alice, "history", job=job.short_id)

    assert "a plan" not in listed
    assert "a plan" not in named


async def test_a_result_is_shown_again_with_its_picture_and_buttons(lab: Lab) -> None:
    await made(lab, lab.bob, "a cat")
    (job,) = await lab.ended(lab.bob)
    picture = await lab.message(job).attachments[0].read()

    listed = await lab.ask(lab.alice, "history", user=lab.bob)
    shown = await lab.alice.select(listed, [job.id], custom_id="history:show")
    await until(lambda: shown.response.attachments)

    assert await shown.response.attachments[0].read() == picture
    assert not shown.response.ephemeral
    assert "Again\nEdit\nDetails\nVary\nSend to…" in words(shown.response)
    again = await lab.press(lab.alice, job, "again", on=shown.response)
    assert f"again of {job.short_id}" in await lab.said(again)
    await lab.ended(lab.alice)


async def test_a_result_whose_message_is_gone_cannot_be_shown_again(lab: Lab) -> None:
    await made(lab, lab.alice, "a cat")
    (job,) = await lab.ended(lab.alice)
    lab.env.backend.delete_message(lab.channel.id, job.message_id)

    result = await lab.alice.slash(lab.channel, "history", job=job.short_id)

    assert "The pictures of this job are gone." in await lab.said(result)


async def test_a_private_result_is_shown_again_to_its_owner_alone(lab: Lab) -> None:
    await lab.alice.slash(
        lab.channel, "generate", workflow="postcard", prompt="a secret", private=True
    )
    (job,) = await lab.ended(lab.alice)

    answer = await lab.ask(lab.alice, "history", job=job.short_id)
    await until(lambda: answer.attachments)

    assert answer.ephemeral


# What moves


@pytest.mark.parametrize("name", ["status", "queue"])
async def test_a_board_follows_what_moves(
    lab: Lab, comfyui: FakeComfyUI, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # discord.py loads a cog beside its package
    monkeypatch.setattr(sys.modules["cogs.jobs"], "_LIVE_EVERY", 0.05)
    comfyui.hold()
    await waiting(lab, lab.alice)
    await until(comfyui.held.is_set)
    board = await lab.ask(lab.alice, name)
    await until(lambda: "running" in words(board))

    comfyui.finish()

    await until(lambda: ("completed in" if name == "status" else "free") in words(board))


# /cancel


async def test_a_waiting_job_is_cancelled_by_its_owner(lab: Lab, comfyui: FakeComfyUI) -> None:
    comfyui.hold()
    await waiting(lab, lab.alice, 3)
    await until(comfyui.held.is_set)
    (job, *_) = await lab.bot.store.recent(lab.alice.id, 1)
    offered = await lab.completed(lab.alice, "cancel", "job", "")

    told = await lab.told(lab.alice, "cancel", job=job.short_id)

    assert told == f"`{job.short_id}` is cancelled."
    assert job.short_id in offered
    async with asyncio.timeout(20):
        while not (now := await lab.bot.store.get(job.id)) or not now.told:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert now.state is JobState.CANCELLED
    assert job.short_id not in await lab.completed(lab.alice, "cancel", "job", "")


async def test_a_running_job_is_cancelled_and_stopped(lab: Lab, comfyui: FakeComfyUI) -> None:
    comfyui.hold()
    await waiting(lab, lab.alice)
    await until(comfyui.held.is_set)
    (job,) = await lab.bot.store.recent(lab.alice.id, 1)

    await lab.told(lab.alice, "cancel", job=job.short_id)
    (job,) = await lab.ended(lab.alice)

    assert job.state is JobState.CANCELLED
    assert not comfyui.held.is_set()


async def test_a_job_that_moves_on_while_it_is_cancelled_is_cancelled(
    lab: Lab, comfyui: FakeComfyUI
) -> None:
    comfyui.hold()
    await waiting(lab, lab.alice, 3)
    (before,) = await lab.bot.store.recent(lab.alice.id, 1)  # as `cancel` reads it first
    assert before.state is JobState.PENDING
    comfyui.finish()
    comfyui.hold()
    async with asyncio.timeout(20):
        while (await lab.bot.store.recent(lab.alice.id, 1))[0].state is before.state:  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    assert await lab.bot.runner.cancel(before)


async def test_somebody_elses_job_is_not_found(lab: Lab, comfyui: FakeComfyUI) -> None:
    comfyui.hold()
    await waiting(lab, lab.alice)
    (job,) = await lab.bot.store.recent(lab.alice.id, 1)

    told = await lab.told(lab.bob, "cancel", job=job.short_id)

    assert told == f"You have no job {job.short_id}. `/status` lists yours."
    assert not (await lab.bot.store.recent(lab.alice.id, 1))[0].state.final


async def test_a_moderator_cancels_somebody_elses(lab: Lab, comfyui: FakeComfyUI) -> None:
    keeper = lab.member("keeper", manage_messages=True)
    comfyui.hold()
    await waiting(lab, lab.alice)
    await until(comfyui.held.is_set)
    (job,) = await lab.bot.store.recent(lab.alice.id, 1)

    told = await lab.told(keeper, "cancel", job=job.short_id)
    (job,) = await lab.ended(lab.alice)

    assert told == f"`{job.short_id}` is cancelled."
    assert job.state is JobState.CANCELLED


async def test_a_moderator_of_another_discord_server_cancels_nothing_here(
    lab: Lab, comfyui: FakeComfyUI
) -> None:
    guild = lab.env.create_guild("Elsewhere")
    there = guild.create_text_channel("art")
    role = guild.create_role("Mods", permissions=discord.Permissions(manage_messages=True))
    keeper = guild.add_member(lab.env.create_user("keeper"), roles=[role])
    comfyui.hold()
    await waiting(lab, lab.alice)
    await until(comfyui.held.is_set)
    (job,) = await lab.bot.store.recent(lab.alice.id, 1)

    told = await lab.told(keeper, "cancel", at=there, job=job.short_id)

    assert told == f"You have no job {job.short_id}. `/status` lists yours."


async def test_what_ended_and_what_nobody_knows_is_not_cancelled(lab: Lab) -> None:
    job = await lab.generated("postcard")

    ended = await lab.told(lab.alice, "cancel", job=f" `{job.short_id}` ")
    unknown = await lab.told(lab.alice, "cancel", job="nosuch_%")

    assert ended == "It is too late to cancel this job."
    assert unknown == r"nosuch\_% is no job's id: eight letters, such as `3f9a01bc`."


async def test_a_moderator_who_names_no_job_cancels_none(lab: Lab, comfyui: FakeComfyUI) -> None:
    keeper = lab.member("keeper", manage_messages=True)
    comfyui.hold()
    await waiting(lab, lab.alice)
    await until(comfyui.held.is_set)

    told = await lab.told(keeper, "cancel", job=" ")

    assert "is no job's id" in told
