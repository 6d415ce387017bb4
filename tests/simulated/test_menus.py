"""The context menus of messages: ours, people's, other bots'."""

import io
import json
from typing import Any

import discord
import pytest
from PIL import Image

from tests.fakes.comfyui import FakeComfyUI
from tests.simulated.lab import Lab, picture_file, until, words
from tests.simulated.test_results import pixels, rename, taken

NO_RESULT = "This message is no result of mine that I still know."
NO_PICTURE = "There is no picture in this message."


def coloured(colour: str) -> bytes:
    picture = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(picture, "PNG")
    return picture.getvalue()


async def two_pictures(lab: Lab) -> discord.Message:
    """A message of Bob's with a text file and two pictures."""
    files = [("a.txt", b"hi"), ("red.png", coloured("red")), ("blue.png", coloured("blue"))]
    return await lab.bob.send(lab.channel, "look", attachments=files)


def choices_of(result: Any) -> list[str]:
    """The `custom_id` of every select in an answer."""
    (container,) = result.response.components
    rows = [each for each in container["components"] if each["type"] == 1]
    return [row["components"][0]["custom_id"] for row in rows]


async def test_our_own_result_becomes_the_input_of_another_workflow(
    lab: Lab, comfyui: FakeComfyUI
) -> None:
    job = await lab.generated("postcard")
    shown = await lab.message(job).attachments[0].read()

    result = await lab.bob.context_menu(lab.channel, "Use as input image", lab.message(job))
    (choice,) = choices_of(result)
    modal = await lab.bob.select(result.response, ["img2img"], custom_id=choice)
    await lab.bob.submit_modal(modal, {"img2img": "a tiger"})
    (own,) = await lab.ended(lab.bob)

    assert result.response.ephemeral
    assert modal.modal["title"] == "Repaint a picture"
    assert (own.request.workflow, own.request.text) == ("img2img", "a tiger")
    assert pixels(taken(comfyui, own)) == pixels(shown)


async def test_each_picture_of_a_members_message_can_be_chosen(
    lab: Lab, comfyui: FakeComfyUI
) -> None:
    message = await two_pictures(lab)

    result = await lab.alice.context_menu(lab.channel, "Use as input image", message)
    choices = choices_of(result)
    await lab.alice.select(result.response, ["upscale"], custom_id=choices[1])
    (job,) = await lab.ended(lab.alice)

    assert len(choices) == 2
    assert pixels(taken(comfyui, job)) == pixels(coloured("blue"))


async def test_a_members_picture_needs_no_privileged_intent(lab: Lab) -> None:
    lab.bot.http.message_content_access = False  # type: ignore[attr-defined]
    message = await two_pictures(lab)

    result = await lab.alice.context_menu(lab.channel, "Use as input image", message)
    chosen = await lab.alice.select(result.response, ["upscale"], custom_id=choices_of(result)[0])

    assert "upscale" in await lab.said(chosen)
    await lab.ended(lab.alice)


async def test_a_picture_can_be_used_though_its_message_went_meanwhile(
    lab: Lab, comfyui: FakeComfyUI
) -> None:
    message = await two_pictures(lab)
    result = await lab.alice.context_menu(lab.channel, "Use as input image", message)
    await lab.bob.delete(message)

    await lab.alice.select(result.response, ["upscale"], custom_id=choices_of(result)[0])
    (job,) = await lab.ended(lab.alice)

    assert pixels(taken(comfyui, job)) == pixels(coloured("red"))


async def test_a_picture_that_discord_serves_no_more_is_said_to_be_gone(lab: Lab) -> None:
    message = await two_pictures(lab)
    result = await lab.alice.context_menu(lab.channel, "Use as input image", message)
    lab.lose(*message.attachments)

    chosen = await lab.alice.select(result.response, ["upscale"], custom_id=choices_of(result)[0])

    assert await lab.said(chosen) == "I cannot get this picture any more."
    assert not await lab.bot.store.recent(lab.alice.id, 1)


async def test_a_message_without_pictures_is_said_to_have_none(lab: Lab) -> None:
    message = await lab.bob.send(lab.channel, "words", attachments=[("a.txt", b"hi")])

    result = await lab.alice.context_menu(lab.channel, "Use as input image", message)

    assert await lab.said(result) == NO_PICTURE
    assert result.response.ephemeral


