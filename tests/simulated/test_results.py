"""The buttons under a result: what each does, and for whom."""

import hashlib
import io
import json
import uuid
from datetime import UTC, datetime

import discord
import pytest
from PIL import Image

from bot.cards import pictures_in
from bot.jobs import Job, JobState
from comfy.standin_store import Place
from tests.fakes.comfyui import FakeComfyUI
from tests.simulated.lab import Lab, answer_of, filled_in, json_file, txt2img, until, words

REFUSED = "Only the person who asked for it, or a moderator, can do that."
UNKNOWN = "This job is no longer known."
GONE = "I cannot get this picture any more."


def rename(lab: Lab, message_id: int, old: str, new: str) -> None:
    """A message with another `custom_id`, as somebody could forge it."""
    stored = lab.env.backend.get_message(lab.channel.id, message_id)
    stored.components = json.loads(json.dumps(stored.components).replace(old, new))


def hidden_pictures(message: discord.Message) -> list[bool]:
    return [each.startswith("SPOILER:") for each in pictures_in(message, marked=True)]


def buttons(message: discord.Message) -> list[str]:
    (container,) = message.components
    rows = [each for each in container.children if isinstance(each, discord.ActionRow)]
    return [str(button.label) for row in rows for button in row.children]


async def picture_shown(lab: Lab, job: Job) -> bytes:
    (attachment,) = lab.message(job).attachments
    return await attachment.read()


def pixels(data: bytes) -> str:
    with Image.open(io.BytesIO(data)) as picture:
        return hashlib.sha256(picture.convert("RGBA").tobytes()).hexdigest()


def taken(comfyui: FakeComfyUI, job: Job) -> bytes:
    """The picture that the job's graph begins with, from the server's input folder."""
    graph = next(
        entry["prompt"][2]
        for entry in comfyui.queue.history.values()
        if entry["prompt"][1] == job.prompt_id
    )
    (name,) = {
        node["inputs"]["image"] for node in graph.values() if node["class_type"] == "LoadImage"
    }
    assert name.startswith(f"comfycord/{job.id}/")
    return comfyui.files[Place.annotated(name)]


async def test_again_keeps_the_settings_and_takes_another_seed(lab: Lab) -> None:
    before = await lab.generated("txt2img", negative="dogs", seed="5", steps=3, width=512)

    told = await lab.pressed(lab.alice, before, "again")
    after, _ = await lab.ended(lab.alice, 2)

    assert "Queued" in told
    assert after.state is JobState.POSTED
    assert after.request.text == "a cat"
    assert after.request.settings["seed"] != 5
    same = {name: value for name, value in after.request.settings.items() if name != "seed"}
    assert before.request.settings == {**same, "seed": 5}
    assert (after.request.wish.parent, after.request.wish.relation) == (before.id, "again")
    assert lab.message(before).attachments


@pytest.mark.parametrize(
    "options",
    [{"settings": "seed=5 steps=3"}, {"overrides": '{"5": {"inputs": {"seed": 5, "steps": 3}}}'}],
    ids=["settings", "overrides"],
)
async def test_again_takes_another_seed_though_settings_or_overrides_named_one(
    lab: Lab, options: dict[str, str]
) -> None:
    named = await lab.generated("txt2img", **options)

    await lab.press(lab.alice, named, "again")
    after, _ = await lab.ended(lab.alice, 2)

    assert (named.request.settings["seed"], after.request.settings["steps"]) == (5, 3)
    assert after.request.settings["seed"] != 5


async def test_two_clicks_within_a_tenth_of_a_second_make_one_job(lab: Lab) -> None:
    job = await lab.generated("postcard")
    moments = iter([100.0, 100.1, 101.2])
    lab.bot.clock = lambda: next(moments)

    first = await lab.press(lab.alice, job, "again")
    second = await lab.press(lab.alice, job, "again")
    await lab.ended(lab.alice, 2)
    third = await lab.press(lab.alice, job, "again")

    assert f"again of {job.short_id}" in await lab.said(first)
    assert second.acknowledged
    assert not second.followups
    assert f"again of {job.short_id}" in await lab.said(third)
    await lab.ended(lab.alice, 3)


