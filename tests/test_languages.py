"""Every text can be said in every language, and nothing is left over in a catalogue."""

import re
from collections.abc import Iterable

import pytest
from babel.messages.catalog import Catalog, Message

from bot.languages import FOLDER, language
from comfy.phrases import say, say_count
from docs.update_languages import catalogue, command_texts, texts_in_code

LOCALES = sorted(path.stem for path in FOLDER.glob("*.po"))


@pytest.fixture(scope="module")
def texts() -> Catalog:
    return texts_in_code()


def forms(text: object) -> tuple[str, ...]:
    """One text, or the singular and plurals."""
    return (text,) if isinstance(text, str) else tuple(text)  # type: ignore[arg-type]


def keys(messages: Iterable[Message]) -> set[tuple[str | None, tuple[str, ...]]]:
    return {(each.context, forms(each.id)) for each in messages if each.id}


def placeholders(text: str) -> set[str]:
    return set(re.findall(r"(?<!{){(\w+)}", text))


def test_there_are_texts_of_every_kind(texts: Catalog) -> None:
    found = keys(texts)

    assert (None, ("Again",)) in found  # a button
    assert (None, ("Run a workflow and post the pictures here.",)) in found  # a description
    assert (None, ("Use as input image",)) in found  # a menu
    assert (None, ("The prompt is empty. Say what the picture should show.",)) in found


@pytest.mark.parametrize("locale", LOCALES)
def test_a_catalogue_holds_the_texts_of_the_code_and_no_others(locale: str, texts: Catalog) -> None:
    assert keys(catalogue(locale)) == keys(texts), "run docs/update_languages.py"


@pytest.mark.parametrize("locale", LOCALES)
def test_no_text_is_missing(locale: str) -> None:
    missing = [
        each.id
        for each in catalogue(locale)
        if each.id and (each.fuzzy or not all(forms(each.string)))
    ]

    assert missing == []


@pytest.mark.parametrize("locale", LOCALES)
def test_a_translation_names_only_values_that_its_text_has(locale: str) -> None:
    for each in catalogue(locale):
        known = {name for form in forms(each.id) for name in placeholders(form)}
        for said in forms(each.string):
            assert placeholders(said) <= known | {"number"}, each.id
            if known:
                said.format(**dict.fromkeys(known | {"number"}, ""))


@pytest.mark.parametrize("locale", LOCALES)
async def test_descriptions_and_menus_fit_into_discords(locale: str) -> None:
    described, menus = await command_texts()

    for each in described:
        assert 1 <= len(language(locale).line(each)) <= 100, each
    for each in menus:
        assert 1 <= len(language(locale).line(each)) <= 32, each


def test_a_phrase_is_its_english_text_and_can_be_said_otherwise() -> None:
    phrase = say("`{job}` is cancelled.", job="1a2b3c4d")

    assert phrase == "`1a2b3c4d` is cancelled."
    assert language("en-US").said(phrase) == phrase
    assert language("zh-CN").said(phrase) != phrase
    assert "1a2b3c4d" in language("zh-CN").said(phrase)


def test_a_value_of_a_phrase_is_said_in_the_same_language() -> None:
    number = say_count("{number} request", "{number} requests", 2)
    phrase = say("Deleted: {requests}. Jobs that just end go a moment later.", requests=number)

    assert phrase == "Deleted: 2 requests. Jobs that just end go a moment later."
    assert "requests" not in language("zh-CN").said(phrase)


@pytest.mark.parametrize("locale", ["xx", "../de", ""])
def test_a_language_that_nobody_wrote_is_english(locale: str) -> None:
    assert language(locale)("Again") == "Again"


def test_words_of_people_are_never_taken_for_a_template() -> None:
    assert language("en-US")("{name} is gone.", name="{job}") == "{job} is gone."
