"""Answers that only an interaction's token reaches: private ones, and where the bot is no member.

A token lives fifteen minutes. Before it dies the answer becomes a button, and a click on that
brings a new one.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import cast

import aiohttp
import discord
from discord import ui

from bot.cards import collect_card
from bot.errors import StoreError
from bot.jobs import Job
from bot.publisher import Undeliverable
from bot.store import Store, Token

log = logging.getLogger(__name__)

_LIFE = timedelta(minutes=14, seconds=30)  # of a token, with a margin
_BUTTON_AT = timedelta(minutes=13)
_LOOK_EVERY = 20.0  # seconds
_KEPT = timedelta(days=1)  # how long a result waits for its click
_ORIGINAL = cast(int, "@original")  # Discord's name for the first answer to an interaction


Files = Callable[[], list[discord.File]]  # opened only when they are sent


class Answers:
    """Edits and sends by token. A dead one is waited for, as a click renews it."""

    def __init__(
        self, client: discord.Client, store: Store, now: Callable[[], datetime] | None = None
    ) -> None:
        self._client = client
        self._store = store
        self._now = now or (lambda: datetime.now(UTC))
        self._renewed: dict[str, asyncio.Event] = {}

    async def keep(self, job_id: str, token: str, message_id: int | None = None) -> None:
        """A new interaction reaches the person; who waits for it goes on."""
        await self._store.keep_token(job_id, Token(token, message_id, self._now()))
        if event := self._renewed.get(job_id):
            event.set()

    async def edit(
        self, job: Job, layout: ui.LayoutView, files: Files, *, wait: bool, offer: bool = False
    ) -> None:
        """*wait*: for a click, if the token is dead; else the edit is left out.

        *offer*: it shows the button, which no progress takes away again.
        """
        found = await self._found(job, wait=wait)
        if found is not None:
            webhook, message_id, age = found
            if not wait and not offer and age > _BUTTON_AT:
                return
            await webhook.edit_message(
                message_id,
                view=layout,
                attachments=files(),
                allowed_mentions=discord.AllowedMentions.none(),
            )

    async def send(self, job: Job, layout: ui.LayoutView, files: Files) -> None:
        found = await self._found(job, wait=True)
        assert found is not None
        await found[0].send(
            view=layout,
            files=files(),
            ephemeral=job.request.wish.private,
            allowed_mentions=discord.AllowedMentions.none(),
        )

    async def find(self, job: Job) -> int | None:
        """The id of the first answer, if the person sees it."""
        found = await self._found(job, wait=False)
        if found is None:
            return None
        webhook, message_id, _ = found
        try:
            return (await webhook.fetch_message(message_id)).id
        except discord.NotFound:
            return None

    async def keep_reachable(self) -> None:
        """For ever: before a token dies, its answer becomes a button."""
        offered: set[tuple[str, datetime]] = set()
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            with suppress(StoreError):
                for job, at in await self._store.open_by_token():
                    age = self._now() - at
                    if (job.id, at) not in offered and _BUTTON_AT < age < _LIFE:
                        offered.add((job.id, at))
                        await self._offer(job)

    async def _offer(self, job: Job) -> None:
        try:
            await self.edit(job, collect_card(job), list, wait=False, offer=True)
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            log.warning("job %s: its button was not shown: %s", job.short_id, error)

    async def _found(
        self, job: Job, *, wait: bool
    ) -> tuple[discord.Webhook, int, timedelta] | None:
        event = self._renewed.setdefault(job.id, asyncio.Event()) if wait else None
        while True:
            if event is not None:
                event.clear()
            kept = await self._store.token(job.id)
            if kept is not None and self._now() - kept.at < _LIFE:
                payload = {"id": self._client.application_id, "type": 3, "token": kept.token}
                # as `interaction.followup` is made; there is no public way from a token alone
                self._renewed.pop(job.id, None)
                webhook = discord.Webhook.from_state(payload, self._client._connection)  # type: ignore[arg-type]
                return webhook, kept.message_id or _ORIGINAL, self._now() - kept.at
            if event is None:
                return None
            if self._now() - (job.finished_at or job.request.created_at) > _KEPT:
                raise Undeliverable("Nobody came for this private result in time.")
            with suppress(TimeoutError):
                async with asyncio.timeout(60):
                    await event.wait()
