"""What somebody wants, as data."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bot.wishes import Wish

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
perhaps = st.none() | words
value = words | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.just("")
wishes = st.builds(
    Wish,
    workflow=st.just("") | words,
    prompt=perhaps,
    node=perhaps,
    values=st.dictionaries(words, value),
    settings=perhaps,
    overrides=perhaps,
    files=st.dictionaries(words, words),
    private=st.booleans(),
    parent=perhaps,
    relation=st.just("") | words,
)


def through(wish: Wish) -> Wish:
    data: dict[str, Any] = json.loads(json.dumps(wish.to_json(), ensure_ascii=False))
    return Wish.from_json(data)


@given(wishes)
def test_a_wish_comes_back_as_it_was_kept(wish: Wish) -> None:
    assert through(wish) == wish


def test_what_is_kept_is_no_part_of_the_wish() -> None:
    wish = Wish(values={"steps": 20})

    wish.to_json()["values"]["steps"] = 30

    assert wish.values == {"steps": 20}


def test_what_nobody_said_is_not_kept() -> None:
    assert Wish(workflow="txt2img", prompt="a cat").to_json() == {
        "workflow": "txt2img",
        "prompt": "a cat",
        "private": False,
    }


def test_a_value_of_nought_and_an_empty_text_are_values() -> None:
    wish = Wish(values={"seed": 0, "negative": "", "tiled": False})

    assert through(wish).values == {"seed": 0, "negative": "", "tiled": False}
