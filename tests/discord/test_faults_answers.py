"""What ComfyUI, or a proxy in front of it, answers to a prompt and for a picture."""

import asyncio
import logging

import pytest
from aiohttp import web

from bot.config import ServerSettings
from bot.jobs import Job, JobState
from comfy.standin import Pace
from tests.discord.conftest import World
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.spoiled import (
    Accept,
    bad_gateway,
    cut,
    half_of_it,
    nothing,
    reset,
    says,
    spoil,
)


async def ended(world: World) -> Job:
    """Alice's newest job, told and closed."""
    return await world.until_job(lambda job: not job.open)


def asked(comfyui: FakeComfyUI, path: str) -> int:
    return sum(each == path for _, each in comfyui.requests)


# POST /prompt


async def test_a_prompt_that_arrived_with_an_unclear_answer_is_not_sent_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.start()
    monkeypatch.setattr("comfy.client._ANSWER", 0.3)

    for number, how in enumerate((bad_gateway, half_of_it, cut, nothing), 1):
        spoil(world.comfyui, "/prompt", how, times=1)
        await world.posted(await world.generate(prompt=how.__name__))
        assert (await ended(world)).state is JobState.POSTED
        assert asked(world.comfyui, "/prompt") == len(world.comfyui.executed) == number


async def test_a_prompt_that_did_not_arrive_is_sent_again(world: World) -> None:
    await world.start()

    for number, how in enumerate((says(502), reset), 1):
        spoil(world.comfyui, "/prompt", how, times=1)
        await world.posted(await world.generate())
        assert (await ended(world)).state is JobState.POSTED
        assert asked(world.comfyui, "/prompt") == 2 * number
        assert len(world.comfyui.executed) == number


async def test_a_bot_that_ends_before_the_answer_to_a_prompt_finds_it_again(world: World) -> None:
    world.comfyui.hold()
    await world.start()
    spoil(world.comfyui, "/prompt", nothing, times=1)
    interaction = await world.generate()
    await asyncio.wait_for(world.comfyui.held.wait(), 20)
    assert (await world.until_job(lambda job: job.prompt_id)).state is JobState.SUBMITTING

    await world.stop()
    await world.start()
    world.comfyui.finish()

    await world.posted(interaction)
    assert asked(world.comfyui, "/prompt") == len(world.comfyui.executed) == 1


REFUSED = (
    b'{"error": {"type": "prompt_outputs_failed_validation", "message": "", "details": "",'
    b' "extra_info": {}}, "node_errors": {}}'
)
DROPPED = (
    b'{"9": {"errors": [{"type": "required_input_missing", "message": "", "details": "images",'
    b' "extra_info": {}}], "dependent_outputs": ["9"], "class_type": "SaveImage"}}'
)


async def test_a_prompt_that_is_refused_fails_at_once_and_the_next_one_runs(world: World) -> None:
    await world.start()
    refusals = {
        "refused this workflow": says(400, body=REFUSED, content_type="application/json"),
        "too large for the server": says(413, text="Maximum request body size exceeded"),
    }

    for number, (words, how) in enumerate(refusals.items(), 1):
        spoil(world.comfyui, "/prompt", how, times=1)
        text = await world.told(await world.generate(), "It did not work.")
        assert words in text
        assert (await ended(world)).state is JobState.FAILED
        assert asked(world.comfyui, "/prompt") == number

    await world.posted(await world.generate())


async def test_a_prompt_that_is_taken_in_part_is_said_to_be(world: World) -> None:
    async def in_part(_: web.Request, accept: Accept) -> web.Response:
        true = await accept()
        assert isinstance(true.body, bytes)
        told = true.body.replace(b'"node_errors": {}', b'"node_errors": ' + DROPPED)
        return web.Response(body=told, content_type="application/json")

    await world.start()
    spoil(world.comfyui, "/prompt", in_part)

    interaction = await world.generate()

    await world.posted(interaction)
    await world.told(interaction, "Part of the workflow could not run")
    assert len(world.comfyui.executed) == 1


# A server that lets nobody in


async def test_a_server_that_lets_the_bot_no_longer_in_is_parked_and_told(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    true = world.comfyui.answer
    await world.start()
    spoil(world.comfyui, "/", says(401))
    world.comfyui.drop()
    interaction = await world.generate()
    await world.until(lambda: "(HTTP 401)" in caplog.text)

    report = await world.discord.slash(world.mod, world.channel, "test_comfy").answered()
    await world.told(report, "wants other credentials")
    job = await world.pending()

    assert job.attempt == 0
    assert caplog.records[-1].levelno == logging.WARNING
    world.comfyui.answer = true  # type: ignore[method-assign]
    await world.posted(interaction)
    assert len(world.comfyui.executed) == 1


async def test_a_server_that_takes_no_prompts_leaves_them_to_the_others(world: World) -> None:
    async with FakeComfyUI(pace=Pace(0, 0)) as other:
        spoil(world.comfyui, "/prompt", says(403))
        await world.start(
            servers=(
                ServerSettings(name="local", url=world.comfyui.url),
                ServerSettings(name="other", url=other.url),
            )
        )

        await world.posted(await world.generate())

        assert (await ended(world)).attempt == 1
        assert (len(world.comfyui.executed), len(other.executed)) == (0, 1)
        await world.stop()


# GET /view


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are asked for again without a pause."""
    monkeypatch.setattr("bot.spool._PATIENCE", (0.01, 0.01))


PAGE = b"<!DOCTYPE html><html><title>Log in</title></html>"
NO_PICTURES = {
    "gone": (says(404), 1),
    "no bytes": (says(body=b"", content_type="image/png"), 3),
    "a login page": (says(body=PAGE, content_type="text/html"), 3),
    "a way to a login page": (says(302, body=PAGE, content_type="text/html"), 3),
    "a page that says PNG": (says(body=PAGE, content_type="image/png"), 3),
}


@pytest.mark.usefixtures("soon")
async def test_what_is_no_picture_is_told_with_its_reason(world: World) -> None:
    await world.start()

    for name, (how, tries) in NO_PICTURES.items():
        before = asked(world.comfyui, "/view")
        spoil(world.comfyui, "/view", how, times=tries)
        interaction = await world.generate(prompt=name)
        text = await world.told(interaction, "It did not work.")
        assert "no longer on the server" in text
        assert "Log in" not in text
        assert (await ended(world)).state is JobState.FAILED
        assert asked(world.comfyui, "/view") - before == tries, name
        assert not world.files(interaction)


@pytest.mark.usefixtures("soon")
async def test_a_picture_that_comes_broken_at_first_is_posted_whole(world: World) -> None:
    await world.start()

    for number, how in enumerate((cut, reset, says(502), says(500), says(body=b"")), 1):
        spoil(world.comfyui, "/view", how, times=2)
        files = await world.posted(await world.generate(prompt=f"cat {number}"))
        assert [data[-8:] for data in files.values()] == [b"IEND\xaeB`\x82"]
        assert asked(world.comfyui, "/view") == 3 * number

    assert len(world.comfyui.executed) == 5


async def test_a_bot_that_ends_while_a_picture_comes_asks_for_it_again(world: World) -> None:
    await world.start()
    spoil(world.comfyui, "/view", nothing, times=1)
    interaction = await world.generate()
    await world.until(lambda: asked(world.comfyui, "/view"))

    await world.stop()
    await world.start()

    await world.posted(interaction)
    assert (await ended(world)).state is JobState.POSTED
    assert len(world.comfyui.executed) == 1
    assert list(world.bot.config.spool.iterdir()) == []
