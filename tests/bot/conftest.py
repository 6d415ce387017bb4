"""Fixtures that several tests of the application share."""

import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from bot.logs import Redacting
from tests.fakes.comfyui import FakeComfyUI


@pytest.fixture
async def comfyui() -> AsyncIterator[FakeComfyUI]:
    async with FakeComfyUI(version="0.28.0") as server:
        yield server


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
