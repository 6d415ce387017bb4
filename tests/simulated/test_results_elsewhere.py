"""The buttons of a result that is private, was shown again, or lost its first message; and
workflows that changed since."""

import discord

from bot.jobs import Job
from tests.fakes.comfyui import FakeComfyUI
from tests.simulated.lab import Lab, filled_in, told_by, until, words


async def private(lab: Lab, workflow: str = "txt2img") -> tuple[Job, discord.Message]:
    """A private job of Alice's, and its answer."""
    result = await lab.alice.slash(
        lab.channel, "generate", workflow=workflow, prompt="a secret", private=True
    )
    (job,) = await lab.ended(lab.alice)
    await until(lambda: result.response.attachments)
    return job, result.response


async def test_again_on_a_private_result_stays_private(lab: Lab) -> None:
    job, answer = await private(lab)

    result = await lab.press(lab.alice, job, "again", on=answer)
    await lab.ended(lab.alice, 2)

    assert result.response.ephemeral
    assert not lab.channel.history()


async def test_an_edit_of_a_private_result_stays_private(lab: Lab) -> None:
    job, answer = await private(lab, "postcard")

    modal = await lab.press(lab.alice, job, "edit", on=answer)
    result = await lab.submit(lab.alice, modal, {"text": "another secret"})
    await lab.ended(lab.alice, 2)

    assert result.response.ephemeral
    assert not lab.channel.history()


async def test_a_variation_of_a_private_result_stays_private(lab: Lab) -> None:
    job, answer = await private(lab)

    question = await lab.press(lab.alice, job, "vary", on=answer)
    result = await lab.press(lab.alice, job, "vary:weak", on=question.response)
    varied, _ = await lab.ended(lab.alice, 2)

    assert varied.request.text == "a secret"
    assert result.response.ephemeral
    assert not lab.channel.history()


async def test_a_private_picture_that_is_sent_on_stays_private(lab: Lab) -> None:
    job, answer = await private(lab)

    question = await lab.press(lab.alice, job, "send", on=answer)
    chosen = await lab.alice.select(question.response, ["upscale"], custom_id=f"use:0:{job.id}")
    await lab.ended(lab.alice, 2)

    assert chosen.response.ephemeral
    assert not lab.channel.history()


async def shown_again(lab: Lab, job: Job) -> discord.Message:
    answer = await lab.ask(lab.alice, "history", job=job.short_id)
    await until(lambda: answer.attachments)
    return answer


async def test_a_result_shown_again_works_as_the_first_one(lab: Lab) -> None:
    job = await lab.generated("txt2img")
    copy = await shown_again(lab, job)

    again = await lab.press(lab.alice, job, "again", on=copy)
    question = await lab.press(lab.alice, job, "vary", on=copy)
    await lab.press(lab.alice, job, "vary:weak", on=question.response)

    assert f"again of {job.short_id}" in await lab.said(again)
    varied, _, _ = await lab.ended(lab.alice, 3)
    assert varied.request.wish.relation == "variation"


async def test_delete_deletes_the_message_under_which_it_stands(lab: Lab) -> None:
    job = await lab.generated("postcard")
    copy = await shown_again(lab, job)

    await lab.press(lab.alice, job, "delete", on=copy)

    await until(lambda: lab.message_by_id(copy.id) is None)


async def test_a_copy_can_be_varied_when_the_first_message_is_gone(lab: Lab) -> None:
    job = await lab.generated("txt2img")
    copy = await shown_again(lab, job)
    lab.env.backend.delete_message(lab.channel.id, job.message_id)

    question = await lab.press(lab.alice, job, "vary", on=copy)
    await lab.press(lab.alice, job, "vary:weak", on=question.response)

    await lab.ended(lab.alice, 2)


async def posted_anew(lab: Lab, comfyui: FakeComfyUI) -> tuple[Job, discord.Message]:
    """A result whose placeholder somebody deleted while it ran."""
    comfyui.hold()
    asked = await lab.ask(lab.alice, "generate", workflow="txt2img", prompt="a cat")
    await until(comfyui.held.is_set)
    lab.env.backend.delete_message(lab.channel.id, asked.id)
    comfyui.finish()
    (job,) = await lab.ended(lab.alice)
    (message,) = lab.channel.history()
    return job, message


