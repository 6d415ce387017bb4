"""`docs/bad-inputs.md`: what somebody may send that is wrong, and what the bot really answered.

A row is named `"13 not a number"`: its number in the list of bad inputs, which the page does not
show, and what is sent. A name without a number is tested, but not shown.
"""

import ast
import functools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs/bad-inputs.md"
REMEDY = "run `COMFYCORD_WRITE_DOCS=1 uv run pytest -n0 tests/simulated` and look at the difference"
KINDS = {
    "Overrides": range(1, 13),
    "Numbers": range(13, 27),
    "Texts": range(27, 41),
    "Files": (*range(41, 52), *range(55, 59)),
    "File names": (*range(52, 55), *range(59, 65)),
    "Paths and models": range(65, 71),
    "Workflow files": range(71, 88),
    "Clicks and commands": range(88, 101),
}
_HEAD = """\
# Bad inputs

What people send by mistake or on purpose, and what the bot answers. Its sentences stand here as it
said them; where it says nothing, or makes the picture, that is described. The tests compare this
page with what it really does, and `COMFYCORD_WRITE_DOCS=1 uv run pytest -n0 tests/simulated` writes
it anew. Only the person who asked sees a refusal, and no job reaches ComfyUI.
"""
_ROW = re.compile(r"\| (.+?) \| (.+) \|")
_NAME = re.compile(r"(\d{1,3}) (\S.+)")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LONG = 300


def named(rows: Mapping[str, tuple[Any, ...]]) -> list[Any]:
    """Parameters of a test: the row's name, and what belongs to it."""
    return [pytest.param(name, *row, id=name) for name, row in rows.items()]


def answered(name: str, told: str) -> None:
    """The person was told this: it stands in the page, or is written there."""
    if not (named := _NAME.fullmatch(name)):
        return
    sends, says = _cell(named[2]), _cell(told)
    assert sends in map(_cell, declared()), f"{name!r} must stand in a test as it is"
    if "COMFYCORD_WRITE_DOCS" in os.environ:
        PAGE.write_text(page({**rows(), sends: says}), "utf-8")
    assert rows().get(sends) == says, REMEDY


@functools.cache
def declared() -> dict[str, int]:
    """What is sent → its number, of every string of these tests that is the name of a row."""
    texts = (
        node.value
        for path in sorted((*HERE.glob("test_bad_*.py"), HERE / "test_uploads.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    return {named[2]: int(named[1]) for text in texts if (named := _NAME.fullmatch(text))}


def rows() -> dict[str, str]:
    """What the page says now."""
    lines = PAGE.read_text("utf-8").splitlines() if PAGE.exists() else []
    found = [row.groups() for line in lines if (row := _ROW.fullmatch(line))]
    return {sends: says for sends, says in found if sends != "What somebody sends"}


def page(answers: dict[str, str]) -> str:
    """All rows that have an answer, by kind and number."""
    text = _HEAD
    for kind, numbers in KINDS.items():
        text += f"\n## {kind}\n\n| What somebody sends | What the bot answers |\n|---|---|\n"
        for sends, number in sorted(declared().items(), key=lambda each: each[1]):
            if number in numbers and (says := answers.get(_cell(sends))):
                text += f"| {_cell(sends)} | {says} |\n"
    return text


def _cell(text: str) -> str:
    """On one line, without what differs from run to run."""
    text = _UUID.sub("…", text.replace("\u200b", ""))
    text = re.sub(r"(?<!\\)<@&\d+>", "@role", re.sub(r"(?<!\\)<@\d+>", "@member", text))
    text = re.sub(r"(?<!\\)\|", r"\|", " ".join(text.split()))
    return text if len(text) <= _LONG else text[: _LONG - 1] + "…"
