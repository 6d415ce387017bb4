"""Rules of the layout, held by tests."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IO = {"aiohttp", "asyncio", "sqlalchemy", "discord"}
MAY_NOT_IMPORT = {
    "comfy/*.py": {"bot", "cogs", "discord", "sqlalchemy"},
    "bot/*.py": {"cogs"},
    "bot/jobs.py": IO,
    "bot/requests.py": IO,
    "bot/wishes.py": IO,
    "bot/execution.py": {"discord", "sqlalchemy"},
    "bot/publisher.py": {"discord", "sqlalchemy"},
    "bot/runner.py": {"discord", "sqlalchemy"},
    "bot/servers.py": {"discord", "sqlalchemy"},
    "cogs/*.py": {"sqlalchemy"},
    **{
        f"comfy/{name}.py": IO
        for name in (
            "graph",
            "nodes",
            "parameters",
            "values",
            "events",
            "models",
            "progress",
            "phrases",
        )
    },
}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("pattern", MAY_NOT_IMPORT)
def test_imports_point_one_way(pattern: str) -> None:
    paths = list(ROOT.glob(pattern))

    assert paths
    for path in paths:
        assert not imported(path) & MAY_NOT_IMPORT[pattern], path


def test_comfy_is_a_namespace_package() -> None:
    assert not (ROOT / "comfy/__init__.py").exists()


def test_only_the_store_speaks_sql() -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for folder in ("bot", "cogs", "comfy")
        for path in (ROOT / folder).rglob("*.py")
        if imported(path) & {"sqlalchemy", "alembic"}
    }

    assert users <= {
        "bot/crew.py",
        "bot/database.py",
        "bot/people.py",
        "bot/postgres.py",
        "bot/sqlite.py",
        "bot/turns.py",
        "bot/store.py",
        "bot/tables.py",
        "bot/migrations/env.py",
    } | {path.relative_to(ROOT).as_posix() for path in ROOT.glob("bot/migrations/versions/*.py")}


def test_simcord_stays_in_one_file() -> None:
    users = {path.name for path in ROOT.glob("[bc]*/*.py") if "simcord" in imported(path)}

    assert users == {"demo.py"}


def test_a_file_can_be_read_in_one_sitting() -> None:
    for folder in ("bot", "cogs", "comfy"):
        for path in (ROOT / folder).rglob("*.py"):
            assert len(path.read_text("utf-8").splitlines()) <= 450, path


def test_pins_hold_hashes_and_no_addresses() -> None:
    text = (ROOT / "requirements.lock").read_text("utf-8")

    assert "--hash=sha256:" in text
    assert not re.search(r"https?://|--index|--find-links|/opt/", text)
