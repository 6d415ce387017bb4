"""Messages that mention the bot with a picture, avatars, and pictures that are not Discord's."""

from typing import Any

import discord
import pytest

from bot.jobs import Job
from tests.fakes.comfyui import FakeComfyUI
from tests.simulated.lab import Lab, filled_in, picture_file, until, words
from tests.simulated.test_menus import NO_PICTURE, choices_of, coloured
from tests.simulated.test_results import picture_shown, pixels, taken

QUESTION = "What shall I do with it?"
SMALL = {"width": 256, "height": 256}  # painted in no time


def at(lab: Lab) -> str:
    """What mentions the bot."""
    assert lab.bot.user
    return lab.bot.user.mention


def questions(lab: Lab) -> list[discord.Message]:
    """What the bot asked in the channel."""
    return [each for each in lab.channel.history() if words(each).startswith(QUESTION)]


async def question(lab: Lab, number: int = 1) -> discord.Message:
    await until(lambda: len(questions(lab)) >= number)
    assert len(questions(lab)) == number
    return questions(lab)[-1]


async def sent(lab: Lab, text: str, *pictures: tuple[str, bytes], **so: Any) -> discord.Message:
    return await lab.alice.send(lab.channel, text, attachments=pictures, **so)


async def chosen(lab: Lab, asked: discord.Message, workflow: str, which: int = 0) -> Any:
    return await lab.alice.select(asked, [workflow], custom_id=f"use:{which}")


async def posted(lab: Lab) -> Job:
    return await lab.generated("postcard", **SMALL)


async def nothing_was_asked_before(lab: Lab) -> None:
    """Whatever came before this message would have been answered before it, too."""
    await sent(lab, at(lab), picture_file())
    await question(lab)


async def test_an_answer_to_a_result_repaints_it_with_the_words_of_the_answer(
    lab: Lab, comfyui: FakeComfyUI
) -> None:
    job = await posted(lab)
    picture = await picture_shown(lab, job)

    mine = await sent(lab, f"{at(lab)} make it winter", reply_to=lab.message(job))
    asked = await question(lab)
    modal = await chosen(lab, asked, "img2img")
    fields = filled_in(modal)
    await lab.submit(lab.alice, modal, {})
    newest, _ = await lab.ended(lab.alice, 2)

    assert asked.reference is not None
    assert asked.reference.message_id == mine.id
    assert not asked.mentions
    assert fields == {"img2img": "make it winter"}
    assert (newest.request.workflow, newest.request.text) == ("img2img", "make it winter")
    assert pixels(taken(comfyui, newest)) == pixels(picture)


async def test_each_picture_of_a_mention_can_be_chosen(lab: Lab, comfyui: FakeComfyUI) -> None:
    red, blue = ("red.png", coloured("red")), ("blue.png", coloured("blue"))
    await sent(lab, f"larger, {at(lab)}!", red, ("notes.txt", b"hi"), blue)

    asked = await question(lab)
    await chosen(lab, asked, "upscale", 1)
    (job,) = await lab.ended(lab.alice)

    assert [each["custom_id"] for each in selects(asked)] == ["use:0", "use:1"]
    assert pixels(taken(comfyui, job)) == pixels(coloured("blue"))


def selects(asked: discord.Message) -> list[Any]:
    (container,) = [each.to_dict() for each in asked.components]
    return [row["components"][0] for row in container["components"] if row["type"] == 1]


async def test_only_workflows_for_pictures_that_the_person_may_use_are_offered(lab: Lab) -> None:
    role = lab.guild.create_role("Artists")
    await lab.manage("allow", workflow="upscale", role=role)
    await sent(lab, at(lab), picture_file())
    (select,) = selects(await question(lab))
    await lab.manage("disable", workflow="img2img")

    await sent(lab, at(lab), picture_file())
    await until(lambda: len(lab.channel.history()) == 4)

    assert [each["value"] for each in select["options"]] == ["img2img"]
    told = words(lab.channel.history()[-1])
    assert told == "No workflow here takes a picture. A moderator can add one."


async def test_the_modal_is_empty_where_nothing_was_said_or_the_words_went(lab: Lab) -> None:
    await sent(lab, f"  {at(lab)} ", picture_file())
    silent = await chosen(lab, await question(lab), "img2img")
    message = await sent(lab, f"{at(lab)} make it winter", picture_file())
    asked = await question(lab, 2)
    await lab.alice.delete(message)

    gone = await chosen(lab, asked, "img2img")

    assert filled_in(silent) == filled_in(gone) == {"img2img": ""}


