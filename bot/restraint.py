"""What we do not ask Discord again: it bans an address after too many refused requests.

https://docs.discord.com/developers/topics/rate-limits, Invalid Request Limit
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import discord

from bot.publisher import DeliveryDelayed, Undeliverable
from bot.texts import neutral
from comfy.phrases import Phrase, say

_REFUSALS = 3  # in a row, after which a channel is left alone
_LEFT_ALONE = 600.0  # seconds
_SILENCE = 600.0  # seconds, after Cloudflare refused the address itself
_UNKNOWN_CHANNEL = 10003


class Restraint:
    """*on_rejected* is called when Discord no longer knows the bot's token."""

    def __init__(self, clock: Callable[[], float], on_rejected: Callable[[], None]) -> None:
        self._clock = clock
        self._on_rejected = on_rejected
        self._silent_until = float("-inf")
        self._refused: dict[int, tuple[int, float, Phrase]] = {}  # channel → how often, until

    @contextmanager
    def asking(self, channel_id: int | None = None) -> Iterator[None]:
        """Around one request of a bot's own; without *channel_id* of an interaction's token.

        Raises `DeliveryDelayed` or `Undeliverable` instead of a request that would be refused.
        """
        if self._clock() < self._silent_until:
            raise DeliveryDelayed("Discord refused this address; it is left alone for a while")
        times, until, why = self._refused.get(channel_id or 0, (0, 0.0, say("unknown")))
        if times >= _REFUSALS and self._clock() < until:
            raise Undeliverable(why)
        try:
            yield
        except discord.HTTPException as error:
            if error.status == 429 and "Via" not in error.response.headers:
                self._silent_until = self._clock() + _SILENCE
            elif error.status == 401 and channel_id is not None:
                self._on_rejected()
            elif channel_id is not None and is_refusal(error):
                times = times + 1 if times < _REFUSALS else 1
                self._refused[channel_id] = times, self._clock() + _LEFT_ALONE, refusal(error)
            raise
        else:
            self._refused.pop(channel_id or 0, None)


def is_refusal(error: discord.HTTPException) -> bool:
    """Whether the bot may not do this here, or there is no such place: now and later."""
    return (error.status == 403 and bool(error.code)) or error.code == _UNKNOWN_CHANNEL


def refusal(error: discord.HTTPException) -> Phrase:
    why = neutral(error.text, 300).rstrip(".")
    return say("Discord does not let the bot post: {why}.", why=why)