async def test_a_strangers_again_is_the_strangers_job(lab: Lab) -> None:
    job = await lab.generated("txt2img", steps=3)

    told = await lab.pressed(lab.bob, job, "again")
    (own,) = await lab.ended(lab.bob)

    assert told.startswith(f"**txt2img** for <@{lab.bob.id}>")
    assert (own.request.user_id, own.request.settings["steps"]) == (lab.bob.id, 3)
    assert [each.id for each in await lab.ended(lab.alice)] == [job.id]


async def test_a_strangers_edit_vary_and_send_are_the_strangers_jobs(lab: Lab) -> None:
    job = await lab.generated("postcard")

    modal = await lab.press(lab.bob, job, "edit")
    await lab.submit(lab.bob, modal, {"text": "a fox"})
    asked = await lab.press(lab.bob, job, "vary")
    await lab.press(lab.bob, job, "vary:weak", on=asked.response)
    asked = await lab.press(lab.bob, job, "send")
    await lab.bob.select(asked.response, ["upscale"], custom_id=f"use:0:{job.id}")
    own = await lab.ended(lab.bob, 3)

    assert {each.request.workflow for each in own} == {"postcard", "img2img", "upscale"}
    assert [each.id for each in await lab.ended(lab.alice)] == [job.id]


async def test_a_stranger_who_has_enough_jobs_is_told_so_at_again(
    lab: Lab, comfyui: FakeComfyUI
) -> None:
    job = await lab.generated("postcard")
    comfyui.hold()
    for _ in range(5):
        await lab.ask(lab.bob, "generate", workflow="postcard", prompt="mine")

    told = await lab.pressed(lab.bob, job, "again")

    assert told.startswith("You have 5 jobs waiting or running, and 5 is the most.")
    assert len(await lab.bot.store.recent(lab.bob.id, 9)) == 5


@pytest.mark.parametrize(
    "action", ["again", "edit", "details", "vary", "send", "spoiler", "delete"]
)
async def test_the_buttons_of_a_job_that_is_gone_say_so_in_a_sentence(
    lab: Lab, action: str
) -> None:
    job = await lab.generated("postcard")
    await lab.bot.store.forget(lab.alice.id)

    result = await lab.press(lab.alice, job, action)

    assert await lab.said(result) == UNKNOWN
    assert result.response.ephemeral
    assert lab.message(job).attachments


async def test_a_forged_id_is_not_known(lab: Lab) -> None:
    job = await lab.generated("postcard")
    forged = str(uuid.uuid4())
    rename(lab, job.message_id or 0, job.id, forged)

    result = await lab.alice.click(lab.message(job), custom_id=f"job:{forged}:again")

    assert await lab.said(result) == UNKNOWN


async def test_an_action_of_another_time_is_answered_in_a_sentence(lab: Lab) -> None:
    job = await lab.generated("postcard")
    rename(lab, job.message_id or 0, f"{job.id}:again", f"{job.id}:melt")

    told = await lab.pressed(lab.alice, job, "melt")

    assert told == "This button is from another time. Use the commands."


async def test_a_forged_page_is_answered_in_a_sentence(lab: Lab) -> None:
    job = await lab.generated("postcard")
    rename(lab, job.message_id or 0, f"{job.id}:edit", f"{job.id}:edit:²")

    result = await lab.press(lab.alice, job, "edit:²")

    assert result.modal or await lab.said(result)


async def test_details_show_the_person_alone_all_settings_and_the_graph(lab: Lab) -> None:
    job = await lab.generated("txt2img", steps=3, seed="5")

    result = await lab.press(lab.bob, job, "details")
    told = await lab.said(result)

    assert result.response.ephemeral
    assert "`steps` 3" in told
    assert "`seed` 5" in told
    assert "> a cat" in told
    (attachment,) = result.response.attachments
    assert json.loads(await attachment.read()) == job.request.graph
    assert not await lab.bot.store.recent(lab.bob.id, 1)


