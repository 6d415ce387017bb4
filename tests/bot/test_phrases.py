"""Sentences that can be said in other languages: kept, read again, and said to each in theirs."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import simcord.interactions
from discord import ui
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.cards import failure_card, result_card, status_lines
from bot.errors import OUT_OF_MEMORY
from bot.jobs import Job
from bot.jobs import JobState as S
from bot.languages import language
from bot.store import Store
from comfy.phrases import Phrase, read, say, say_count, written
from tests.bot.rows import kept
from tests.fakes.comfyui import FakeComfyUI
from tests.simulated.lab import Lab, opened, words

CHINESE, ENGLISH = language("zh-CN"), language("en-US")
SMALL = {"width": 256, "height": 256}  # painted in no time

text = st.text(st.sampled_from("{}a") | st.characters(exclude_categories=["Cs"]), max_size=8)
plain = text | st.integers() | st.floats(allow_nan=False) | st.booleans()


@st.composite
def phrases_of(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> Phrase:
    """A phrase with some values, in a template that names some of them."""
    values = draw(st.dictionaries(st.sampled_from(["name", "why", "_1"]), inner, max_size=3))

    def template(names: list[str]) -> str:
        literals = text.map(lambda each: each.replace("{", "{{").replace("}", "}}"))
        places = st.sampled_from(["", *(f"{{{name}}}" for name in names)])
        return "".join(draw(st.lists(literals | places, max_size=5)))

    if draw(st.booleans()):
        return say(template([*values]), **values)
    names = [*values, "number"]
    return say_count(template(names), template(names), draw(st.integers(0, 3)), **values)


phrases = phrases_of(st.recursive(plain, phrases_of, max_leaves=5))


def taken_apart(value: Any) -> Any:
    """All that a phrase is: two of the same text would be equal otherwise."""
    if not isinstance(value, Phrase):
        return type(value), value
    values = {name: taken_apart(each) for name, each in value.values.items()}
    return str(value), value.template, value.many, value.number, values


# Phrases


@given(phrases)
@settings(max_examples=50)
def test_a_phrase_that_was_kept_is_the_same_phrase(phrase: Phrase) -> None:
    data = json.loads(json.dumps(phrase.to_json(), ensure_ascii=False))

    assert taken_apart(read(data)) == taken_apart(phrase)


@given(plain)
def test_what_is_no_phrase_comes_back_as_it_is(value: Any) -> None:
    assert taken_apart(read(json.loads(json.dumps(written(value))))) == taken_apart(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "None"), (PurePosixPath("a/b"), "a/b"), ([1], "[1]")],
    ids=["nothing", "a path", "a list"],
)
def test_any_other_value_is_kept_as_its_text(value: Any, expected: str) -> None:
    phrase = read(say("{value}!", value=value).to_json())

    assert (phrase, phrase.values) == (f"{expected}!", {"value": expected})


@pytest.mark.parametrize(
    "data", [{}, {"say": "a"}, {"say": ["a"], "values": {}}, {"say": ["a", "b", None]}, [], 7, None]
)
def test_what_nobody_wrote_as_a_phrase_is_read_as_it_is(data: Any) -> None:
    assert read(data) == data


def test_a_phrase_is_a_text() -> None:
    phrase = say("{name} is gone.", name="a.png")

    assert isinstance(phrase, str)
    assert phrase == "a.png is gone."
    assert phrase in {"a.png is gone."}
    assert f"{phrase} Sorry." == "a.png is gone. Sorry."
    assert json.dumps(phrase) == '"a.png is gone."'
    assert phrase.startswith("a.png")


def test_words_of_people_are_no_templates() -> None:
    phrase = say("{name} is gone.", name="{why}", why="secret")

    assert phrase == read(phrase.to_json()) == ENGLISH.said(phrase) == "{why} is gone."
    assert "secret" not in CHINESE.said(phrase)


@pytest.mark.parametrize(("number", "expected"), [(0, "0 jobs"), (1, "1 job"), (2, "2 jobs")])
def test_a_number_chooses_its_words(number: int, expected: str) -> None:
    phrase = say_count("{number} job", "{number} jobs", number)

    assert phrase == read(phrase.to_json()) == ENGLISH.said(phrase) == expected


@given(phrases)
@settings(max_examples=30)
def test_whatever_the_phrase_it_can_be_said_where_nobody_translated_it(phrase: Phrase) -> None:
    assert ENGLISH.said(phrase) == str(phrase)


# Notes of jobs


def shown(card: ui.LayoutView) -> str:
    texts = [each.content for each in card.walk_children() if isinstance(each, ui.TextDisplay)]
    return "\n".join(texts)


async def again(store: Store, job: Job) -> Job:
    found = await store.get(job.id)
    assert found is not None
    return found


async def test_a_stored_failure_is_told_in_the_language_of_who_asked(store: Store) -> None:
    why = say("Discord refused the message: {why}", why=say("{seconds} s", seconds=4))
    job = await again(store, await kept(store, 1, S.FAILED, note=why, locale="zh-CN"))

    assert f"**{CHINESE('It did not work.')}** {CHINESE.said(why)}" in shown(failure_card(job))
    assert CHINESE.said(why) != why


async def test_a_stored_failure_is_listed_in_the_language_of_who_looks(store: Store) -> None:
    job = await again(store, await kept(store, 1, S.FAILED, note=OUT_OF_MEMORY, locale="zh-CN"))

    assert str(OUT_OF_MEMORY) in status_lines(job, ENGLISH)
    assert CHINESE.said(OUT_OF_MEMORY) in status_lines(job, CHINESE)


async def test_what_memory_lacked_is_still_known_after_a_restart(store: Store) -> None:
    job = await again(store, await kept(store, 1, S.FAILED, note=OUT_OF_MEMORY, locale="zh-CN"))

    buttons = [b.label for b in failure_card(job).walk_children() if isinstance(b, ui.Button)]

    assert buttons[0] == CHINESE("Again at 75 % size")


async def test_a_note_of_another_language_and_a_plain_one_stand_under_a_result(
    store: Store,
) -> None:
    left_out = say("{file} is no longer on the server.", file="a.png")
    note = say("Part of the workflow could not run and was left out.")
    job = await again(store, await kept(store, 1, S.EXECUTED, note=note, locale="zh-CN"))

    text = shown(result_card(job, 0, 1, [], [left_out, "as it is"]))

    assert f"⚠ {CHINESE.said(left_out)}\n" in text
    assert f"⚠ {CHINESE.said(note)}" in text
    assert "⚠ as it is\n" in text


# Who speaks what


@pytest.fixture
async def lab(tmp_path: Path, comfyui: FakeComfyUI) -> AsyncIterator[Lab]:
    async with opened(tmp_path, comfyui.url) as lab:
        yield lab


@pytest.fixture
def speaks(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], None]:
    """Gives a person a language; simcord says of everybody that it is English."""
    languages: dict[int, str] = {}
    payload_of = simcord.interactions.base_payload

    def in_language(*args: Any, **options: Any) -> Any:
        record, payload = payload_of(*args, **options)
        return record, {**payload, "locale": languages.get(options["user_id"], "en-US")}

    monkeypatch.setattr(simcord.interactions, "base_payload", in_language)
    return lambda who, locale: languages.update({who.id: locale})


async def test_a_job_that_was_asked_for_in_chinese_is_chinese_from_its_place_to_its_result(
    lab: Lab, comfyui: FakeComfyUI, speaks: Callable[[Any, str], None]
) -> None:
    speaks(lab.alice, "zh-CN")
    comfyui.hold()
    asked = {"workflow": "postcard", "prompt": "a cat", **SMALL}

    waiting = words(await lab.ask(lab.alice, "generate", **asked))
    comfyui.finish()
    (job,) = await lab.ended(lab.alice)
    result = words(lab.message(job))

    person = CHINESE("**{workflow}** for {person}", workflow="postcard", person=lab.alice.mention)
    assert job.request.locale == "zh-CN"
    assert waiting.startswith(person)
    assert CHINESE("Queued, {place} in line.", place="1st", number=1) in waiting
    assert waiting.splitlines()[-1] == CHINESE("Cancel") != "Cancel"
    assert result.startswith(f"{person}\n> a cat\n")
    labels = ("Again", "Edit", "Details", "Vary", "Send to…", "Spoiler", "Delete")
    assert result.splitlines()[-7:] == [CHINESE(each) for each in labels]


async def test_a_failure_and_its_buttons_are_in_the_language_of_who_asked(
    lab: Lab, comfyui: FakeComfyUI, speaks: Callable[[Any, str], None]
) -> None:
    speaks(lab.alice, "zh-CN")
    comfyui.fail()

    await lab.ask(lab.alice, "generate", workflow="txt2img", prompt="a cat", **SMALL)
    (job,) = await lab.ended(lab.alice)
    text = words(lab.message(job))

    assert f"**{CHINESE('It did not work.')}** {CHINESE.said(OUT_OF_MEMORY)}" in text
    assert CHINESE("Again at 75 % size") in text


async def test_errors_and_questions_are_in_the_language_of_who_clicks(
    lab: Lab, speaks: Callable[[Any, str], None]
) -> None:
    speaks(lab.alice, "zh-CN")
    speaks(lab.bob, "en-US")
    asked = {"workflow": "postcard", "prompt": "a cat", **SMALL}
    await lab.ask(lab.alice, "generate", **asked)
    await lab.ask(lab.bob, "generate", **asked)
    (hers,), (his,) = await lab.ended(lab.alice), await lab.ended(lab.bob)

    refused = "Only the person who asked for it, or a moderator, can do that."
    assert await lab.pressed(lab.bob, hers, "delete") == refused
    assert await lab.pressed(lab.alice, his, "delete") == CHINESE(refused)
    question = words((await lab.press(lab.alice, his, "vary")).response).splitlines()
    assert question == [CHINESE(e) for e in ("How much may it change?", "A little", "A lot")]
    several = await lab.told(lab.alice, "generate", workflow="postcard", prompt="{a|b}")
    assert several.splitlines()[0] == CHINESE("This makes {number} jobs:", number=2)
    unknown = await lab.told(lab.alice, "generate", preset="none", prompt="a cat")
    template = "There is no preset {name}. `/preset list` shows yours."
    assert unknown == CHINESE(template, name="none")


async def test_again_of_a_chinese_job_is_in_the_language_of_who_clicks(
    lab: Lab, speaks: Callable[[Any, str], None]
) -> None:
    speaks(lab.alice, "zh-CN")
    await lab.ask(lab.alice, "generate", workflow="postcard", prompt="a cat", **SMALL)
    (hers,) = await lab.ended(lab.alice)

    told = await lab.pressed(lab.bob, hers, "again")
    (own,) = await lab.ended(lab.bob)

    assert "Queued, 1st in line." in told
    assert own.request.locale == "en-US"
    assert "Send to…" in words(lab.message(own))
