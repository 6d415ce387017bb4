"""Answers that only an interaction's token reaches: private ones, and where the bot is no member.

A token lives fifteen minutes. Before it dies the answer becomes a button, and a click on that
brings a new one.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, cast

import aiohttp
import discord
from discord import ui

from bot.cards import collect_card, is_about
from bot.cards import layout as layout_of
from bot.errors import StoreError
from bot.jobs import Job, JobState
from bot.languages import language
from bot.people import DEAD, Token
from bot.publisher import Undeliverable
from bot.store import Store
from comfy.phrases import say

log = logging.getLogger(__name__)

_BUTTON_AT = timedelta(minutes=13)  # of the fifteen that a token lives
_LOOK_EVERY = 20.0  # seconds
_AGAIN = (0.5, 2.0)  # seconds until an answer that may not have arrived is given once more
_KEPT = timedelta(days=1)  # how long a result waits for its click
# Of one interaction, where the bot is no member: docs.discord.com, Receiving and Responding
FOLLOWUPS = 5
ANSWERED = 40060  # Interaction has already been acknowledged
_UNKNOWN_MESSAGE = 10008
_DEAD = (10015, 50027)  # Unknown Webhook, Invalid Webhook Token
_SETTLING = timedelta(seconds=10)  # in which Discord may not know a new token yet
UNKNOWN = 0  # in place of a message's id
_ORIGINAL = cast(int, "@original")  # Discord's name for the first answer to an interaction


Files = Callable[[], list[discord.File]]  # opened only when they are sent


def is_stranger(interaction: discord.Interaction) -> bool:
    """Whether the bot only answers here: in a server or a conversation that it is no member of."""
    if interaction.guild_id is None:
        return interaction.context.private_channel
    return interaction.client.get_guild(interaction.guild_id) is None


async def defer(interaction: discord.Interaction, *, private: bool) -> None:
    """Discord shows that the bot thinks, also where its receipt for that got lost."""
    try:
        await interaction.response.defer(thinking=True, ephemeral=private)
    except discord.HTTPException as error:
        if error.code != ANSWERED:
            raise
        # discord.py tried again and must know of the first time; there is no public way
        thinks = discord.InteractionResponseType.deferred_channel_message
        interaction.response._response_type = thinks


async def answer_late(interaction: discord.Interaction, view: ui.LayoutView) -> int:
    """The answer that was waited for; the id of its message. Given again if nobody knows whether it
    arrived, as twice leaves the same."""
    for delay in _AGAIN:
        try:
            return (await interaction.edit_original_response(view=view)).id
        except (aiohttp.ClientError, OSError) as error:
            log.info("an answer is given again: %s", error)
        await asyncio.sleep(delay)
    return (await interaction.edit_original_response(view=view)).id


class _Way(NamedTuple):
    """To an answer: what edits it, which message it is, and how old the token is."""

    webhook: discord.Webhook
    message_id: int
    age: timedelta


class Answers:
    """Edits and sends by token. A dead one is waited for, as a click renews it."""

    def __init__(
        self, client: discord.Client, store: Store, now: Callable[[], datetime] | None = None
    ) -> None:
        self._client = client
        self._store = store
        self._now = now or (lambda: datetime.now(UTC))
        self._renewed: dict[str, asyncio.Event] = {}
        self._promised: set[str] = set()

    async def keep(self, job_id: str, token: str, message_id: int | None = None) -> None:
        """A new interaction reaches the person; who waits for it goes on."""
        await self._store.keep_token(job_id, Token(token, message_id, self._now()))
        if event := self._renewed.get(job_id):
            event.set()

    def hear(self, job_id: str) -> None:
        """Another process has a new token for it."""
        if event := self._renewed.get(job_id):
            event.set()

    @asynccontextmanager
    async def promising(self, interaction: discord.Interaction) -> AsyncIterator[None]:
        """Around what takes longer than Discord waits for: a crash in it is told afterwards, and so
        is what `doubt` was called for."""
        key = str(interaction.id)
        self._promised.add(key)
        token = Token(interaction.token, None, self._now(), str(interaction.locale))
        try:
            await self._store.keep_token(key, token)
            yield
        finally:
            if key in self._promised:
                self._promised.discard(key)
                with suppress(StoreError):  # the bot is being closed: the next one tells it
                    await self._store.drop_token(key)

    def doubt(self, interaction: discord.Interaction) -> None:
        """What was promised may not have arrived."""
        self._promised.discard(str(interaction.id))

    async def excuse_all(self) -> None:
        """What an earlier process began to answer, and did not, or nobody knows."""
        for key, token in (await self._store.promises()).items():
            if key in self._promised:
                continue
            if not key.isdigit():  # of a job that was deleted while its click was answered
                await self._store.drop_token(key)
                continue
            if job := await self._store.came_of(int(key)):  # then the runner looks after it
                if job.message_id is not None:
                    await self._store.drop_token(key)
                continue
            text = language(token.locale)("I was restarted before I had everything. Ask again.")
            card = layout_of(ui.Container(ui.TextDisplay(text)))
            try:
                await _edit(_Way(self._webhook(token), _ORIGINAL, timedelta()), card, list)
            except discord.HTTPException as error:
                log.info("interaction %s cannot be told of the restart: %s", key, error)
            await self._store.drop_token(key)

    async def edit(self, job: Job, layout: ui.LayoutView, files: Files) -> int:
        """For good: a click is waited for if the token is dead. The id of the message."""

        async def edit(way: "_Way") -> int:
            if way.message_id == UNKNOWN:  # a crash hid which one it was
                return await self._sent(job, way, layout, files)
            return await _edit(way, layout, files)

        return await self._by_token(job, edit)

    async def try_edit(
        self, job: Job, layout: ui.LayoutView, files: Files | None, *, offer: bool = False
    ) -> None:
        """Left out if the token is dead, or it is time for the button, which then stays."""
        found = await self._found(job, wait=False)
        if found is None or (found.age > _BUTTON_AT) is not offer:
            return
        try:
            await _edit(found, layout, files)
        except discord.HTTPException as error:
            if not await self._is_dead(job, found, error):
                raise

    async def send(self, job: Job, layout: ui.LayoutView, files: Files) -> int:
        return await self._by_token(job, lambda way: self._sent(job, way, layout, files))

    async def _sent(self, job: Job, way: "_Way", layout: ui.LayoutView, files: Files) -> int:
        sent = await way.webhook.send(
            view=layout,
            files=files(),
            ephemeral=job.request.wish.private,
            allowed_mentions=discord.AllowedMentions.none(),
            wait=True,
        )
        return sent.id

    async def _by_token(self, job: Job, act: Callable[["_Way"], Awaitable[int]]) -> int:
        """With a token that lives: after one that is dead, a click is waited for."""
        while True:
            way = await self._found(job, wait=True)
            assert way is not None
            try:
                return await act(way)
            except discord.HTTPException as error:
                if error.code == _UNKNOWN_MESSAGE:
                    raise Undeliverable(say("Its message was deleted.")) from error
                if not await self._is_dead(job, way, error):
                    raise

    async def _is_dead(self, job: Job, way: "_Way", error: discord.HTTPException) -> bool:
        """Discord's word counts, as clocks jump. What is dead is not asked again."""
        if error.code not in _DEAD or timedelta(0) <= way.age < _SETTLING:
            return False
        log.info("job %s: its token died after %s", job.short_id, way.age)
        await self._store.expire_token(job.id, way.webhook.token or "")
        return True

    async def find(self, job: Job) -> int | None:
        """The id of the first answer, if the person sees it; 0 if nobody can tell any more."""
        found = await self._found(job, wait=False)
        if found is None:
            return UNKNOWN if await self._store.token(job.id) else None
        if found.message_id == UNKNOWN:
            return UNKNOWN
        try:
            message = await found.webhook.fetch_message(found.message_id)
        except discord.NotFound:  # there is none, or the interaction was never answered
            return None
        except discord.HTTPException as error:
            if await self._is_dead(job, found, error):
                return UNKNOWN
            raise
        # What stands there may also be the reason why nothing came of the request.
        return message.id if message.flags.loading or is_about(message, job, 0) else None

    async def keep_reachable(self, offer: Callable[[Job], Awaitable[None]]) -> None:
        """For ever: before a token dies, its answer becomes a button."""
        offered: set[tuple[str, datetime]] = set()
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            with suppress(StoreError, aiohttp.ClientError, OSError):
                await self.excuse_all()
                for job, at in await self._store.open_by_token():
                    if self._now() - at > _BUTTON_AT and (job.id, at) not in offered:
                        offered.add((job.id, at))
                        await offer(job)

    async def offer(self, job: Job) -> None:
        """The button, unless the job came to its end meanwhile."""
        now = await self._store.get(job.id)
        if now is None or now.state.final or now.state is JobState.EXECUTED:
            return
        try:
            await self.try_edit(job, collect_card(job), list, offer=True)
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            log.warning("job %s: its button was not shown: %s", job.short_id, error)

    def _webhook(self, kept: Token) -> discord.Webhook:
        payload = {"id": self._client.application_id, "type": 3, "token": kept.token}
        # as `interaction.followup` is made; there is no public way from a token alone
        return discord.Webhook.from_state(payload, self._client._connection)  # type: ignore[arg-type]

    async def _found(self, job: Job, *, wait: bool) -> "_Way | None":
        event = self._renewed.setdefault(job.id, asyncio.Event()) if wait else None
        while True:
            if event is not None:
                event.clear()
            kept = await self._store.token(job.id)
            if kept is not None and kept.at > DEAD:
                self._renewed.pop(job.id, None)
                webhook = self._webhook(kept)
                original = _ORIGINAL if kept.message_id is None else kept.message_id
                return _Way(webhook, original, self._now() - kept.at)
            if event is None:
                return None
            if self._now() - (job.finished_at or job.request.created_at) > _KEPT:
                raise Undeliverable(say("Nobody came for this private result in time."))
            with suppress(TimeoutError):
                async with asyncio.timeout(60):
                    await event.wait()


async def _edit(way: _Way, layout: ui.LayoutView, files: Files | None) -> int:
    message = await way.webhook.edit_message(
        way.message_id,
        view=layout,
        attachments=discord.utils.MISSING if files is None else files(),
        allowed_mentions=discord.AllowedMentions.none(),
    )
    return message.id
