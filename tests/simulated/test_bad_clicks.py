"""Clicks, modals and commands that no honest client sends, or that come too late: numbers 89 to 100
of the list of bad inputs. Each is answered in one sentence, or not at all, and changes nothing."""

import logging
import re
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
import simcord
from simcord.actors import _component_interaction

from bot.jobs import Job
from tests.fakes.comfyui import FakeComfyUI
from tests.simulated.lab import Lab, answer_of, opened, told_by, until, words

pytestmark = pytest.mark.asyncio(loop_scope="module")

GONE = "This job is no longer known."
FOREIGN = "Only the person who asked for it, or a moderator, can "
RUN_ALREADY = "run already, or are no longer kept."
NOTHING = ""
FORGED = {
    "92 a job of nobody": ("job:{nobody}:again", GONE),
    "92 a cancel of nobody's": ("job:{nobody}:cancel", GONE),
    "92 an action of another time": ("job:{job}:melt", "This button is from another time."),
    "92 a cancel of what has ended": ("job:{job}:cancel", FOREIGN),
    "92 a question of nobody": ("each:{nobody}", RUN_ALREADY),
    "92 changes that were never made": ("job:{job}:run", RUN_ALREADY),
    "92 100 letters": ("job:" + "x" * 96, NOTHING),
    "92 an id of other letters": ("job:" + "²" * 36 + ":again", GONE),
    "92 an empty one": ("", NOTHING),
    "90 delete": ("job:{job}:delete", FOREIGN),
    "90 spoiler": ("job:{job}:spoiler", FOREIGN),
    "90 collect": ("job:{job}:collect", "."),
    **{
        f"89 {action}": (f"job:{{nobody}}:{action}", GONE)
        for action in (
            "edit",
            "details",
            "vary",
            "send",
            "spoiler",
            "delete",
            "run",
            "original",
            "collect",
            "smaller",
        )
    },
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def comfyui() -> AsyncIterator[FakeComfyUI]:
    async with FakeComfyUI() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory, comfyui: FakeComfyUI) -> AsyncIterator[Lab]:
    """One for all, as nothing that is refused changes anything."""
    async with opened(tmp_path_factory.mktemp("lab"), comfyui.url) as lab:
        yield lab


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def job(lab: Lab) -> Job:
    """Alice's, ended and posted."""
    return await lab.generated("postcard", width=256, height=256)


def sent(comfyui: FakeComfyUI) -> list[tuple[str, str]]:
    return [each for each in comfyui.requests if each[0] != "GET"]


def is_a_sentence(text: str) -> bool:
    return bool(re.fullmatch(r"\S[^\n]{10,500}\.", text)) and "on our side" not in text


async def clicked(lab: Lab, who: Any, job: Job, custom_id: str, *picked: str) -> Any:
    """A click on a message of ours whose one button, or choice, is forged."""
    stored = lab.env.backend.get_message(lab.channel.id, job.message_id)
    kept, kind = stored.components, 3 if picked else 2
    forged = {"type": kind, "custom_id": custom_id, "style": 1, "label": "x"}
    if picked:
        forged |= {"options": [{"label": "x", "value": each} for each in picked]}
    stored.components = [*kept, {"type": 1, "id": 98, "components": [{**forged, "id": 99}]}]
    try:
        data = {"custom_id": custom_id, "component_type": kind, "id": 99, "values": list(picked)}
        return await _component_interaction(who, stored, data)
    finally:
        stored.components = kept


@pytest.mark.parametrize(("custom_id", "expected"), FORGED.values(), ids=FORGED.keys())
async def test_a_forged_or_late_click_is_refused_in_a_sentence_or_does_nothing(
    lab: Lab,
    comfyui: FakeComfyUI,
    job: Job,
    caplog: pytest.LogCaptureFixture,
    custom_id: str,
    expected: str,
) -> None:
    before = sent(comfyui), words(lab.message(job)), len(lab.channel.history())
    custom_id = custom_id.format(job=job.id, nobody=uuid.uuid4())

    with caplog.at_level(logging.WARNING):
        result = await clicked(lab, lab.bob, job, custom_id)
        if expected:
            assert expected in await lab.said(result)

    told = told_by(result)
    assert is_a_sentence(told) if expected else not told
    assert not expected or answer_of(result).ephemeral
    assert (sent(comfyui), words(lab.message(job)), len(lab.channel.history())) == before
    assert await lab.bot.store.recent(lab.bob.id, 1) == []
    assert caplog.records == []


async def test_92_a_picture_that_was_never_there_is_refused_in_private(lab: Lab, job: Job) -> None:
    result = await clicked(lab, lab.bob, job, f"job:{job.id}:vary:weak9")

    assert await lab.said(result) == "I cannot get this picture any more."
    assert answer_of(result).ephemeral


@pytest.mark.parametrize("picked", ["nosuch", "../txt2img", "-", "x" * 100])
async def test_88_a_choice_that_was_never_offered_is_refused(
    lab: Lab, comfyui: FakeComfyUI, job: Job, picked: str
) -> None:
    before = sent(comfyui)

    result = await clicked(lab, lab.bob, job, "use:0", picked)

    assert (await lab.said(result)).startswith("There is no workflow named ")
    assert sent(comfyui) == before


async def test_91_a_modal_that_is_sent_after_the_right_was_lost_is_refused(
    lab: Lab, comfyui: FakeComfyUI, job: Job
) -> None:
    role = lab.guild.create_role("Painters")
    modal = await lab.press(lab.bob, job, "edit")
    before = sent(comfyui)
    await lab.manage("allow", workflow="postcard", role=role)

    result = await lab.submit(lab.bob, modal, {"text": "a fox"})

    told = await lab.said(result)
    await lab.manage("allow", workflow="postcard")
    assert told == f"postcard is only for <@&{role.id}>."
    assert sent(comfyui) == before


@pytest.mark.parametrize("command", ["workflow add", "workflow list", "workflow remove"])
async def test_94_what_needs_a_server_is_not_to_be_had_in_a_direct_message(
    lab: Lab, command: str
) -> None:
    with pytest.raises(
        simcord.SetupError, match=r"No application command|not available|hidden|DM|context"
    ):
        await lab.mod.user.slash(command, workflow="txt2img")


async def test_100_a_hundred_people_in_a_second_wait_in_line_and_the_server_gets_a_few(
    lab: Lab, comfyui: FakeComfyUI
) -> None:
    people = [lab.member(f"alt{number}") for number in range(100)]
    before = len(sent(comfyui))
    comfyui.hold()

    asked = [
        await each.slash(lab.channel, "generate", workflow="postcard", prompt="a cat", width=256)
        for each in people
    ]
    await until(lambda: all(map(answer_of, asked)))
    prompts = len(sent(comfyui)) - before
    usage = await lab.bot.store.usage(people[0].id, datetime.now(UTC))

    odd = [text for each in asked if "** for <@" not in (text := words(each.response))]
    assert odd == []
    assert prompts <= 2
    assert usage.mine == 1
