"""Sidecars: what is read, what is refused and why, and that writing and reading are one."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfy.errors import WorkflowFileError
from comfy.workflow import Allowed, ParameterSettings, Sidecar, dump_sidecar, parse_sidecar


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("titel: Cats", "has a sidecar with an unknown key `titel`."),
        ("title: [Cats]", "wrong title: Input should be a valid string"),
        ("title: no", "wrong title"),
        ("title: 5", "wrong title"),
        ("- a", "wrong the file"),
        ("just words", "wrong the file"),
        ("parameters: [steps]", "wrong parameters"),
        ("parameters: {steps: {maximum: 5}}", "an unknown key `parameters.steps.maximum`."),
        ("parameters: {steps: {max: many}}", "wrong parameters.steps.max"),
        ("parameters: {steps: {max: .inf}}", "wrong parameters.steps.max"),
        ("parameters: {steps: {min: .nan}}", "wrong parameters.steps.min"),
        ("parameters: {steps: 5}", "wrong parameters.steps"),
        ("parameters: {1: {max: 5}}", "wrong parameters.1"),
        ("parameters: {a: {targets: [x]}}", "wrong parameters.a.targets.0"),
        ('parameters: {a: {targets: [["3"]]}}', "wrong parameters.a.targets.0"),
        ("parameters: {a: {targets: [[3, seed]]}}", "wrong parameters.a.targets.0.0"),
        ("parameters: {a: {default: [1]}}", "wrong parameters.a.default"),
        ("title: a\nb: : c\n", "not plain YAML at line 2"),
        ("title: 'open\n", "not plain YAML at line"),
        ("title: !!python/object:os.system x", "not plain YAML at line 1"),
        ("title: *unknown", "not plain YAML at line 1."),
        ("a: &a 1\nb: *a\n", "not plain YAML at line 2."),
        ("title: a\x00b", "is not plain YAML."),
        ("title: 2024-13-45", "is not plain YAML."),
        ("title: 0x_", "is not plain YAML."),
        ("title: !!int x", "is not plain YAML."),
        ("title: !!int ''", "is not plain YAML."),
        ("title: !!float ''", "is not plain YAML."),
        ("title: !!bool x", "is not plain YAML."),
        ("title: !!timestamp x", "is not plain YAML."),
        ("title: " + "[" * 1000, "is not plain YAML"),
        ("title: " + "9" * 5000, "is not plain YAML."),
    ],
    ids=lambda value: value[:40],
)
def test_a_sidecar_with_a_fault_is_refused_by_its_key_or_line(text: str, told: str) -> None:
    with pytest.raises(WorkflowFileError) as caught:
        parse_sidecar(text)

    assert told in str(caught.value)


@pytest.mark.parametrize("text", ["", "# a comment\n", "{}"], ids=["empty", "comment", "object"])
def test_a_sidecar_may_be_empty(text: str) -> None:
    assert parse_sidecar(text).parameters == {}


NINE_LINES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        NINE_LINES,
        "title: &a Cats\ndescription: *a\n",
        "a: &a {title: Cats}\n<<: *a\n",
        "title: !!python/name:os.system\n",
        "title: !!python/object/apply:os.system [ls]\n",
        "title: !mine Cats\n",
        "title: !<tag:example.com,2000:x> Cats\n",
        "title: Cats\n---\ntitle: Dogs\n",
        "title: Cats\n\tdescription: x\n",
    ],
    ids=[
        "a bomb of aliases",
        "an alias",
        "a merged alias",
        "a name of Python's",
        "a call of Python's",
        "a tag of its own",
        "a full tag",
        "two documents",
        "a tab",
    ],
)
def test_a_sidecar_is_plain_yaml(text: str) -> None:
    with pytest.raises(
        WorkflowFileError, match=r"^has a sidecar that is not plain YAML( at line \d)?\.$"
    ):
        parse_sidecar(text)


def test_a_sidecar_has_at_most_64_kb() -> None:
    text = "title: Cats\n#"
    full = text + "x" * (64 * 1024 - len(text))

    assert parse_sidecar(full).title == "Cats"
    with pytest.raises(WorkflowFileError, match=r"^has a sidecar larger than 64 KB\.$"):
        parse_sidecar(full + "x")


def test_what_is_set_twice_is_refused_as_one_of_the_two_would_be_lost() -> None:
    with pytest.raises(WorkflowFileError):
        parse_sidecar("enabled: false\ntitle: Cats\nenabled: true\n")


# Read and written


WRITTEN = """\
title: Cats
description: Only "good" ones
enabled: false
allow:
  roles:
  - 123456789012345678
  channels:
  - 5
