"""The audit log: what a change was, for the database and for people."""

import json
from typing import Any

import pytest

from bot.audit import Change, difference, lines
from comfy.phrases import Phrase, say, written
from comfy.workflow import Sidecar
from tests.bot.builders import NOW


def sidecar(**data: Any) -> Sidecar:
    return Sidecar.model_validate(data, strict=False)


def told(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    change = Change(
        at=NOW,
        guild_id=1,
        user_id=2,
        workflow="txt2img",
        action="limit",
        before=before,
        after=after,
    )
    return list(lines(change))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {}, ({}, {})),
        ({"title": "A"}, {"title": "A"}, ({}, {})),
        ({}, {"title": "A"}, ({}, {"title": "A"})),
        ({"title": "A"}, {"title": "B"}, ({"title": "A"}, {"title": "B"})),
        ({"title": "A"}, {}, ({"title": "A"}, {})),
        ({}, {"enabled": False}, ({"enabled": True}, {"enabled": False})),
        ({"allow": {"roles": [1]}}, {}, ({"allow.roles": [1]}, {})),
        (
            {"parameters": {"cfg": {"max": 30, "min": 1}}},
            {"parameters": {"cfg": {"max": 12, "min": 1}}},
            ({"parameters.cfg.max": 30}, {"parameters.cfg.max": 12}),
        ),
        (
            {"parameters": {"cfg": {"min": 0}}},
            {},
            ({"parameters.cfg.min": 0}, {}),
        ),
        (
            {"parameters": {"cfg": {"hidden": True}}},
            {},
            ({"parameters.cfg.hidden": True}, {"parameters.cfg.hidden": False}),
        ),
        (
            {"parameters": {"a": {"targets": [["3", "cfg"]]}}},
            {"parameters": {"a": {"targets": [["3", "steps"]]}}},
            (
                {"parameters.a.targets": [("3", "cfg")]},
                {"parameters.a.targets": [("3", "steps")]},
            ),
        ),
    ],
    ids=["nothing", "the same", "added", "changed", "gone", "off", "allowed", "deep", "zero",
         "hidden", "targets"],
)  # fmt: skip
def test_only_what_differs_is_logged_on_both_sides(
    before: dict[str, Any], after: dict[str, Any], expected: Any
) -> None:
    assert difference(sidecar(**before), sidecar(**after)) == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"title": "A"}, {"title": "B"}, ["title: A → B"]),
        ({}, {"title": "B"}, ["title: B"]),
        ({"title": "A"}, {}, ["title: A → none"]),
        ({"max": 30}, {"max": 0}, ["max: 30 → 0"]),
        ({"hidden": False}, {"hidden": True}, ["hidden: false → true"]),
        ({}, {"allow.roles": [1, 2]}, ["allow.roles: [1, 2]"]),
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, ["a: 1 → none", "b: 2 → 3", "c: 4"]),
        ({}, {}, []),
    ],
    ids=["changed", "added", "gone", "to zero", "truth", "list", "several", "nothing"],
)
def test_a_change_is_told_as_before_and_after(
    before: dict[str, Any], after: dict[str, Any], expected: list[str]
) -> None:
    assert told(before, after) == expected


def test_a_sentence_in_a_change_can_still_be_said_in_other_languages() -> None:
    graph = json.loads(json.dumps(written(say("{number} nodes", number=7))))

    (line,) = told({"graph": graph}, {})

    assert line == "graph: 7 nodes → none"
    assert isinstance(line, Phrase)
    assert isinstance(line.values["before"], Phrase)


def test_a_change_that_reverts_another_is_told_the_other_way_round() -> None:
    one, other = sidecar(title="A"), sidecar(title="B", description="C")

    there, back = difference(one, other), difference(other, one)

    assert told(*there) == ["title: A → B", "description: C"]
    assert told(*back) == ["title: B → A", "description: C → none"]
