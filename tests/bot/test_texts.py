"""Small forms of text, and other people's words made harmless."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.texts import bar, duration, neutral, ordinal, size


def live(mark: str, text: str) -> bool:
    """Whether Discord would read *mark* as more than a letter."""
    return re.search(rf"(?<!\\)(\\\\)*{re.escape(mark)}", text) is not None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("a red cat, 4k", "a red cat, 4k"),
        ("кошка 🐈 ねこ", "кошка 🐈 ねこ"),
        ("@everyone and @here", "@\u200beveryone and @\u200bhere"),
        ("<@12345>", r"\<@12345\>"),
        ("<@&12> <#34>", r"\<@&12\> \<\#34\>"),
        ("</generate:1>", r"\</generate:1\>"),
        ("**bold** _thin_ ~~out~~", r"\*\*bold\*\* \_thin\_ \~\~out\~\~"),
        ("||hidden||", r"\|\|hidden\|\|"),
        ("`code` ```", r"\`code\` \`\`\`"),
        (r"\*", r"\\\*"),
        ("- a list", r"\- a list"),
        ("one\ntwo\r\n\tthree", "one two three"),
        ("  much   room  ", "much room"),
        ("\u202etac a\u202c", "tac a"),
        ("c\u200ba\u200dt\ufeff", "cat"),
        ("c\x00a\x1bt\x7f", "cat"),
        ("c\ud800at", "cat"),
        ("", ""),
    ],
    ids=[
        "plain", "any script", "everyone", "person", "role and channel", "command", "bold",
        "spoiler", "code", "backslash", "list", "line breaks", "spaces", "right to left",
        "zero width", "controls", "lone surrogate", "nothing",
    ],
)  # fmt: skip
def test_words_lose_their_power_and_keep_their_letters(words: str, expected: str) -> None:
    assert neutral(words) == expected


@pytest.mark.parametrize(
    "words",
    [
        "# big", "> quote", "- one", "[a](b)", "<x:/**bold**>", "https://h/a_b", "a#b@c",
        "a-b 1. (c) !d", "a\\b",
    ],
    ids=[
        "heading", "quote", "list", "link", "command", "address", "number", "other marks",
        "backslash",
    ],
)  # fmt: skip
def test_what_people_see_is_what_was_written(words: str) -> None:
    shown = neutral(words)

    seen = re.sub(r"\\([^A-Za-z0-9\s])", r"\1", shown).replace("\u200b", "")
    assert seen == words
    assert not any(live(mark, shown) for mark in "[]<>*#_")


def test_a_masked_link_is_none() -> None:
    shown = neutral("[a gift](https://evil.example) [one](https://a.example) [b](c)")

    assert not live("]", shown)


def test_long_words_are_cut() -> None:
    assert neutral("a" * 300) == "a" * 300
    assert neutral("a" * 301) == "a" * 299 + "…"
    assert neutral("one two three", 7) == "one tw…"


def test_a_cut_is_made_before_the_escapes_so_that_none_is_halved() -> None:
    assert neutral("*" * 10, 4) == r"\*\*\*…"


@given(st.text(alphabet=st.characters() | st.sampled_from("@<>[]()`*_~|#-\\ \n\u202e\u200b")))
def test_no_words_break_out_of_their_line(words: str) -> None:
    shown = neutral(words)

    assert len(shown) <= 700
    assert not any(unicodedata.category(each) in ("Cc", "Cs") for each in shown)
    assert not re.search("@(everyone|here)", shown)
    assert not live("]", shown)
    assert not live("<", shown)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (10, "10th"), (11, "11th"),
        (12, "12th"), (13, "13th"), (20, "20th"), (21, "21st"), (22, "22nd"), (101, "101st"),
        (111, "111th"), (1000, "1000th"),
    ],
    ids=str,
)  # fmt: skip
def test_places_are_counted(number: int, expected: str) -> None:
    assert ordinal(number) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0.0 s"),
        (4.25, "4.2 s"),
        (59.4, "59.4 s"),
        (60, "1 min 0 s"),
        (185.4, "3 min 5 s"),
        (3599.4, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (3725, "1 h 2 min"),
    ],
    ids=str,
)
def test_durations_are_read_at_a_glance(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("fraction", "filled"), [(0.0, 0), (0.04, 0), (0.5, 6), (0.99, 12), (1.0, 12)], ids=str
)
def test_a_bar_is_always_as_wide(fraction: float, filled: int) -> None:
    assert bar(fraction) == "▰" * filled + "▱" * (12 - filled)


def test_a_bar_can_be_short() -> None:
    assert bar(0.5, 4) == "▰▰▱▱"


def test_sizes_are_in_megabytes() -> None:
    assert (size(0), size(10 * 2**20), size(1_500_000)) == ("0.0 MB", "10.0 MB", "1.4 MB")
