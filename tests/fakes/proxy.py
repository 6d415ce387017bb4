"""A TCP proxy on loopback in front of any fake, which spoils connections when it is told to.

HTTP and WebSocket pass through. Each fault is for the connections open *now*, for *new* ones, or
for both, and lasts until `heal`.
"""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from typing import Self

import yarl


@dataclass(slots=True)
class _Manner:
    """How a connection is treated."""

    refused: bool = False
    frozen: bool = False
    delay: float = 0.0
    left: int | None = None  # bytes of answers that still pass


@dataclass(eq=False, slots=True)
class _Link:
    """One connection through the proxy: what its client and its server write to."""

    manner: _Manner
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    asked: bool = False  # since the last answer
    thawed: asyncio.Event = field(default_factory=asyncio.Event)

    def reset(self) -> None:
        for each in (self.client, self.server):
            if each is not None:
                _reset(each)


class Proxy:
    """`async with Proxy(comfyui.url) as proxy: proxy.url`. *passed*: connections so far."""

    def __init__(self, url: str) -> None:
        target = yarl.URL(url)
        assert target.host
        assert target.port
        self._target = target.host, target.port
        self.url = ""
        self.passed = 0
        self._new = _Manner()
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def open(self) -> int:
        """Connections that pass through now."""
        return len(self._links)

    # What goes wrong

    def refuse(self) -> None:
        """Reset every connection, and each new one at once."""
        self._new = _Manner(refused=True)
        self.reset()

    def reset(self) -> None:
        """Reset the connections open now. New ones work."""
        for link in tuple(self._links):
            link.reset()

    def delay(self, seconds: float, *, now: bool = True, new: bool = True) -> None:
        """Answers come later; what a server says unasked does not wait."""
        for manner in self._manners(now, new):
            manner.delay = seconds

    def cut(self, after: int, *, now: bool = True, new: bool = True) -> None:
        """Close each connection when *after* more bytes of answers have passed."""
        for manner in self._manners(now, new):
            manner.left = after

    def freeze(self, *, now: bool = True, new: bool = True) -> None:
        """Half-open: connections stay, and nothing passes any more."""
        for manner in self._manners(now, new):
            manner.frozen = True

    def heal(self) -> None:
        """Everything passes again, also what was held back."""
        for manner in self._manners(now=True, new=True):
            manner.refused, manner.frozen, manner.delay, manner.left = False, False, 0.0, None
        for link in self._links:
            link.thawed.set()

    def _manners(self, now: bool, new: bool) -> list[_Manner]:
        return [each.manner for each in self._links if now] + [self._new] * new

    # What passes

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._pass(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        new = self._new
        link = _Link(_Manner(new.refused, new.frozen, new.delay, new.left), writer)
        self._links.add(link)
        try:
            if not new.refused:
                self.passed += 1
                await self._connect(link, reader)
        except OSError:
            pass
        finally:
            link.reset()
            self._links.discard(link)

    async def _connect(self, link: _Link, from_client: asyncio.StreamReader) -> None:
        from_server, link.server = await asyncio.open_connection(*self._target)
        ways = (
            asyncio.create_task(self._ask(link, from_client)),
            asyncio.create_task(self._answer(link, from_server)),
        )
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        with contextlib.suppress(OSError):  # an orderly end of one side is one for the other
            for side in (link.client, link.server):
                side.close()
            for side in (link.client, link.server):
                await side.wait_closed()

    async def _ask(self, link: _Link, source: asyncio.StreamReader) -> None:
        assert link.server
        while data := await source.read(2**16):
            await self._thaw(link)
            link.asked = True
            link.server.write(data)
            await link.server.drain()

    async def _answer(self, link: _Link, source: asyncio.StreamReader) -> None:
        manner = link.manner
        while data := await source.read(2**16):
            if link.asked:
                link.asked = False
                await asyncio.sleep(manner.delay)
            await self._thaw(link)
            if manner.left is not None:
                data = data[: manner.left]
                manner.left -= len(data)
            link.client.write(data)
            await link.client.drain()
            if manner.left == 0:
                return

    async def _thaw(self, link: _Link) -> None:
        while link.manner.frozen:
            link.thawed.clear()
            await link.thawed.wait()


def _reset(writer: asyncio.StreamWriter) -> None:
    """The peer gets RST, not an orderly end."""
    raw = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # it is closed already
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