async def test_details_hide_what_is_named_like_a_secret(lab: Lab) -> None:
    graph = txt2img()
    graph["1"]["inputs"]["api_key"] = "sk-planted"
    await lab.manage("add", file=json_file(graph, "secret.json"))
    job = await lab.generated("secret")

    result = await lab.press(lab.bob, job, "details")
    (attachment,) = result.response.attachments

    assert b"sk-planted" not in await attachment.read()


async def test_the_owner_hides_the_picture_and_shows_it_again(lab: Lab) -> None:
    job = await lab.generated("postcard", batch=2)
    before = buttons(lab.message(job))
    moments = iter([100.0, 102.0])
    lab.bot.clock = lambda: next(moments)

    await lab.press(lab.alice, job, "spoiler")
    await until(lambda: hidden_pictures(lab.message(job)) == [True, True])
    await lab.press(lab.alice, job, "spoiler")
    await until(lambda: hidden_pictures(lab.message(job)) == [False, False])

    assert len(lab.message(job).attachments) == 2
    assert buttons(lab.message(job)) == before


@pytest.mark.parametrize("action", ["spoiler", "delete"])
async def test_a_stranger_neither_hides_nor_deletes(lab: Lab, action: str) -> None:
    job = await lab.generated("postcard")

    result = await lab.press(lab.bob, job, action)

    assert await lab.said(result) == REFUSED
    assert result.response.ephemeral
    assert hidden_pictures(lab.message(job)) == [False]


async def test_a_moderator_hides(lab: Lab) -> None:
    keeper = lab.member("keeper", manage_messages=True)
    job = await lab.generated("postcard")

    await lab.press(keeper, job, "spoiler")

    await until(lambda: hidden_pictures(lab.message(job)) == [True])


async def test_a_moderator_deletes(lab: Lab) -> None:
    keeper = lab.member("keeper", manage_messages=True)
    job = await lab.generated("postcard")

    await lab.press(keeper, job, "delete")

    await until(lambda: lab.message(job) is None)


async def test_the_owner_deletes_every_message_of_a_result(lab: Lab) -> None:
    await lab.manage("limit", workflow="postcard", parameter="batch", max=12)
    job = await lab.generated("postcard", batch=12, width=256, height=256)
    assert len(lab.channel.history()) == 2

    await lab.press(lab.alice, job, "delete")

    await until(lambda: not lab.channel.history())
    assert await lab.bot.store.get(job.id)


@pytest.mark.parametrize(("detail", "strength"), [("weak", 0.35), ("strong", 0.65)])
async def test_vary_begins_with_the_very_picture(
    lab: Lab, comfyui: FakeComfyUI, detail: str, strength: float
) -> None:
    job = await lab.generated("txt2img", steps=3)
    shown = await picture_shown(lab, job)

    question = await lab.press(lab.alice, job, "vary")
    asked = words(question.response)
    await lab.press(lab.alice, job, f"vary:{detail}", on=question.response)
    varied, _ = await lab.ended(lab.alice, 2)

    assert question.response.ephemeral
    assert asked == "How much may it change?\nA little\nA lot"
    assert varied.request.workflow == "img2img"
    assert varied.request.text == "a cat"
    assert varied.request.settings["strength"] == strength
    assert (varied.request.wish.parent, varied.request.wish.relation) == (job.id, "variation")
    assert pixels(taken(comfyui, varied)) == pixels(shown)


async def test_vary_stays_with_a_workflow_that_takes_pictures_itself(lab: Lab) -> None:
    graph = json.loads((lab.folder / "workflows/img2img.json").read_text())
    await lab.manage("add", file=json_file(graph, "zebra.json"))
    job = await lab.generated("zebra")

    question = await lab.press(lab.alice, job, "vary")
    await lab.press(lab.alice, job, "vary:weak", on=question.response)
    varied, _ = await lab.ended(lab.alice, 2)

    assert varied.request.workflow == "zebra"