async def test_what_mentions_the_bot_without_a_picture_is_met_with_silence(lab: Lab) -> None:
    theirs = await lab.bob.send(lab.channel, "look", attachments=[picture_file()])
    text = await sent(lab, f"{at(lab)} hello")
    await sent(lab, f"{at(lab)} what is this?", ("notes.txt", b"hi"))
    await sent(lab, f"{at(lab)} and this?", reply_to=text)
    await sent(lab, "a picture for everybody", picture_file())
    await sent(lab, f"<@{lab.bob.id}> a picture for Bob", picture_file())
    await sent(lab, "nice", reply_to=theirs)
    # without the privileged intent Discord leaves it out; the menu of the message gives it
    await sent(lab, f"{at(lab)} make it winter", reply_to=theirs)

    await nothing_was_asked_before(lab)


async def test_praise_of_a_result_is_no_request(lab: Lab) -> None:
    job = await posted(lab)

    await sent(lab, "nice!", reply_to=lab.message(job))

    await nothing_was_asked_before(lab)


async def test_a_mention_is_nothing_for_the_log(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.bot.extra_events.pop("on_command_error")  # simcord's, which keeps quiet about it

    await sent(lab, f"{at(lab)} make it winter", picture_file())
    await question(lab)

    assert [each.getMessage() for each in caplog.records if each.levelname == "ERROR"] == []


async def test_other_bots_are_not_answered(lab: Lab) -> None:
    other = lab.guild.add_member(lab.env.create_user("other", bot=True))
    hook = lab.guild.create_webhook(lab.channel)

    await other.send(lab.channel, at(lab), attachments=[picture_file()])
    await hook.send(at(lab), attachments=[picture_file()])

    await nothing_was_asked_before(lab)


async def test_an_avatar_becomes_the_input_of_a_workflow(lab: Lab, comfyui: FakeComfyUI) -> None:
    carol = lab.guild.add_member(lab.env.create_user("carol", avatar="a1b2c3"))
    address = f"https://cdn.discordapp.com/avatars/{carol.id}/a1b2c3.png?size=1024"
    lab.env.backend.cdn._blobs[address] = coloured("red")

    result = await lab.alice.context_menu(lab.channel, "Use avatar as input", carol)
    (choice,) = choices_of(result)
    modal = await lab.alice.select(result.response, ["img2img"], custom_id=choice)
    fields = filled_in(modal)
    await lab.submit(lab.alice, modal, {"img2img": "a tiger"})
    (job,) = await lab.ended(lab.alice)

    assert result.response.ephemeral
    assert words(result.response) == QUESTION
    assert fields == {"img2img": ""}
    assert job.request.text == "a tiger"
    assert pixels(taken(comfyui, job)) == pixels(coloured("red"))


async def test_pictures_of_a_gallery_that_are_not_discords_are_not_offered(lab: Lab) -> None:
    outside = [
        "http://127.0.0.1:9/a.png",
        "https://cdn.discordapp.com@evil.example/a.png",
        "https://cdn.discordapp.com.evil.example/a.png",
        "https://evil.example/cdn.discordapp.com/a.png",
        "https://evil.example#cdn.discordapp.com/a.png",
    ]
    inside = "https://cdn.discordapp.com/attachments/1/2/a.png"

    none = await menu(lab, gallery_of_another_bot(lab, *outside))
    told = await lab.said(none)
    some = await menu(lab, gallery_of_another_bot(lab, *outside, inside))

    assert told == NO_PICTURE
    assert [each["media"]["url"] for each in gallery_in(some.response)] == [inside]


async def menu(lab: Lab, message: discord.Message) -> Any:
    return await lab.alice.context_menu(lab.channel, "Use as input image", message)


def gallery_in(answer: Any) -> list[Any]:
    (container,) = answer.components
    (items,) = [each["items"] for each in container["components"] if each["type"] == 12]
    return items


def gallery_of_another_bot(lab: Lab, *urls: str) -> discord.Message:
    other = lab.guild.add_member(lab.env.create_user("other", bot=True))
    gallery = {"type": 12, "items": [{"media": {"url": each}} for each in urls]}
    message = lab.env.backend.create_message(
        lab.channel.id,
        other.id,
        components=[gallery],
        flags=discord.MessageFlags(components_v2=True).value,
    )
    return lab.message_by_id(message.id)
