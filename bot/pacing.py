"""What discord.py does not know: the limit of all requests, and before the first answer any."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace

import aiohttp
import discord

_EVERY = 1 / 45  # seconds; Discord takes 50 a second, and counts at its end of the line
_AT_ONCE = 5
_PATIENCE = 5.0  # seconds
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
            self._next = max(self._next, clock() - (_AT_ONCE - 1) * _EVERY) + _EVERY


class FirstAlone:
    """The first request of its kind goes alone, and the others when it was answered, or after a
    while.

    discord.py learns from its answer which requests share a limit. Those that began before count
    for themselves, and are refused.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._learned = False

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        if self._learned or not await self._is_first():
            yield
            return
        with self._learning():
            yield

    async def _is_first(self) -> bool:
        """The turn is taken then."""
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._turn.acquire()
        except TimeoutError:
            self._learned = True  # some that are refused are better than none that are sent
            return False
        if self._learned:
            self._turn.release()
        return not self._learned

    @contextmanager
    def _learning(self) -> Iterator[None]:
        try:
            yield
            self._learned = True
        except discord.HTTPException as error:
            if error.status != 429 and error.status < 500:
                self._learned = True
            raise
        finally:
            self._turn.release()