parameters:
  steps:
    default: 20
    min: 1
    max: 50
  mine:
    targets:
    - - '3'
      - cfg
    - - '12:5'
      - cfg
    default: 4.5
    description: How strict
    hidden: true
"""
SETTINGS = Sidecar(
    title="Cats",
    description='Only "good" ones',
    enabled=False,
    allow=Allowed(roles=[123456789012345678], channels=[5]),
    parameters={
        "steps": ParameterSettings(default=20, min=1, max=50),
        "mine": ParameterSettings(
            targets=[("3", "cfg"), ("12:5", "cfg")],
            default=4.5,
            description="How strict",
            hidden=True,
        ),
    },
)


def test_every_setting_is_read() -> None:
    assert parse_sidecar(WRITTEN) == SETTINGS


def test_every_setting_is_written_and_read_again() -> None:
    assert parse_sidecar(dump_sidecar(SETTINGS)) == SETTINGS


def test_a_sidecar_that_says_nothing_is_written_as_nothing() -> None:
    assert dump_sidecar(Sidecar()) == ""
    assert dump_sidecar(parse_sidecar("enabled: true\nallow: {roles: []}\n")) == ""


def test_letters_of_all_languages_are_written_as_they_are() -> None:
    assert dump_sidecar(Sidecar(title="Katzengedöns 猫 🐈")).startswith("title: Katzengedöns 猫")


# U+0085 ends a line in YAML 1.1 and comes back as a blank.
LETTERS = st.characters(exclude_categories=("Cs",), exclude_characters="\x85")
TEXTS = st.text(LETTERS, max_size=12) | st.sampled_from(
    ["no", "5", "1e3", "null", "~", "<<", "=", "2024-01-01", "0x1F", "a: b", "#", "|", "*a", "&a"]
)
NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False)
LIMITS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
PARAMETERS: st.SearchStrategy[Any] = st.builds(
    ParameterSettings,
    targets=st.lists(st.tuples(TEXTS, TEXTS), max_size=2),
    default=st.none() | TEXTS | NUMBERS | st.booleans(),
    min=st.none() | LIMITS,
    max=st.none() | LIMITS,
    description=TEXTS,
    hidden=st.booleans(),
)
IDS = st.lists(st.integers(0, 2**64), max_size=2)
SIDECARS = st.builds(
    Sidecar,
    title=TEXTS,
    description=TEXTS,
    enabled=st.booleans(),
    allow=st.builds(Allowed, roles=IDS, channels=IDS),
    parameters=st.dictionaries(TEXTS, PARAMETERS, max_size=3),
)


@given(SIDECARS)
def test_whatever_a_sidecar_says_is_the_same_after_writing_and_reading(sidecar: Sidecar) -> None:
    again = parse_sidecar(dump_sidecar(sidecar))

    assert again == sidecar
    assert {name: type(each.default) for name, each in again.parameters.items()} == {
        name: type(each.default) for name, each in sidecar.parameters.items()
    }


@given(st.text() | st.text("{}[]:,-&*!?|>'\"%@` \n\tab0.#<"))
def test_whatever_a_file_holds_it_is_a_sidecar_or_refused(text: str) -> None:
    try:
        parse_sidecar(text)
    except WorkflowFileError as error:
        assert str(error).startswith("has a sidecar ")  # noqa: PT017
