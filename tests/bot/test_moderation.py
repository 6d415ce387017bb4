"""What a moderator may upload while some of the servers are away."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bot.errors import UserError
from bot.moderation import Moderator
from bot.servers import Server, Servers
from bot.store import Store
from comfy.client import ComfyClient
from comfy.library import Library
from tests.bot.builders import NODES
from tests.graphs import PLAIN

UNKNOWN: dict[str, Any] = {**PLAIN, "77": {"class_type": "MagicWand", "inputs": {}}}


@pytest.fixture
async def moderator(tmp_path: Path) -> AsyncIterator[Moderator]:
    """Of two servers, of which the second has not answered yet."""
    folder = tmp_path / "workflows"
    folder.mkdir()
    async with (
        aiohttp.ClientSession() as session,
        Store.open(f"sqlite:///{tmp_path}/data/jobs.db") as store,
    ):
        servers = Servers(
            Server(name, ComfyClient("http://127.0.0.1:1", session)) for name in ("near", "far")
        )
        servers["near"].nodes = NODES
        yield Moderator(1, 2, Library(folder), store, servers)


async def added(moderator: Moderator, graph: dict[str, Any]) -> dict[str, list[str]]:
    report = await moderator.add(json.dumps(graph).encode(), "mine.json", None, replace=False)
    return dict(report.problems)


async def test_nodes_that_nobody_knows_wait_for_the_server_that_may_know_them(
    moderator: Moderator,
) -> None:
    """They may cost the owner's credits there."""
    with pytest.raises(UserError, match=r"^far did not answer yet, so I cannot check all nodes"):
        await added(moderator, UNKNOWN)

    assert not list(moderator.library.folder.iterdir())


async def test_nodes_that_one_server_knows_do_not_wait_for_the_others(moderator: Moderator) -> None:
    problems = await added(moderator, PLAIN)

    assert problems == {"near": [], "far": ["does not answer (not connected yet)."]}


async def test_nodes_that_no_server_has_are_added_once_all_have_answered(
    moderator: Moderator,
) -> None:
    moderator.servers["far"].nodes = NODES

    problems = await added(moderator, UNKNOWN)

    lacks = ["lacks the nodes MagicWand. Install them with ComfyUI-Manager."]
    assert problems == {"near": lacks, "far": lacks}
