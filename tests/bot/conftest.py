"""Fixtures that several tests of the application share."""

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bot.logs import Redacting
from bot.store import Store
from tests.bot.shell import VARIABLES, Shell
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.postgres import postgres


@pytest.fixture
async def comfyui() -> AsyncIterator[FakeComfyUI]:
    async with FakeComfyUI(version="0.28.0") as server:
        yield server


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/data/jobs.db"


# What the store promises it keeps on both kinds of database.
CONTRACT = {"test_store", "test_store_queries", "test_store_moderation", "test_fairness"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "any_url" in metafunc.fixturenames:
        both = metafunc.module.__name__.rpartition(".")[2] in CONTRACT
        kinds = ["sqlite", "postgresql"] if both else ["sqlite"]
        metafunc.parametrize("any_url", kinds, indirect=True)


@pytest.fixture
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/data/jobs.db"
    return postgres().ready_database()


@pytest.fixture
async def store(any_url: str) -> AsyncIterator[Store]:
    async with Store.open(any_url) as store:
        yield store


@pytest.fixture
async def sqlite_store(url: str) -> AsyncIterator[Store]:
    async with Store.open(url) as store:
        yield store


@pytest.fixture
def logging_put_back() -> Iterator[None]:
    """Setting up the logs changes the whole process."""
    loggers = [logging.getLogger(name) for name in (None, "discord.client", "bot", "cogs", "comfy")]
    levels = [logger.level for logger in loggers]

    yield

    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    root = logging.getLogger()
    root.handlers = [each for each in root.handlers if not isinstance(each.formatter, Redacting)]


@pytest.fixture
def shell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Shell:
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:  # set first, so that what `.env` brings is gone afterwards
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return Shell(capsys, monkeypatch)
