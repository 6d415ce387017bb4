"""A result once more: shown again with its buttons, or the files that were too large, in pieces.

What was public comes from its messages, so that what a moderator deleted stays deleted. Nobody can
read a private one again, so that comes from ComfyUI, as the originals do.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import discord

from bot.answers import FOLLOWUPS, is_stranger
from bot.cards import result_card, warnings_in
from bot.delivery import Delivery
from bot.errors import UserError
from bot.jobs import Job
from bot.languages import language_of
from bot.pages import FILES_PER_MESSAGE, REQUEST_BYTES, attachments, gone, named, plain_name
from bot.servers import Servers
from bot.spool import Spool, SpooledFile
from comfy.phrases import say

_CHUNK = 1024 * 1024
_GONE = say("The pictures of this job are gone. `Again` makes new ones.")


class Revival:
    """Every method answers an interaction that is deferred; `UserError` if the files are gone."""

    def __init__(
        self, client: discord.Client, servers: Servers, spool: Spool, delivery: Delivery
    ) -> None:
        self._client = client
        self._servers = servers
        self._spool = spool
        self._delivery = delivery

    async def show(self, interaction: discord.Interaction, job: Job) -> None:
        public = job.messages and not job.request.by_token
        source = self._from_discord if public else self._from_server
        async with source(job) as (files, told):
            pages = await self._delivery.pack(job, files)
            first, limit = 1, self._delivery.limit_of(job)
            for part, page in enumerate(pages):
                shown, notes = named(job, page, limit, first)
                first += len(page)
                notes = [*told, *notes] if part == 0 else notes
                card = result_card(job, part, len(pages), shown, notes, whole=not notes)
                if part == 0:
                    await interaction.edit_original_response(
                        view=card, attachments=attachments(shown)
                    )
                else:
                    private = job.request.wish.private
                    await interaction.followup.send(
                        view=card, files=attachments(shown), ephemeral=private
                    )

    async def send_originals(self, interaction: discord.Interaction, job: Job) -> None:
        """What was too large where the job was asked for, in pieces that can be put together."""
        t, limit = language_of(interaction), min(self._delivery.limit_of(job), REQUEST_BYTES)
        async with self._from_server(job) as (files, told), self._spool.room() as room:
            numbered = list(enumerate(files, 1))
            # if none is, it was Discord that did not take something
            large = [each for each in numbered if each[1].size > limit] or numbered
            sent: list[tuple[str, list[SpooledFile]]] = []
            for number, file in large:
                name = plain_name(job, number, file.name)
                pieces = await asyncio.to_thread(_pieces, file.path, room, name, limit)
                text = name
                if len(pieces) > 1:
                    text = t(
                        "{file} in {number} pieces. 7-Zip opens the first; "
                        "or `cat {file}.* > {file}`, on Windows `copy /b {file}.* {file}`.",
                        file=name,
                        number=len(pieces),
                    )
                together = list(_by_request(pieces))
                sent += [(text if each is together[0] else "", each) for each in together]
            if len(sent) > FOLLOWUPS and is_stranger(interaction):
                raise UserError(
                    say("This is too large for a place where I am no member. Ask for it elsewhere.")
                )
            for text, pieces in sent:
                await interaction.followup.send(text, files=attachments(pieces), ephemeral=True)
            if told:
                text = "\n".join(t.said(each) for each in told)
                await interaction.followup.send(text, ephemeral=True)

    @asynccontextmanager
    async def _from_server(self, job: Job) -> AsyncIterator[tuple[list[SpooledFile], list[str]]]:
        """The files, and what is to be told of those that are gone."""
        server = self._servers.get(job.server or "")
        if server is None and job.outputs:
            raise UserError(_GONE)
        if server is not None and not server.up:
            raise UserError(
                say("{server} does not answer right now. Try again later.", server=server.name)
            )
        client = server.client if server else None
        async with self._spool.fetched(job, client, until=datetime.now(UTC)) as (files, lost):
            if lost and not files:
                raise UserError(_GONE)
            yield files, [gone(name) for name in lost]

    @asynccontextmanager
    async def _from_discord(self, job: Job) -> AsyncIterator[tuple[list[SpooledFile], list[str]]]:
        """The files, and what their messages told of others."""
        channel = self._client.get_partial_messageable(
            job.request.channel_id, guild_id=job.request.guild_id
        )
        files: list[SpooledFile] = []
        told: list[str] = []
        async with self._spool.room() as room:
            try:
                for message_id in job.messages:
                    message = await channel.fetch_message(message_id)
                    told += warnings_in(message, job)
                    for each in message.attachments:
                        path = room / str(len(files))
                        await asyncio.to_thread(path.write_bytes, await each.read())
                        files.append(SpooledFile(path, each.filename, each.size))
            except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
                raise UserError(_GONE) from error
            yield files, told


def _pieces(path: Path, room: Path, name: str, limit: int) -> list[SpooledFile]:
    """`NAME.001` and so on, each of at most *limit* bytes."""
    pieces: list[SpooledFile] = []
    with path.open("rb") as file:
        while begin := file.read(min(limit, _CHUNK)):
            piece, left = room / f"{name}.{len(pieces) + 1:03}", limit - len(begin)
            with piece.open("wb") as target:
                target.write(begin)
                while left and (chunk := file.read(min(left, _CHUNK))):
                    left -= target.write(chunk)
            pieces.append(SpooledFile(piece, piece.name, limit - left))
    if len(pieces) == 1:
        return [replace(pieces[0], name=name)]
    return pieces


def _by_request(pieces: Sequence[SpooledFile]) -> Iterator[list[SpooledFile]]:
    together: list[SpooledFile] = []
    for each in pieces:
        full = sum(piece.size for piece in together) + each.size > REQUEST_BYTES
        if together and (full or len(together) == FILES_PER_MESSAGE):
            yield together
            together = []
        together.append(each)
    yield together
