"""Where results of the HTTP face lie until they are fetched; who waits for one is woken."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from bot.jobs import NOWHERE, Job, JobState
from bot.publisher import Publisher
from bot.spool import SpooledFile
from comfy.progress import RunProgress


class Shelf(Publisher):
    def __init__(self) -> None:
        self._progress: dict[str, RunProgress] = {}
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)

    def moved(self, before: Job, after: Job) -> None:
        """For `Store.on_move`."""
        if after.state is not JobState.RUNNING:
            self.hush(after.id)
        self._wake(after.id)

    async def change(self, job_id: str, seconds: float) -> None:
        """Until something happens to it, or so long. Of other processes nothing is heard."""
        event = asyncio.Event()
        self._waiting[job_id].add(event)
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting[job_id].discard(event)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    def progress_of(self, job_id: str) -> RunProgress | None:
        return self._progress.get(job_id)

    def _wake(self, job_id: str) -> None:
        for each in self._waiting.get(job_id, ()):
            each.set()

    # As a publisher

    def hush(self, job_id: str) -> None:
        self._progress.pop(job_id, None)

    def show_progress(self, job: Job, progress: RunProgress) -> None:
        if job.state is JobState.RUNNING:
            self._progress[job.id] = progress
            self._wake(job.id)

    async def pack(self, job: Job, files: Sequence[SpooledFile]) -> list[list[SpooledFile]]:
        return [list(files)]

    async def post_result(
        self, job: Job, part: int, pages: Sequence[Sequence[SpooledFile]], lost: Sequence[str]
    ) -> int:
        return NOWHERE

    async def post_failure(self, job: Job) -> int:
        return NOWHERE

    async def find_placeholder(self, job: Job) -> int | None:
        """None: whoever asked got no answer, so nothing may come of it."""
        return None
