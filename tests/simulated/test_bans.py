"""/ban and /unban: who may not ask, and what becomes of their jobs."""

from bot.jobs import JobState as S
from tests.fakes.comfyui import FakeComfyUI
from tests.simulated.lab import Lab, told_by, until, words


async def test_who_is_banned_cannot_ask_and_who_is_not_can(lab: Lab) -> None:
    told = await lab.told(lab.mod, "ban", user=lab.alice, reason="spam")
    refused = await lab.told(lab.alice, "generate", workflow="postcard", prompt="a cat")
    await lab.ask(lab.bob, "generate", workflow="postcard", prompt="a dog")

    assert told == f"<@{lab.alice.id}> may not use me here any more. 0 jobs are stopped."
    assert refused == "You may not use me here any more."
    (job,) = await lab.ended(lab.bob)
    assert job.state is S.POSTED


async def test_who_is_let_in_again_can_ask(lab: Lab) -> None:
    await lab.told(lab.mod, "ban", user=lab.alice)

    told = await lab.told(lab.mod, "unban", user=lab.alice)
    await lab.ask(lab.alice, "generate", workflow="postcard", prompt="a cat")

    assert told == f"<@{lab.alice.id}> may use me here again."
    (job,) = await lab.ended(lab.alice)
    assert job.state is S.POSTED


async def test_a_ban_stops_what_runs(lab: Lab, comfyui: FakeComfyUI) -> None:
    comfyui.hold()
    await lab.ask(lab.alice, "generate", workflow="postcard", prompt="a cat")
    await comfyui.held.wait()

    told = await lab.told(lab.mod, "ban", user=lab.alice)

    assert told.endswith("1 job is stopped.")
    (job,) = await lab.ended(lab.alice)
    assert job.state is S.CANCELLED
    await until(lambda: "Cancelled." in words(lab.message(job)))


async def test_what_just_ended_is_not_shown_any_more(lab: Lab, comfyui: FakeComfyUI) -> None:
    comfyui.hold()
    await lab.ask(lab.alice, "generate", workflow="postcard", prompt="a cat")
    await comfyui.held.wait()
    await lab.bot.store.ban(lab.guild.id, lab.alice.id, "")
    comfyui.finish()

    (job,) = await lab.ended(lab.alice)

    assert job.state is S.FAILED
    await until(lambda: "may not use me" in words(lab.message(job)))


async def test_a_member_bans_nobody(lab: Lab) -> None:
    await lab.let(lab.alice, "ban")

    refused = told_by(await lab.alice.slash(lab.channel, "ban", user=lab.bob))

    assert refused.startswith("You need the permission Manage Server")
    assert not await lab.bot.store.banned(lab.bob.id, lab.guild.id)


async def test_who_is_not_banned_cannot_be_let_in(lab: Lab) -> None:
    told = await lab.told(lab.mod, "unban", user=lab.alice)

    assert told == f"<@{lab.alice.id}> is not banned here."
