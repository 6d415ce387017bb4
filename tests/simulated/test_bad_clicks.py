"""Clicks, modals and commands that no honest client sends, or that come too late: each is answered
in one sentence, or not at all, and changes nothing. The answers stand in docs/bad-inputs.md."""

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

from bot.jobs import Job, JobState
from tests.fakes.comfyui import FakeComfyUI
from tests.simulated.bad import warnings
from tests.simulated.documented import answered, named
from tests.simulated.lab import Lab, answer_of, opened, told_by, until, words

pytestmark = pytest.mark.asyncio(loop_scope="module")

GONE = "This job is no longer known."
FOREIGN = "Only the person who asked for it, or a moderator, can "
RUN_ALREADY = "run already, or are no longer kept."
NOTHING = ""
SILENT = "Nothing."
ONCE = "Nothing more: it counts once."
ELSEWHERE = "Nothing: Discord does not offer it there."
TOO_LATE = "Nothing: Discord says itself that the bot did not answer. No job is made."
PIXELS = {"width": 256, "height": 256}  # painted in no time
SMALL = {"workflow": "postcard", "prompt": "a cat", **PIXELS}
FORGED = {
    "92 a button of a job that never was": ("job:{nobody}:again", GONE),
    "a cancel of nobody's": ("job:{nobody}:cancel", GONE),
    "92 a button that the bot does not know (any more)": (
        "job:{job}:melt",
        "This button is from another time.",
    ),
    "90 Cancel, pressed by somebody else": ("job:{job}:cancel", FOREIGN),
    '92 "Run all" of a question that never was': ("each:{nobody}", RUN_ALREADY),
    '92 "Run" of changes that were never made': ("job:{job}:run", RUN_ALREADY),
    "92 a button's id of 100 letters": ("job:" + "x" * 96, NOTHING),
    "92 a job's id of odd letters": ("job:" + "²" * 36 + ":again", GONE),
    "92 a button's id without a letter": ("", NOTHING),
    "90 Delete, pressed by somebody else": ("job:{job}:delete", FOREIGN),
    "90 Spoiler, pressed by somebody else": ("job:{job}:spoiler", FOREIGN),
    '90 "Get result", pressed by somebody else': ("job:{job}:collect", "."),
    "89 a button of a job that was deleted": ("job:{nobody}:again", GONE),
    **{
        f"gone: {action}": (f"job:{{nobody}}:{action}", GONE)
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


@pytest.mark.parametrize(("row", "custom_id", "expected"), named(FORGED))
async def test_a_forged_or_late_click_is_refused_in_a_sentence_or_does_nothing(
    lab: Lab,
    comfyui: FakeComfyUI,
    job: Job,
    caplog: pytest.LogCaptureFixture,
    row: str,
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
    assert warnings(caplog) == []
    answered(row, told or SILENT)


async def test_a_picture_that_was_never_there_is_refused_in_private(lab: Lab, job: Job) -> None:
    result = await clicked(lab, lab.bob, job, f"job:{job.id}:vary:weak9")

    told = await lab.said(result)
    assert told == "I cannot get this picture any more."
    assert answer_of(result).ephemeral
    answered("92 the ninth picture of a result that has one", told)


@pytest.mark.parametrize("picked", ["nosuch", "../txt2img", "-", "x" * 100])
async def test_a_choice_that_was_never_offered_is_refused(
    lab: Lab, comfyui: FakeComfyUI, job: Job, picked: str
) -> None:
    before = sent(comfyui)

    result = await clicked(lab, lab.bob, job, "use:0", picked)

    told = await lab.said(result)
    assert told.startswith("There is no workflow named ")
    assert sent(comfyui) == before
    if picked == "nosuch":
        answered("88 a choice that the menu did not offer", told)


async def test_a_modal_that_is_sent_after_the_right_was_lost_is_refused(
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
    answered("91 a form whose workflow was closed to its member meanwhile", told)


@pytest.mark.parametrize("command", ["workflow add", "workflow list", "workflow remove"])
async def test_what_needs_a_server_is_not_to_be_had_in_a_direct_message(
    lab: Lab, command: str
) -> None:
    with pytest.raises(
        simcord.SetupError, match=r"No application command|not available|hidden|DM|context"
    ):
        await lab.mod.user.slash(command, workflow="txt2img")
    answered("94 a moderator's command in a direct message", ELSEWHERE)


async def test_a_double_click_makes_one_job(lab: Lab, comfyui: FakeComfyUI, job: Job) -> None:
    carol = lab.member("carol")

    first = await lab.press(carol, job, "again")
    second = await lab.press(carol, job, "again")

    assert " for <@" in words(first.response)
    assert words(second.response) == words(lab.message(job))  # which stays as it was
    assert not second.followups
    await lab.ended(carol, 1)
    answered("93 a double click on Again", ONCE)


async def test_an_interaction_that_comes_twice_makes_one_job(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    dora, emit = lab.member("dora"), lab.env.backend.emit
    told: list[dict[str, Any]] = []

    def heard(name: str, payload: dict[str, Any]) -> None:
        told.extend([payload] if name == "INTERACTION_CREATE" else [])
        emit(name, payload)

    monkeypatch.setattr(lab.env.backend, "emit", heard)
    await lab.ask(dora, "generate", **SMALL)
    seen = len(lab.channel.history())
    emit("INTERACTION_CREATE", told[0])
    await lab.env.settle(timeout=10)

    await lab.ended(dora, 1)
    assert len(lab.channel.history()) == seen
    answered("97 the same command, sent by Discord twice", ONCE)


async def test_an_answer_after_three_seconds_makes_no_job(lab: Lab, comfyui: FakeComfyUI) -> None:
    before, emil = sent(comfyui), lab.member("emil")
    lab.env.inject_error("POST", "/interactions/*", status=404, code=10062)

    await emil.slash(lab.channel, "generate", **SMALL)

    assert await lab.bot.store.recent(emil.id, 1) == []
    assert sent(comfyui) == before
    answered("96 a command that reaches the bot after three seconds", TOO_LATE)


async def test_a_thread_of_an_ordinary_channel_gets_nothing_that_is_age_restricted(
    lab: Lab, comfyui: FakeComfyUI
) -> None:
    before = sent(comfyui)
    await lab.manage("allow", workflow="postcard", age_restricted=True)
    lab.env.backend.create_thread(lab.channel.id, "a thread", lab.bob.id)

    told = words(await lab.ask(lab.bob, "generate", at=lab.channel.threads[-1], **SMALL))

    await lab.manage("allow", workflow="postcard", age_restricted=False)
    assert told == "postcard works only in age-restricted channels."
    assert sent(comfyui) == before
    answered("99 an age-restricted workflow in a thread of an ordinary channel", told)


async def test_what_a_locked_thread_does_not_take_is_kept(lab: Lab, comfyui: FakeComfyUI) -> None:
    fay = lab.member("fay")
    lab.env.backend.create_thread(lab.channel.id, "another thread", fay.id)
    thread = lab.channel.threads[-1]
    messages = f"/channels/{thread.id}/messages"
    comfyui.hold()
    await lab.ask(fay, "generate", at=thread, **SMALL)
    lab.env.inject_error("PATCH", f"{messages}/*", status=400, code=50083, times=None)
    denied = {"status": 403, "code": 50013, "message": "Missing Permissions"}
    lab.env.inject_error("POST", messages, times=None, **denied)

    comfyui.finish()

    (job,) = await lab.ended(fay, 1)
    told = await lab.told(fay, "history")
    lab.env.backend.faults.clear()
    assert job.short_id in told
    (why,) = (line for line in told.splitlines() if "Discord does not let" in line)
    answered("95 a picture for a thread that was locked meanwhile", why.removeprefix("-# "))


async def test_who_is_banned_gets_nothing_more(lab: Lab, comfyui: FakeComfyUI) -> None:
    hal = lab.member("hal")
    comfyui.hold()
    await lab.ask(hal, "generate", **SMALL)

    await lab.ask(lab.mod, "ban", user=hal)
    comfyui.finish()

    (job,) = await lab.ended(hal, 1)
    told = words(lab.message(job))
    assert job.state is JobState.CANCELLED
    assert lab.message(job).attachments == []
    answered(
        "98 a command of somebody who is banned before its picture is there", told.splitlines()[2]
    )
    before = sent(comfyui)
    refused = await lab.told(hal, "generate", **SMALL)
    clicked = await lab.pressed(hal, await lab.generated("postcard", **PIXELS), "again")
    assert refused == clicked == "You may not use me here any more."
    assert len(sent(comfyui)) == len(before) + 1  # Alice's
    answered("98 a command of somebody who was banned", refused)


async def test_a_word_that_was_blocked_meanwhile_is_not_run_again(
    lab: Lab, comfyui: FakeComfyUI, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = lab.bot.config.limits.model_copy(update={"blocked_words": ("cat",)})
    monkeypatch.setattr(lab.bot, "config", lab.bot.config.model_copy(update={"limits": limits}))
    before, ida = sent(comfyui), lab.member("ida")

    told = await lab.pressed(ida, job, "again")

    assert told == "This holds a word that is not allowed here. Say it another way."
    assert sent(comfyui) == before
    answered("39 Again of a picture with a word that was blocked meanwhile", told)


async def test_one_person_has_so_many_jobs_and_no_more(lab: Lab, comfyui: FakeComfyUI) -> None:
    gus = lab.member("gus")
    comfyui.hold()

    asked = [words(await lab.ask(gus, "generate", **SMALL)) for _ in range(10)]

    comfyui.finish()
    refused = [each for each in asked if " for <@" not in each]
    assert len(refused) == 5
    assert len(set(refused)) == 1
    await lab.ended(gus, 5)
    answered("100 ten commands in a second", refused[0])


async def test_a_hundred_people_in_a_second_wait_in_line_and_the_server_gets_a_few(
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
    answered("100 a command of each of a hundred people in a second", "A hundred jobs, in line.")
