"""No more requests a second than Discord takes from one token: discord.py knows of routes only."""

import asyncio
from types import SimpleNamespace

import aiohttp

_EVERY = 1 / 45  # seconds; Discord takes 50 a second, and counts at its end of the line
_AT_ONCE = 5
# Neither counts: https://docs.discord.com/developers/topics/rate-limits
_FREE = ("/interactions/", "/webhooks/")


class Pacing:
    """For requests over one session, as they begin: `trace` goes into the session."""

    def __init__(self) -> None:
        self._next = float("-inf")  # loop time
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
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now - _AT_ONCE * _EVERY) + _EVERY
        await asyncio.sleep(self._next - now)
