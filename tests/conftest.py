"""What every test may rely on."""

import os
import sys
from collections.abc import AsyncIterator

import aiohttp
import discord
import pytest

# Each test loads the cogs anew, and each process everything: every file is compiled once.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(autouse=True)
def _real_discord_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bot that is pointed at another API changes two globals of discord.py."""
    gateway = discord.gateway.DiscordWebSocket
    monkeypatch.setattr(discord.http.Route, "BASE", discord.http.Route.BASE)
    monkeypatch.setattr(gateway, "DEFAULT_GATEWAY", gateway.DEFAULT_GATEWAY)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, as tests that talk to each other often wait."""
    return (os.cpu_count() or 2) + 1
