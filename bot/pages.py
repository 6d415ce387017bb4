"""Which files of a result go into which of its messages, under what names."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import discord

from bot.copies import smaller
from bot.jobs import Job
from bot.spool import SpooledFile
from bot.texts import neutral, size
from comfy.phrases import Phrase, say

FILES_PER_MESSAGE = 10  # https://docs.discord.com/developers/resources/message
REQUEST_BYTES = 24 * 2**20  # a whole request may have 25 MiB, form fields included
FILE_BYTES = 10 * 2**20  # one file, in a direct message or a server without boosts
_SUFFIX = re.compile(r"\.[a-z0-9]{1,10}")


async def in_pages(job: Job, files: Sequence[SpooledFile], limit: int) -> list[list[SpooledFile]]:
    """By number and by bytes; *limit*: those of one file. What is too large for any message is a
    page's note later."""
    limit = min(limit, REQUEST_BYTES)
    files = [await _small_enough(job, each, limit) for each in files]
    pages: list[list[SpooledFile]] = [[]]
    room = REQUEST_BYTES
    for file in files:
        size = file.size if file.size <= limit else 0
        if len(pages[-1]) == FILES_PER_MESSAGE or size > room:
            pages.append([])
            room = REQUEST_BYTES
        room -= size
        pages[-1].append(file)
    return pages


async def _small_enough(job: Job, file: SpooledFile, limit: int) -> SpooledFile:
    """Always the same copy of the same file, so that a repeated message is the same."""
    if file.size <= limit:
        return file
    copy = await asyncio.to_thread(smaller, file.path, limit)
    if copy is None:
        return file
    note = say(
        "{file} ({size}) is too large here, so this is a smaller copy. `Original` gives the whole.",
        file=neutral(file.name, 80),
        size=size(file.size),
    )
    bytes_of_copy = (await asyncio.to_thread(copy.stat)).st_size
    return SpooledFile(copy, f"{PurePosixPath(file.name).stem}.webp", bytes_of_copy, note)


def named(
    job: Job, files: Sequence[SpooledFile], limit: int, first: int
) -> tuple[list[SpooledFile], list[str]]:
    """What may be posted, under plain names, and a note for each of the rest.

    Discord rewrites other letters in file names, and then `attachment://` finds nothing.
    """
    fitting: list[SpooledFile] = []
    notes: list[str] = []
    for number, file in enumerate(files, first):
        if file.size > min(limit, REQUEST_BYTES):
            notes.append(too_large(file))
        else:
            fitting.append(replace(file, name=plain_name(job, number, file.name)))
    return fitting, notes


def plain_name(job: Job, number: int, name: str) -> str:
    """Of what a server calls its file only the ending stays, if it is one."""
    suffix = PurePosixPath(name).suffix.lower()
    return f"{job.short_id}-{number}{suffix if _SUFFIX.fullmatch(suffix) else ''}"


def gone(name: str) -> Phrase:
    return say("{file} is no longer on the server.", file=neutral(name, 80))


def too_large(file: SpooledFile) -> Phrase:
    return say(
        "{file} ({size}) is too large to be posted here. `Original` gives it in pieces.",
        file=neutral(file.name, 80),
        size=size(file.size),
    )


def attachments(files: Sequence[SpooledFile]) -> list[discord.File]:
    return [discord.File(each.path, filename=each.name) for each in files]
