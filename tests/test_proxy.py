"""The proxy of the tests: what passes it, and each thing that it spoils."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from tests.fakes.proxy import Proxy

BODY = b"0123456789" * 10_000


async def whole(_: web.Request) -> web.Response:
    return web.Response(body=BODY)


async def echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        await socket.send_str(message.data)
    return socket


@asynccontextmanager
async def proxied() -> AsyncIterator[tuple[Proxy, aiohttp.ClientSession]]:
    app = web.Application()
    app.router.add_get("/", whole)
    app.router.add_get("/ws", echo)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with Proxy(url) as proxy, aiohttp.ClientSession(proxy.url) as session:
            yield proxy, session
    finally:
        await runner.cleanup()


@pytest.fixture
async def both() -> AsyncIterator[tuple[Proxy, aiohttp.ClientSession]]:
    async with proxied() as each:
        yield each


Both = tuple[Proxy, aiohttp.ClientSession]


async def got(session: aiohttp.ClientSession, seconds: float = 5.0) -> bytes:
    async with asyncio.timeout(seconds), session.get("/") as response:
        return await response.read()


async def said(socket: aiohttp.ClientWebSocketResponse, seconds: float = 5.0) -> str:
    async with asyncio.timeout(seconds):
        await socket.send_str("hello")
        return await socket.receive_str()


async def test_requests_and_sockets_pass(both: Both) -> None:
    proxy, session = both

    assert await got(session) == BODY
    async with session.ws_connect("/ws") as socket:
        assert await said(socket) == "hello"
    assert proxy.passed >= 1


async def test_refused_connections_are_reset_until_it_heals(both: Both) -> None:
    proxy, session = both
    proxy.refuse()

    with pytest.raises(aiohttp.ClientOSError):
        await got(session)
    proxy.heal()

    assert await got(session) == BODY


async def test_a_reset_ends_what_is_open_and_nothing_else(both: Both) -> None:
    proxy, session = both
    async with session.ws_connect("/ws") as socket:
        await said(socket)
        proxy.reset()

        async with asyncio.timeout(20):
            message = await socket.receive()

    assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
    assert await got(session) == BODY


async def test_an_answer_is_late(both: Both) -> None:
    proxy, session = both
    proxy.delay(0.2)
    began = time.monotonic()

    assert await got(session) == BODY

    assert 0.2 <= time.monotonic() - began < 5


async def test_an_answer_is_cut(both: Both) -> None:
    proxy, session = both
    proxy.cut(5000)

    with pytest.raises(aiohttp.ClientPayloadError):
        await got(session)


async def test_a_frozen_connection_stays_open_and_a_new_one_works(both: Both) -> None:
    proxy, session = both
    async with session.ws_connect("/ws") as socket:
        await said(socket)
        proxy.freeze(new=False)

        with pytest.raises(TimeoutError):
            await said(socket, 0.1)
        assert not socket.closed
        assert await got(session) == BODY
        proxy.heal()
        assert await said(socket) == "hello"


async def test_only_new_connections_are_frozen(both: Both) -> None:
    proxy, session = both
    async with session.ws_connect("/ws") as socket:
        await said(socket)
        proxy.freeze(now=False)

        assert await said(socket) == "hello"
        with pytest.raises(TimeoutError):
            await got(session, 0.1)


async def test_nothing_stays_behind_when_a_client_hangs_up(both: Both) -> None:
    proxy, session = both
    async with session.ws_connect("/ws") as socket:
        await said(socket)
    await session.close()

    async with asyncio.timeout(20):
        while proxy.open:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
