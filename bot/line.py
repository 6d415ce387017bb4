"""The line: who waits keeps being told the place, and about when it begins."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import aiohttp
import discord
from discord import ui

from bot.cards import waiting_card
from bot.delivery import Delivery
from bot.errors import StoreError
from bot.jobs import Job, JobState
from bot.publisher import DeliveryDelayed, Undeliverable
from bot.servers import Servers
from bot.store import Store

log = logging.getLogger(__name__)

_NOT_NOW = (DeliveryDelayed, Undeliverable)
_EVERY = 10.0  # seconds
_TOLD = 20  # of the first in line; those behind have time


def begins_at(place: int, seconds: float | None, servers_up: int) -> datetime | None:
    """When number *place* begins if a job takes *seconds*; None where nobody can know."""
    if seconds is None or not servers_up:
        return None
    return datetime.now(UTC) + timedelta(seconds=(place - 1) * seconds / servers_up + seconds)


class Line:
    def __init__(self, store: Store, servers: Servers, delivery: Delivery) -> None:
        self._store = store
        self._servers = servers
        self._delivery = delivery
        self._told: dict[str, int] = {}  # what people read now, by job

    async def joined(self, job: Job, place: int) -> ui.LayoutView:
        """The placeholder of a new job."""
        up = self._up()
        begins = begins_at(place, await self._store.typical_seconds(), up)
        self._told[job.id] = place
        return waiting_card(job, place, begins=begins, server_up=up > 0)

    async def keep_telling(self) -> None:
        """For ever: edit a placeholder when its place changed."""
        while True:
            await asyncio.sleep(_EVERY)
            try:
                await self.tell()
            except StoreError as error:
                log.info("the line was not told: %s", error)

    async def tell(self) -> None:
        waiting = await self._store.pending(_TOLD)
        seconds = await self._store.typical_seconds() if waiting else None
        places = {job.id: place for place, job in enumerate(waiting, 1)}
        known, self._told = self._told, dict(places)
        for job in waiting:
            if known.get(job.id) != places[job.id]:
                await self._show(job, places[job.id], seconds)

    async def _show(self, job: Job, place: int, seconds: float | None) -> None:
        now = await self._store.get(job.id)
        if now is None or now.state is not JobState.PENDING:
            return
        up = self._up()
        try:
            await self._delivery.show_place(now, place, begins_at(place, seconds, up), up > 0)
        except (*_NOT_NOW, discord.HTTPException, aiohttp.ClientError, OSError) as error:
            log.info("job %s was not told its place: %s", job.short_id, error)

    def _up(self) -> int:
        return sum(server.up for server in self._servers.values())