async def test_vary_without_a_workflow_for_it_says_what_is_missing(lab: Lab) -> None:
    job = await lab.generated("txt2img")
    await lab.manage("hide", workflow="img2img", parameter="strength")

    question = await lab.press(lab.alice, job, "vary")
    result = await lab.press(lab.alice, job, "vary:weak", on=question.response)

    assert (await lab.said(result)).startswith("No workflow here can vary a picture.")
    assert len(await lab.ended(lab.alice)) == 1


async def test_a_picture_that_is_gone_cannot_be_varied(lab: Lab) -> None:
    job = await lab.generated("txt2img")
    question = await lab.press(lab.alice, job, "vary")
    lab.lose(*lab.message(job).attachments)

    result = await lab.press(lab.alice, job, "vary:weak", on=question.response)

    assert await lab.said(result) == GONE
    assert len(await lab.ended(lab.alice)) == 1


async def test_a_picture_that_is_gone_cannot_be_sent_on(lab: Lab) -> None:
    job = await lab.generated("postcard")
    question = await lab.press(lab.alice, job, "send")
    lab.lose(*lab.message(job).attachments)

    result = await lab.alice.select(question.response, ["upscale"], custom_id=f"use:0:{job.id}")

    assert await lab.said(result) == GONE
    assert len(await lab.ended(lab.alice)) == 1


async def test_a_choice_works_though_the_result_was_deleted_meanwhile(
    lab: Lab, comfyui: FakeComfyUI
) -> None:
    job = await lab.generated("postcard")
    shown = await picture_shown(lab, job)
    question = await lab.press(lab.alice, job, "send")
    await lab.press(lab.alice, job, "delete")
    await until(lambda: lab.message(job) is None)

    await lab.alice.select(question.response, ["upscale"], custom_id=f"use:0:{job.id}")
    sent, _ = await lab.ended(lab.alice, 2)

    assert pixels(taken(comfyui, sent)) == pixels(shown)


async def test_each_picture_can_be_sent_to_another_workflow(lab: Lab, comfyui: FakeComfyUI) -> None:
    job = await lab.generated("postcard", batch=2)
    second = await lab.message(job).attachments[1].read()

    question = await lab.press(lab.alice, job, "send")
    asked = words(question.response)
    chosen = await lab.alice.select(question.response, ["upscale"], custom_id=f"use:1:{job.id}")
    told = await lab.said(chosen)
    sent, _ = await lab.ended(lab.alice, 2)

    assert question.response.ephemeral
    assert asked.startswith("Where to?")
    assert f"upscale of {job.short_id}" in told
    assert sent.state is JobState.POSTED
    assert pixels(taken(comfyui, sent)) == pixels(second)


async def test_send_to_offers_only_what_takes_a_picture_and_may_be_used(lab: Lab) -> None:
    job = await lab.generated("postcard")
    await lab.manage("disable", workflow="upscale")

    question = await lab.press(lab.alice, job, "send")
    offered = json.dumps(question.response.components)

    assert "img2img" in offered
    assert "upscale" not in offered
    assert "txt2img" not in offered


async def test_the_fields_of_a_result_fit_the_edit_of_it(lab: Lab) -> None:
    job = await lab.generated("postcard", seed="5")

    fields = filled_in(await lab.press(lab.alice, job, "edit"))

    assert fields == {
        "text": "a cat", "seed": "5", "width": "1024", "height": "704", "batch": "1",
    }  # fmt: skip


async def test_the_details_of_an_old_result_come_without_its_graph(lab: Lab) -> None:
    job = await lab.generated("postcard")
    await until(lambda: lab.bot.runner._following == {})
    await lab.bot.store.forget_before(datetime.now(UTC))

    shown = await lab.press(lab.alice, job, "details")

    assert "a cat" in words(answer_of(shown))
    assert not answer_of(shown).attachments