async def test_what_only_calls_itself_a_picture_is_refused_in_a_sentence(lab: Lab) -> None:
    message = await lab.bob.send(lab.channel, "", attachments=[("a.png", b"MZ" * 100)])

    result = await lab.alice.context_menu(lab.channel, "Use as input image", message)
    chosen = await lab.alice.select(result.response, ["upscale"], custom_id=choices_of(result)[0])

    assert "This file is something else." in await lab.said(chosen)
    assert not await lab.bot.store.recent(lab.alice.id, 1)


async def test_without_a_workflow_for_pictures_a_picture_is_of_no_use(lab: Lab) -> None:
    for name in ("img2img", "upscale"):
        await lab.manage("disable", workflow=name)
    message = await two_pictures(lab)

    result = await lab.alice.context_menu(lab.channel, "Use as input image", message)

    assert await lab.said(result) == "No workflow here takes a picture. A moderator can add one."


async def test_the_settings_of_our_result_are_shown_to_the_person_alone(lab: Lab) -> None:
    job = await lab.generated("txt2img", steps=3)

    result = await lab.bob.context_menu(lab.channel, "Show settings", lab.message(job))

    assert "`steps` 3" in await lab.said(result)
    assert result.response.ephemeral


async def test_our_result_is_run_again_by_whoever_asks(lab: Lab) -> None:
    job = await lab.generated("txt2img", steps=3, seed="5")

    await lab.bob.context_menu(lab.channel, "Run again", lab.message(job))
    (own,) = await lab.ended(lab.bob)

    assert own.request.settings["steps"] == 3
    assert own.request.settings["seed"] != 5
    assert own.request.wish.parent == job.id


async def test_a_placeholder_can_be_run_again_too(lab: Lab, comfyui: FakeComfyUI) -> None:
    comfyui.hold()
    await lab.ask(lab.alice, "generate", workflow="postcard", prompt="a cat")
    await until(comfyui.held.is_set)
    (message,) = lab.channel.history()

    await lab.bob.context_menu(lab.channel, "Run again", message)
    comfyui.finish()

    (own,) = await lab.ended(lab.bob)
    assert own.request.text == "a cat"


@pytest.mark.parametrize("name", ["Show settings", "Run again"])
async def test_a_members_message_is_no_result(lab: Lab, name: str) -> None:
    message = await two_pictures(lab)

    result = await lab.alice.context_menu(lab.channel, name, message)

    assert await lab.said(result) == NO_RESULT


@pytest.mark.parametrize("name", ["Show settings", "Run again"])
async def test_another_bots_message_is_no_result_though_it_looks_like_ours(
    lab: Lab, name: str
) -> None:
    job = await lab.generated("postcard")
    stored = lab.env.backend.get_message(lab.channel.id, job.message_id or 0)
    stored.author_id = lab.guild.add_member(lab.env.create_user("other", bot=True)).id

    result = await lab.alice.context_menu(lab.channel, name, lab.message(job))

    assert await lab.said(result) == NO_RESULT
    assert len(await lab.ended(lab.alice)) == 1


@pytest.mark.parametrize("name", ["Show settings", "Run again"])
async def test_our_message_about_something_else_is_no_result(lab: Lab, name: str) -> None:
    job = await lab.generated("postcard")
    rename(lab, job.message_id or 0, f"job:{job.id}", f"job:{job.id[::-1]}")

    result = await lab.alice.context_menu(lab.channel, name, lab.message(job))

    assert await lab.said(result) == NO_RESULT


async def test_the_second_message_of_a_result_is_a_result_too(lab: Lab) -> None:
    await lab.manage("limit", workflow="postcard", parameter="batch", max=12)
    await lab.generated("postcard", batch=12, width=256, height=256)
    second = lab.channel.history()[-1]

    result = await lab.alice.context_menu(lab.channel, "Show settings", second)

    assert "`batch` 12" in await lab.said(result)


async def test_a_used_picture_is_asked_for_words_only_where_they_are_taken(lab: Lab) -> None:
    message = await lab.bob.send(lab.channel, "", attachments=[picture_file()])

    result = await lab.alice.context_menu(lab.channel, "Use as input image", message)
    offered = json.dumps(result.response.components)
    chosen = await lab.alice.select(result.response, ["upscale"], custom_id=choices_of(result)[0])

    assert words(result.response) == "What shall I do with it?"
    assert "txt2img" not in offered
    assert chosen.modal is None
    await lab.ended(lab.alice)
