"""Where people see jobs, as the runner needs it; `bot/delivery.py` is Discord's."""

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
