"""Results, failures and progress into channels.

A result is an edit of the placeholder, with the list of attachments spelled out: doing it twice
leaves the same message. Only where there is no placeholder to edit a new message is posted,
with a nonce made from the job, after a look whether an earlier try arrived.
"""

import asyncio
import base64
import io
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

import aiohttp
import discord
from discord import ui

from bot.answers import Answers, Files
from bot.cards import failure_card, is_about, progress_card, result_card, waiting_card
from bot.errors import StoreError
from bot.jobs import Job, JobState
from bot.pacing import FirstAlone
from bot.pages import FILE_BYTES, attachments, gone, in_pages, named, too_large
from bot.publisher import DeliveryDelayed, Undeliverable
from bot.restraint import Restraint, is_refusal, refusal
from bot.spool import SpooledFile
from bot.texts import neutral
from comfy.phrases import say
from comfy.progress import RunProgress

log = logging.getLogger(__name__)

PROGRESS_EVERY = 3.0  # seconds between two edits of one message
CHANNEL_EVERY = 2.0  # the same of all in a channel: half of what Discord takes, so results pass
_EDIT_PATIENCE = 10.0  # for a progress edit under way, before the final one overtakes it
_SPARED = 3.0  # seconds
_PREVIEW = "preview.jpg"
_PREVIEW_EVERY = 5.0  # seconds; a new one flickers, and is 30 KB
_LOOKBACK = 50  # messages that are searched for an earlier try

# What the bot needs in a channel before it spends GPU time on it.
NEEDED = {
    "view_channel": "View Channel",
    "send_messages": "Send Messages",
    "attach_files": "Attach Files",
    "read_message_history": "Read Message History",
}
_UNKNOWN_MESSAGE = 10008
_TOO_LARGE = 40005
_ARCHIVED_THREAD = 50083


def missing_permissions(permissions: discord.Permissions, *, thread: bool = False) -> list[str]:
    """The names, as Discord's settings show them, of what the bot lacks to answer somewhere."""
    needed = dict(NEEDED)
    if thread:
        del needed["send_messages"]
        needed["send_messages_in_threads"] = "Send Messages in Threads"
    return [words for name, words in needed.items() if not getattr(permissions, name)]


def is_adult(channel: object) -> bool:
    """Whether Discord restricts it by age; of a thread its channel."""
    is_nsfw = getattr(channel, "is_nsfw", None)
    return bool(is_nsfw and is_nsfw())


@dataclass(slots=True)
class _Live:
    """Progress of one placeholder: the newest state, what shows it, the edit under way."""

    job: Job
    progress: RunProgress
    task: asyncio.Task[None] | None = None
    edit: asyncio.Task[None] | None = None
    gone: bool = False  # somebody deleted the message
    edited_at: float = float("-inf")
    previewed_at: float = float("-inf")


@dataclass(slots=True)
class _Channel:
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    free_at: float = float("-inf")


