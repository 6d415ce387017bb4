"""The HTTP face of a bot in a world, and a member who asks there."""

import io
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from bot.config import Secrets
from bot.http_members import Member
from tests.discord.conftest import World

TOKENS = {"website": "the-token-of-the-website", "nightly": "the-token-of-the-night"}


@dataclass
class Face:
    """*answers*: what came, as status and JSON."""

    session: aiohttp.ClientSession
    root: str
    member: str = "website"

    def as_(self, member: str) -> "Face":
        return Face(self.session, self.root, member)

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        data = data and io.BytesIO(data)
        async with self.session.request(
            method, self.root + path, data=data, headers=self.headers
        ) as answer:
            return answer.status, await answer.json()

    async def get(self, path: str) -> tuple[int, Any]:
        return await self.ask("GET", path)

    async def run(self, workflow: str = "postcard", **body: Any) -> str:
        """The id of a task that is in the line."""
        asked = body or {"prompt": "a cat in the snow"}
        status, told = await self.ask("POST", f"/api/workflow/{workflow}", asked)
        assert status == 200, told
        return str(told["prompt_id"])

    async def over(self, task: str) -> Any:
        """Its status, once it is over."""
        status, told = await self.get(f"/api/task_status/{task}?wait=20")
        assert status == 200, told
        return told

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {TOKENS[self.member]}"}

    @property
    def user_id(self) -> int:
        return Member.named(self.member).user_id


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


async def started(world: World, **changes: Any) -> str:
    """A bot with the face on; its address."""
    http = {"port": free_port(), "members": tuple(TOKENS)}
    await world.start(secrets=Secrets(http_tokens=TOKENS), http=http, **changes)
    return f"http://127.0.0.1:{http['port']}"


@asynccontextmanager
async def facing(root: str) -> AsyncIterator[Face]:
    async with aiohttp.ClientSession() as session:
        yield Face(session, root)