async def test_a_result_that_was_posted_anew_can_be_deleted(lab: Lab, comfyui: FakeComfyUI) -> None:
    job, message = await posted_anew(lab, comfyui)

    await lab.press(lab.alice, job, "delete", on=message)

    await until(lambda: not lab.channel.history())


async def test_a_result_that_was_posted_anew_can_be_varied(lab: Lab, comfyui: FakeComfyUI) -> None:
    job, message = await posted_anew(lab, comfyui)

    question = await lab.press(lab.alice, job, "vary", on=message)
    await lab.press(lab.alice, job, "vary:weak", on=question.response)

    await lab.ended(lab.alice, 2)


# The workflow as it is now counts


async def test_again_asks_whether_the_workflow_is_still_there(lab: Lab) -> None:
    job = await lab.generated("txt2img")
    await lab.manage("remove", workflow="txt2img")

    told = await lab.pressed(lab.alice, job, "again")

    assert told == "There is no workflow named txt2img. See /workflows."
    assert len(await lab.ended(lab.alice)) == 1


async def test_again_asks_whether_the_workflow_is_switched_on(lab: Lab) -> None:
    job = await lab.generated("txt2img")
    await lab.manage("disable", workflow="txt2img")

    told = await lab.pressed(lab.alice, job, "again")

    assert told == "txt2img is switched off. A moderator can switch it on again."


async def test_again_asks_whether_the_person_may_use_it_here(lab: Lab) -> None:
    job = await lab.generated("txt2img")
    role = lab.guild.create_role("Painters")
    await lab.manage("allow", workflow="txt2img", role=role)

    told = await lab.pressed(lab.bob, job, "again")

    assert told == f"txt2img is only for <@&{role.id}>."


async def test_again_asks_whether_the_values_are_still_allowed(lab: Lab) -> None:
    job = await lab.generated("txt2img", steps=30)
    await lab.manage("limit", workflow="txt2img", parameter="steps", max=20)

    told = await lab.pressed(lab.alice, job, "again")

    assert told == "`steps` must be between 1 and 20, not 30."
    assert len(await lab.ended(lab.alice)) == 1


async def test_again_does_not_set_what_was_hidden_since(lab: Lab) -> None:
    job = await lab.generated("txt2img", cfg=3.0)
    await lab.manage("hide", workflow="txt2img", parameter="cfg")

    told = await lab.pressed(lab.alice, job, "again")

    assert told.startswith("*Text to picture* has no `cfg`.")


async def test_edit_leaves_out_what_was_hidden_since(lab: Lab) -> None:
    job = await lab.generated("txt2img")
    await lab.manage("hide", workflow="txt2img", parameter="negative")

    fields = filled_in(await lab.press(lab.alice, job, "edit"))

    assert list(fields) == ["text", "seed", "steps", "cfg", "width"]


async def test_a_modal_that_was_open_while_the_workflow_went_is_answered(lab: Lab) -> None:
    job = await lab.generated("postcard")
    modal = await lab.press(lab.alice, job, "edit")
    await lab.manage("remove", workflow="postcard")

    result = await lab.submit(lab.alice, modal, {"text": "a fox"})

    assert await lab.said(result) == "There is no workflow named postcard. See /workflows."


async def test_a_choice_that_was_open_while_the_workflow_went_is_answered(lab: Lab) -> None:
    job = await lab.generated("postcard")
    question = await lab.press(lab.alice, job, "send")
    await lab.manage("disable", workflow="upscale")

    result = await lab.alice.select(question.response, ["upscale"], custom_id=f"use:0:{job.id}")
    await until(lambda: told_by(result))

    assert "upscale is switched off." in told_by(result)
    assert words(question.response).startswith("Where to?")


async def test_what_a_moderator_set_by_override_is_not_a_members_to_repeat(lab: Lab) -> None:
    overrides = '{"5": {"inputs": {"denoise": 0.5}}}'
    answer = await lab.ask(
        lab.mod, "generate", workflow="txt2img", prompt="a cat", overrides=overrides
    )
    (job,) = await lab.ended(lab.mod)

    told = await lab.pressed(lab.bob, job, "again", on=answer)

    assert "cannot be set from Discord" in told
    assert not await lab.bot.store.recent(lab.bob.id, 1)
