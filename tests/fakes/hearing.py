"""A ComfyUI that writes down what it is asked, and answers some of it with something odd."""

import asyncio
import base64
import json
from typing import Any

from aiohttp import web

from tests.fakes.comfyui import FakeComfyUI


class HearingComfyUI(FakeComfyUI):
    """*heard* holds `(method, path, body)`, *headers* those of each request, /ws included."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.heard: list[tuple[str, str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.queries: list[dict[str, str]] = []
        self.client_ids: list[str] = []
        self.ended: dict[str, asyncio.Event] = {}
        """By client id: set when its socket is closed."""
        self._odd: dict[str, dict[str, Any]] = {}
        self._cut: set[str] = set()
        self._stalled: set[str] = set()

    def say(self, path: str, **response: Any) -> None:
        """Answer *path* with `web.Response(**response)` from now on."""
        self._odd[path] = response

    def cut(self, path: str, **response: Any) -> None:
        """As `say`, but the connection ends before the last byte."""
        self.say(path, **response)
        self._cut.add(path)

    def stall(self, path: str, **response: Any) -> None:
        """As `say`, but the last byte never comes."""
        self.say(path, **response)
        self._stalled.add(path)

    async def answer(self, request: web.Request, handler: Any) -> web.StreamResponse:
        sent = request.method == "POST" and not request.content_type.startswith("multipart/")
        body = await request.text() if sent else ""
        self.heard.append((request.method, request.path, json.loads(body) if body else None))
        self.headers.append(dict(request.headers))
        self.queries.append(dict(request.query))
        if request.path in self._odd:
            return await self._say_oddly(request)
        if not request.path.endswith("/ws"):
            return await super().answer(request, handler)
        client_id = request.query["clientId"]
        self.client_ids.append(client_id)
        self.ended[client_id] = asyncio.Event()
        try:
            return await super().answer(request, handler)
        finally:
            self.ended[client_id].set()

    async def _say_oddly(self, request: web.Request) -> web.StreamResponse:
        odd = web.Response(**self._odd[request.path])
        if request.path not in self._cut | self._stalled:
            return odd
        data = odd.body if isinstance(odd.body, bytes) else b""
        stream = web.StreamResponse(status=odd.status, headers={"Content-Type": odd.content_type})
        stream.content_length = len(data) + 1
        await stream.prepare(request)
        await stream.write(data)
        if request.path in self._stalled:
            await asyncio.Event().wait()
        assert request.transport is not None
        request.transport.close()
        return stream


def basic(login: str, password: str) -> str:
    """The header of HTTP's basic authentication."""
    return "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()
