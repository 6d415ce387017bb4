"""What discord.py does not know: the limit of all requests, and a route's at its beginning."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import aiohttp

_EVERY = 1 / 47  # seconds; Discord takes 50 a second, and counts at its end of the line
_AT_ONCE = 3
# Neither counts: https://docs.discord.com/developers/topics/rate-limits
_FREE = ("/interactions/", "/webhooks/")


class Pacing:
    """For requests over one session, as they begin: `trace` goes into the session."""

    def __init__(self) -> None:
        self._next = float("-inf")  # loop time
        self._turn = asyncio.Lock()
        self.trace = aiohttp.TraceConfig()
        self.trace.on_request_start.append(self._wait)

    async def _wait(
        self,
        session: aiohttp.ClientSession,
        context: SimpleNamespace,
        request: aiohttp.TraceRequestStartParams,
    ) -> None:
        if any(each in request.url.path for each in _FREE):
            return
        clock = asyncio.get_running_loop().time
        async with self._turn:  # one after the other: a loop that stood still lets out no crowd
            await asyncio.sleep(self._next - clock())
            self._next = max(self._next, clock() - _AT_ONCE * _EVERY) + _EVERY


class FirstAlone:
    """The first request of its kind goes alone, and the others when it was answered.

    discord.py learns from its answer which requests share a limit. Those that began before count
    for themselves, and are refused.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._learned = False

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        async with self._turn:
            if not self._learned:
                yield
                self._learned = True
                return
        yield
