"""What the reference processes share: poller.py, limit.py and follower.py.

Such a process gets its jobs over stdin, one JSON object a line, and begins each one at once. How it
is started: peers.py.
"""

import asyncio
import json
import random
import sys
from asyncio import TaskGroup
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

_GRAPH = (Path(__file__).parents[1] / "workflows/txt2img.json").read_text()
_SAMPLER = "5"


@dataclass(frozen=True, slots=True)
class Job:
    """txt2img on one ComfyUI; its picture goes into one channel."""

    comfyui: str
    steps: int
    discord: str
    token: str
    channel: int

    def graph(self) -> Any:
        graph = json.loads(_GRAPH)
        graph[_SAMPLER]["inputs"] |= {"steps": self.steps, "seed": random.getrandbits(32)}
        return graph

    async def submitted(self, session: aiohttp.ClientSession, client_id: str) -> str:
        """The id of its prompt."""
        body = {"prompt": self.graph(), "client_id": client_id}
        async with session.post(f"{self.comfyui}/prompt", json=body) as response:
            prompt_id: str = (await response.json())["prompt_id"]
        return prompt_id

    async def posted(
        self, session: aiohttp.ClientSession, data: Any, headers: Mapping[str, str] | None = None
    ) -> None:
        url = f"{self.discord}/api/v10/channels/{self.channel}/messages"
        headers = {"Authorization": f"Bot {self.token}", **(headers or {})}
        async with session.post(url, data=data, headers=headers) as response:
            response.raise_for_status()
            await response.read()


def serve(run: Callable[[aiohttp.ClientSession, Job], Coroutine[Any, Any, None]]) -> None:
    """The process: until stdin ends."""

    async def work() -> None:
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
        )
        unlimited = aiohttp.TCPConnector(limit=0)  # a websocket takes a connection too
        async with aiohttp.ClientSession(connector=unlimited) as session, TaskGroup() as jobs:
            async for line in lines:
                jobs.create_task(run(session, Job(**json.loads(line))))

    asyncio.run(work())
