"""A ComfyUI some of whose answers are wrong, cut or missing: `spoil(comfyui, "/prompt", cut)`."""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from tests.fakes.comfyui import FakeComfyUI

Accept = Callable[[], Awaitable[web.Response]]
How = Callable[[web.Request, Accept], Awaitable[web.StreamResponse]]
EVER = 10**6


def spoil(comfyui: FakeComfyUI, path: str, how: How, times: int = EVER) -> None:
    """The next *times* requests for *path* are answered by *how*, which may let them through."""
    true = comfyui.answer

    async def answer(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.Response]]
    ) -> web.StreamResponse:
        nonlocal times
        if not times or not request.path.startswith(path):
            return await true(request, handler)
        times -= 1
        return await how(request, lambda: true(request, handler))

    comfyui.answer = answer  # type: ignore[method-assign]


def says(status: int = 200, **response: str | bytes) -> How:
    """Nothing but this, and the request has no effect."""

    async def how(_: web.Request, __: Accept) -> web.Response:
        return web.Response(status=status, **response)  # type: ignore[arg-type]

    return how


async def bad_gateway(_: web.Request, accept: Accept) -> web.Response:
    """As a proxy that lost its patience: the request had its effect."""
    await accept()
    return web.Response(status=502)


async def half_of_it(_: web.Request, accept: Accept) -> web.Response:
    true = await accept()
    assert isinstance(true.body, bytes)
    return web.Response(body=true.body[: len(true.body) // 2], content_type="application/json")


async def cut(request: web.Request, accept: Accept) -> web.StreamResponse:
    """The connection ends before the last byte."""
    true = await accept()
    assert isinstance(true.body, bytes)
    stream = web.StreamResponse(headers={"Content-Type": true.content_type})
    stream.content_length = len(true.body)
    await stream.prepare(request)
    await stream.write(true.body[:-1])
    assert request.transport
    request.transport.abort()
    return stream


async def nothing(_: web.Request, accept: Accept) -> web.Response:
    await accept()
    await asyncio.Event().wait()
    raise AssertionError


async def reset(request: web.Request, _: Accept) -> web.Response:
    assert request.transport
    request.transport.abort()
    return web.Response()