class Delivery:
    """The runner's `Publisher` on Discord. *client* is the connected bot."""

    def __init__(
        self,
        client: discord.Client,
        answers: Answers,
        restraint: Restraint,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._answers = answers
        self._restraint = restraint
        self._clock = clock
        self._live: dict[str, _Live] = {}
        self._channels: dict[int, _Channel] = {}
        self._quiet_until = float("-inf")
        self._first_edit = FirstAlone()

    # Progress

    def show_progress(self, job: Job, progress: RunProgress) -> None:
        """An edit now and then; what came in between is skipped."""
        live = self._live.setdefault(job.id, _Live(job, progress))
        live.job, live.progress = job, progress
        if not live.gone and (live.task is None or live.task.done()):
            live.task = asyncio.create_task(self._keep_showing(live))

    async def show_place(
        self, job: Job, place: int, begins: datetime | None, server_up: bool
    ) -> None:
        """The end of the job waits for this edit, as for one of progress: it is the last one."""
        live = self._live.setdefault(job.id, _Live(job, RunProgress.of(job.request.graph)))
        card = waiting_card(job, place, begins=begins, server_up=server_up)
        live.edited_at = self._clock()
        live.edit = asyncio.create_task(self._edit(job, card))
        await asyncio.shield(live.edit)

    async def offer(self, job: Job) -> None:
        """A button that brings a new token. The end of the job waits for this edit too."""
        live = self._live.setdefault(job.id, _Live(job, RunProgress.of(job.request.graph)))
        live.edit = asyncio.create_task(self._answers.offer(job))
        await asyncio.shield(live.edit)

    def progress_of(self, job_id: str) -> RunProgress | None:
        """What is known of a job that runs now."""
        return live.progress if (live := self._live.get(job_id)) else None

    async def _keep_showing(self, live: _Live) -> None:
        shown: tuple[JobState, RunProgress] | None = None
        while (live.job.state, live.progress) != shown:
            next_edit = max(live.edited_at + PROGRESS_EVERY, self._quiet_until)
            await asyncio.sleep(next_edit - self._clock())
            async with self._in_turn(live.job):
                shown = (live.job.state, live.progress)
                await self._show(live)
            if live.gone:
                return

    @asynccontextmanager
    async def _in_turn(self, job: Job) -> AsyncIterator[None]:
        """Jobs in one channel show their progress one after the other."""
        if job.request.by_token:  # these edits count for their own token
            yield
            return
        channel = self._channels.setdefault(job.request.channel_id, _Channel())
        async with channel.turn:
            await asyncio.sleep(channel.free_at - self._clock())
            channel.free_at = self._clock() + CHANNEL_EVERY
            yield

    async def _show(self, live: _Live) -> None:
        live.edited_at = self._clock()
        files = self._preview_of(live)
        card = progress_card(live.job, live.progress, _PREVIEW if files is not list else None)
        live.edit = asyncio.create_task(self._edit(live.job, card, files))
        try:
            await asyncio.shield(live.edit)
        except (DeliveryDelayed, Undeliverable, StoreError):
            live.previewed_at = float("-inf")
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            live.previewed_at = float("-inf")  # it may not stand there
            live.gone = getattr(error, "code", None) == _UNKNOWN_MESSAGE
            log.info("progress of job %s was not shown: %s", live.job.short_id, error)

    def _preview_of(self, live: _Live) -> Files | None:
        """A new one now and then; in between the one that stands there stays: None."""
        picture = live.progress.preview if live.job.state is JobState.RUNNING else None
        if picture is None:
            live.previewed_at = float("-inf")
            return list
        if self._clock() - live.previewed_at < _PREVIEW_EVERY:
            return None
        live.previewed_at = self._clock()
        return lambda: [discord.File(io.BytesIO(picture), _PREVIEW)]

    async def _stop_progress(self, job: Job) -> None:
        """After this no edit is under way or to come: the final one is the last."""
        live = self._live.pop(job.id, None)
        if live and live.task:
            live.task.cancel()
            await asyncio.gather(live.task, return_exceptions=True)
        if live and live.edit:
            await asyncio.wait([live.edit], timeout=_EDIT_PATIENCE)
            live.edit.cancel()

    def hush(self, job_id: str) -> None:
        """Another process has the job: no edit of ours may come after its own."""
        live = self._live.pop(job_id, None)
        for each in filter(None, (live.task, live.edit) if live else ()):
            each.cancel()

    def spare(self) -> None:
        """The bot has more to do than it can: what is only progress waits."""
        self._quiet_until = self._clock() + _SPARED

    async def close(self) -> None:
        """No edit is under way or to come, as Discord is about to be left."""
        tasks = [each for live in self._live.values() for each in (live.task, live.edit) if each]
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Ends

    async def pack(self, job: Job, files: Sequence[SpooledFile]) -> list[list[SpooledFile]]:
        return await in_pages(job, files, self.limit_of(job))

    async def post_result(
        self, job: Job, part: int, pages: Sequence[Sequence[SpooledFile]], lost: Sequence[str]
    ) -> int:
        await self._stop_progress(job)
        self._check_age(job)
        first = 1 + sum(len(page) for page in pages[:part])
        fitting, notes = named(job, pages[part], self.limit_of(job), first)
        if part == 0:
            notes += [gone(name) for name in lost]

        async def publish(asked: Job, shown: Sequence[SpooledFile], told: Sequence[str]) -> int:
            whole = shown == fitting and len(fitting) == len(pages[part])
            card = result_card(asked, part, len(pages), shown, told, whole=whole)
            return await self._publish(job, part, card, shown)

        with _translating():
            try:
                return await publish(job, fitting, notes)
            except discord.HTTPException as error:
                if error.code == _TOO_LARGE or error.status == 413:
                    return await publish(job, [], [*notes, *(too_large(each) for each in fitting)])
                if error.status == 400:  # such as AutoMod, which reads the prompt too
                    return await publish(_without_words(job), fitting, notes)
                raise

    def _check_age(self, job: Job) -> None:
        """Discord's restriction may have gone since the request."""
        channel = self._client.get_channel(job.request.channel_id)
        if job.request.nsfw and channel is not None and not is_adult(channel):
            raise Undeliverable(
                say("{name} works only in age-restricted channels.", name=job.request.workflow)
            )

    async def post_failure(self, job: Job) -> int:
        await self._stop_progress(job)
        with _translating():
            try:
                return await self._publish(job, 0, failure_card(job))
            except discord.HTTPException as error:
                if error.status != 400:
                    raise
                return await self._publish(job, 0, failure_card(_without_words(job)))

    async def delete(self, job: Job) -> None:
        """Every message of the result; those that are gone are fine."""
        shown = [job.message_id] if job.message_id else []
        for message_id in dict.fromkeys([*shown, *job.messages]):
            with suppress(discord.NotFound):
                await self._channel(job).get_partial_message(message_id).delete()

    async def find_placeholder(self, job: Job) -> int | None:
        """The placeholder of a request whose acknowledgement a crash may have hidden."""
        with _translating():
            if job.request.by_token:
                return await self._answers.find(job)
            found = await self._find(job, 0)
        return found.id if found else None

    async def _publish(
        self, job: Job, part: int, layout: ui.LayoutView, files: Sequence[SpooledFile] = ()
    ) -> int:
        """Edit the placeholder; for a later part, or if it is gone, one new message."""
        if job.request.by_token:
            answer = self._answers.edit if part == 0 else self._answers.send
            with self._restraint.asking():
                return await answer(job, layout, partial(attachments, files))
        if part == 0:
            try:
                await self._edit(job, layout, partial(attachments, files))
            except discord.NotFound as error:
                if error.code != _UNKNOWN_MESSAGE:
                    raise
            except discord.HTTPException as error:
                if error.code != _ARCHIVED_THREAD:  # a new message opens it again
                    raise
            else:
                assert job.message_id is not None
                return job.message_id
        earlier = await self._find(job, part)
        if earlier is not None and earlier.id != job.message_id:
            return earlier.id
        try:
            with self._restraint.asking(job.request.channel_id):
                sent = await self._channel(job).send(
                    view=layout,
                    files=attachments(files),
                    nonce=_nonce(job, part),
                    allowed_mentions=discord.AllowedMentions.none(),
                )
        except discord.NotFound as error:
            if is_refusal(error):
                raise
            # Discord knows the nonce and has no such message: it was posted, and deleted.
            log.info("job %s: its message was deleted", job.short_id)
            return job.message_id or 0
        return sent.id

    async def _edit(self, job: Job, layout: ui.LayoutView, files: Files | None = list) -> None:
        """Through the channel, not the interaction: its token dies after 15 minutes.

        *files* None: what is attached stays.
        """
        if job.request.by_token:  # progress: what cannot be shown now is left out
            await self._answers.try_edit(job, layout, files)
            return
        assert job.message_id is not None
        message = self._channel(job).get_partial_message(job.message_id)
        async with self._first_edit.asking():
            with self._restraint.asking(job.request.channel_id):
                await message.edit(
                    view=layout,
                    attachments=discord.utils.MISSING if files is None else files(),
                    allowed_mentions=discord.AllowedMentions.none(),
                )

    async def _find(self, job: Job, part: int) -> discord.Message | None:
        since = discord.Object(discord.utils.time_snowflake(job.request.created_at))
        with self._restraint.asking(job.request.channel_id):
            async for message in self._channel(job).history(
                limit=_LOOKBACK, after=since, oldest_first=False
            ):
                ours = self._client.user is not None and message.author.id == self._client.user.id
                if ours and is_about(message, job, part):
                    return message
            return None

    def _channel(self, job: Job) -> discord.PartialMessageable:
        return self._client.get_partial_messageable(
            job.request.channel_id, guild_id=job.request.guild_id
        )

    def limit_of(self, job: Job) -> int:
        """Bytes that one file may have where the job was asked for."""
        guild = self._client.get_guild(job.request.guild_id or 0)
        return guild.filesize_limit if guild else FILE_BYTES


def _without_words(job: Job) -> Job:
    return replace(job, texts=(), request=replace(job.request, text=""))


def _nonce(job: Job, part: int) -> str:
    """At most 25 characters, and different for every message of every job."""
    digest = base64.b32encode(uuid.UUID(job.id).bytes[:12]).decode().rstrip("=")
    return f"{digest}-{part}{job.state.value[0]}"


@contextmanager
def _translating() -> Iterator[None]:
    """Discord's answers → what the runner can do about them."""
    try:
        yield
    except discord.HTTPException as error:
        if is_refusal(error):
            raise Undeliverable(refusal(error)) from error
        if error.status == 400:
            why = neutral(error.text, 300).rstrip(".")
            raise Undeliverable(say("Discord refused the message: {why}.", why=why)) from error
        raise DeliveryDelayed(f"Discord answered {error.status}: {error.text}") from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise DeliveryDelayed(str(error) or type(error).__name__) from error
