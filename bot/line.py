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
from bot.estimates import Estimates
from bot.jobs import Job, JobState
from bot.placement import Hand, ready_in
from bot.publisher import DeliveryDelayed, Undeliverable
from bot.servers import Server, Servers
from bot.store import Store
from bot.turns import Place

log = logging.getLogger(__name__)

_NOT_NOW = (DeliveryDelayed, Undeliverable)
_EVERY = 10.0  # seconds
_TOLD = 20  # of the first in line; those behind have time


class Line:
    def __init__(
        self, store: Store, servers: Servers, delivery: Delivery, estimates: Estimates
    ) -> None:
        self._store = store
        self._servers = servers
        self._delivery = delivery
        self._estimates = estimates
        self._told: dict[str, int] = {}  # what people read now, by job

    def joined(self, job: Job, place: Place) -> ui.LayoutView:
        """The placeholder of a new job."""
        self._told[job.id] = place.number
        return waiting_card(job, place.number, begins=self.ready_at(job, place), server_up=self._up)

    def ready_at(self, job: Job, place: Place) -> datetime | None:
        """None where nobody can know: no server is up, or the workflow was never run."""
        hands = [self._hand(each) for each in self._servers.values() if each.up]
        seconds = self._estimates.seconds(job.request.workflow, job.request.work)
        if seconds is None or not hands:
            return None
        return datetime.now(UTC) + timedelta(seconds=ready_in(place.ahead, seconds, hands))

    def _hand(self, server: Server) -> Hand:
        pace = self._estimates.pace(server.name)
        return Hand(server.busy(pace), pace)

    async def keep_telling(self) -> None:
        """For ever: edit a placeholder when its place changed."""
        while True:
            await asyncio.sleep(_EVERY)
            try:
                await self.tell()
            except StoreError as error:
                log.info("the line was not told: %s", error)

    async def tell(self) -> None:
        ahead, places = 0.0, {}
        for number, each in enumerate(await self._store.line(_TOLD), 1):
            places[each.id] = Place(number, ahead)
            ahead += each.cost
        known = self._told
        self._told = {job_id: place.number for job_id, place in places.items()}
        for job_id, place in places.items():
            if known.get(job_id) != place.number:
                await self._show(job_id, place)

    async def _show(self, job_id: str, place: Place) -> None:
        job = await self._store.get(job_id)
        if job is None or job.state is not JobState.PENDING or job.request.over_http:
            return
        try:
            await self._delivery.show_place(job, place.number, self.ready_at(job, place), self._up)
        except (*_NOT_NOW, discord.HTTPException, aiohttp.ClientError, OSError) as error:
            log.info("job %s was not told its place: %s", job.short_id, error)

    @property
    def _up(self) -> bool:
        return any(each.up for each in self._servers.values())
