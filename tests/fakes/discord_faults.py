"""What a test may order to go wrong with the requests to the fake Discord, and their record."""

import asyncio
import json
import socket
import struct
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any

from aiohttp import web


@dataclass(eq=False)
class Request:
    """A request as it came; *at* is when its headers were here, *path* has no `/api/v10`.

    *status* and *done_at* are None until it is answered, *status* also when it was cut off.
    """

    method: str
    path: str
    at: float
    json: Any = None
    files: dict[str, bytes] = field(default_factory=dict)
    done_at: float | None = None
    status: int | None = None


@dataclass(eq=False)
class Fault:
    """A wrong answer for the next *times* requests that match.

    With *after_commit* the request has its effect all the same. *status* None keeps the true
    answer, so that only *delay* or *reset* (the connection is cut instead) are felt. *html*: a page
    of whatever stands in front of Discord, instead of its own answer.
    """

    method: str
    path_glob: str
    status: int | None = 502
    after_commit: bool = False
    times: int = 1
    json: Any = None
    headers: dict[str, str] | None = None
    delay: float = 0.0
    reset: bool = False
    html: str | None = None

    def matches(self, request: Request) -> bool:
        return _matches(self, request)

    @property
    def commits(self) -> bool:
        return self.after_commit or (self.status is None and not self.reset)

    def answer(self, true: web.Response | None) -> web.Response:
        if self.status is None:
            return true or web.Response(status=500)
        headers = dict(self.headers or {})
        if self.html is not None:
            return web.Response(
                text=self.html, status=self.status, headers=headers, content_type="text/html"
            )
        body = self.json
        if self.status == 429:  # discord.py believes a 429 only with this header
            headers.setdefault("Via", "1.1 google")
            body = body or {"message": "You are being rate limited.", "retry_after": 0.1}
        if body is None:
            body = {"message": f"{self.status}: {HTTPStatus(self.status).phrase}", "code": 0}
        return json_response(body, self.status, headers)


class Hold:
    """Keeps back the answers to matching requests, which have had their effect, until released."""

    def __init__(self, method: str, path_glob: str) -> None:
        self.method = method
        self.path_glob = path_glob
        self.requests: list[Request] = []
        self._reached = asyncio.Event()
        self._released = asyncio.Event()

    async def reached(self, timeout: float = 20.0) -> None:  # noqa: ASYNC109
        """Wait until a request is held."""
        await asyncio.wait_for(self._reached.wait(), timeout)

    def matches(self, request: Request) -> bool:
        """Whether it is to be held."""
        return not self._released.is_set() and _matches(self, request)

    def release(self) -> None:
        """Let the answers go, and hold no request that is still to come."""
        self._released.set()

    async def keep(self, request: Request) -> None:
        self.requests.append(request)
        self._reached.set()
        await self._released.wait()


def json_response(
    body: Any, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    # discord.py parses a body only if the type is exactly this: no charset.
    data = json.dumps(body).encode()
    return web.Response(body=data, status=status, headers=headers, content_type="application/json")


def cut(request: web.Request) -> None:
    """Reset the connection: the peer gets RST, not an orderly end."""
    transport = request.transport
    if transport is not None:
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


def _matches(rule: Fault | Hold, request: Request) -> bool:
    return rule.method == request.method and fnmatchcase(request.path, rule.path_glob)
