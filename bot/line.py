"""The line: who waits keeps being told the place, and about when it begins."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import aiohttp
import discord

from bot.delivery import Delivery
from bot.errors import StoreError
from bot.jobs import JobState
from bot.servers import Servers
from bot.store import Store

log = logging.getLogger(__name__)

_EVERY = 10.0  # seconds
_TOLD = 20  # of the first in line; those behind have time


def begins_at(place: int, seconds: float | None, servers_up: int) -> datetime | None:
    """When number *place* begins if a job takes *seconds*; None where nobody can know."""
    if seconds is None or not servers_up:
        return None
    return datetime.now(UTC) + timedelta(seconds=(place - 1) * seconds / servers_up + seconds)


async def keep_telling(store: Store, servers: Servers, delivery: Delivery) -> None:
    """For ever: edit a placeholder when its place changed."""
    told: dict[str, int] = {}
    while True:
        await asyncio.sleep(_EVERY)
        try:
            told = await _tell(store, servers, delivery, told)
        except StoreError as error:
            log.info("the line was not told: %s", error)


async def _tell(
    store: Store, servers: Servers, delivery: Delivery, told: dict[str, int]
) -> dict[str, int]:
    """The places that people know then."""
    waiting = await store.pending(_TOLD)
    seconds = await store.typical_seconds() if waiting else None
    up = sum(server.up for server in servers.values())
    places = {job.id: place for place, job in enumerate(waiting, 1)}
    for job in waiting:
        place = places[job.id]
        if told.get(job.id, place) != place:
            now = await store.get(job.id)
            if now is not None and now.state is JobState.PENDING:
                try:
                    await delivery.show_place(now, place, begins_at(place, seconds, up), up > 0)
                except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
                    log.info("job %s was not told its place: %s", job.short_id, error)
    return places
