"""What `docs/reliability.md` says is shown by tests that exist."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs/reliability.md").read_text("utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)(?:\[[^`]*\])?`")


def faults() -> list[str]:
    """The rows of all tables of the section, without their heads."""
    section = DOCUMENT.split("\n## Faults\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return [row for row in rows if not row.startswith(("|---", "| Fault |"))]


@cache
def defined_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


def test_every_test_that_is_named_exists() -> None:
    named = NAMED.findall(DOCUMENT)

    assert [f"{path}::{name}" for path, name in named if name not in defined_in(path)] == []


def test_every_fault_is_shown_by_a_test() -> None:
    assert len(faults()) > 50
    assert [row for row in faults() if not NAMED.search(row.rpartition(" | ")[2])] == []
    assert [row for row in faults() if row.count("|") != 4] == []
