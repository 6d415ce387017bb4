"""Where people see jobs, as the runner needs it: Discord's is `bot/delivery.py`, that of the HTTP
face `bot/shelf.py`."""

from collections.abc import Sequence
from typing import Protocol

from bot.jobs import Job
from bot.spool import SpooledFile
from comfy.progress import RunProgress


class Undeliverable(Exception):
    """Discord will not take the message, now or later; the text says why."""


class DeliveryDelayed(Exception):
    """Discord cannot take the message now."""


class Publisher(Protocol):
    """Where people see jobs. Every method may be repeated with the same visible effect.

    All but `show_progress` raise `DeliveryDelayed` or `Undeliverable`. What posts gives the id of
    the message that then shows it.
    """

    def hush(self, job_id: str) -> None: ...

    def show_progress(self, job: Job, progress: RunProgress) -> None: ...

    async def pack(self, job: Job, files: Sequence[SpooledFile]) -> list[list[SpooledFile]]:
        """The files of each message, smaller copies for what is too large; at least one message."""
        ...

    async def post_result(
        self, job: Job, part: int, pages: Sequence[Sequence[SpooledFile]], lost: Sequence[str]
    ) -> int: ...

    async def post_failure(self, job: Job) -> int: ...

    async def find_placeholder(self, job: Job) -> int | None: ...


class ByAsker(Publisher):
    """Each job goes to the publisher of where it was asked for."""

    def __init__(self, discord: Publisher, http: Publisher) -> None:
        self._discord, self._http = discord, http

    def _of(self, job: Job) -> Publisher:
        return self._http if job.request.over_http else self._discord

    def hush(self, job_id: str) -> None:
        self._discord.hush(job_id)
        self._http.hush(job_id)

    def show_progress(self, job: Job, progress: RunProgress) -> None:
        self._of(job).show_progress(job, progress)

    async def pack(self, job: Job, files: Sequence[SpooledFile]) -> list[list[SpooledFile]]:
        return await self._of(job).pack(job, files)

    async def post_result(
        self, job: Job, part: int, pages: Sequence[Sequence[SpooledFile]], lost: Sequence[str]
    ) -> int:
        return await self._of(job).post_result(job, part, pages, lost)

    async def post_failure(self, job: Job) -> int:
        return await self._of(job).post_failure(job)

    async def find_placeholder(self, job: Job) -> int | None:
        return await self._of(job).find_placeholder(job)
