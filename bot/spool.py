"""Files on their way from ComfyUI to Discord: streamed to disk, never whole in memory."""

import asyncio
import logging
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from bot.errors import Busy
from bot.jobs import Job
from bot.metadata import strip
from comfy.client import ComfyClient
from comfy.errors import FileGone, ServerError, ServerUnavailable
from comfy.files import ended
from comfy.models import OutputFile
from comfy.phrases import say

log = logging.getLogger(__name__)

_CHUNK = 2**20  # bytes that are written at once: every write is a trip to another thread
_PATIENCE = (1.0, 60.0)  # seconds between two tries: from, to
_TRIES = 3
KEPT = timedelta(days=1)  # how long a server with a result is waited for
_ROOM = 64 * 2**20  # bytes that must be free before more is asked for
_LOOK_EVERY = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class SpooledFile:
    """A whole copy on disk of one output. *name* is what Discord shows; *note* what people should
    know of it."""

    path: Path
    name: str
    size: int
    note: str = ""


class _Copies(NamedTuple):
    of: tuple[OutputFile, ...]
    folder: Path
    files: list[SpooledFile]
    lost: list[str]


class Spool:
    """A folder of temporary copies; what a crash left behind goes at the start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._begun: dict[str, asyncio.Task[_Copies]] = {}
        self._room_until = float("-inf")  # loop time, for which there is enough

    async def clear(self) -> None:
        def renew() -> None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True, exist_ok=True)

        await asyncio.to_thread(renew)

    async def check_room(self) -> None:
        clock = asyncio.get_running_loop().time
        if clock() < self._room_until:  # threads are busy while files are on their way
            return
        usage = await asyncio.to_thread(shutil.disk_usage, self._folder)
        if usage.free < _ROOM:
            log.error("the disk of %s is full: no requests are taken", self._folder)
            raise Busy(say("My disk is full, so I take no requests. Tell my owner."))
        self._room_until = clock() + _LOOK_EVERY

    @asynccontextmanager
    async def fetched(
        self, job: Job, client: ComfyClient | None, *, until: datetime
    ) -> AsyncIterator[tuple[list[SpooledFile], list[str]]]:
        """Local copies, in order, for as long as the block lasts, and the names of lost files.

        A server that does not answer is waited for until *until*; what it answers wrongly three
        times is lost.
        """
        begun = self._begun.pop(job.id, None)
        copies = (await asyncio.gather(begun, return_exceptions=True))[0] if begun else None
        if not isinstance(copies, _Copies) or copies.of != job.outputs:
            if isinstance(copies, _Copies):
                await asyncio.to_thread(shutil.rmtree, copies.folder, ignore_errors=True)
            copies = await self._copies(job, client, until)
        try:
            yield copies.files, copies.lost
        finally:
            await asyncio.to_thread(shutil.rmtree, copies.folder, ignore_errors=True)

    def begin(self, job: Job, client: ComfyClient) -> None:
        """What is known of its outputs is fetched already; `fetched` or `drop` follows."""
        if job.id not in self._begun:
            copies = self._copies(job, client, datetime.now(UTC) + KEPT)
            self._begun[job.id] = asyncio.create_task(copies, name=f"files of {job.short_id}")

    async def drop(self, job_id: str) -> None:
        """What was begun for it is not wanted any more."""
        if begun := self._begun.pop(job_id, None):
            begun.cancel()
            (copies,) = await asyncio.gather(begun, return_exceptions=True)
            if isinstance(copies, _Copies):
                await asyncio.to_thread(shutil.rmtree, copies.folder, ignore_errors=True)

    async def _copies(self, job: Job, client: ComfyClient | None, until: datetime) -> "_Copies":
        folder = self._folder / str(uuid.uuid4())
        files: list[SpooledFile] = []
        lost: list[str] = []
        try:
            for number, file in enumerate(job.outputs):
                assert client is not None
                copying = Copying(client, file, folder / f"{number}", job.request.keep_metadata)
                copy = await _patiently(copying, until)
                if copy is None:
                    lost.append(file.filename)
                else:
                    files.append(copy)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return _Copies(job.outputs, folder, files, lost)

    @asynccontextmanager
    async def room(self) -> AsyncIterator[Path]:
        """A folder for as long as the block lasts."""
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._folder))
        try:
            yield folder
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


class Copying(NamedTuple):
    """One output on its way to *path*, whose folder is made."""

    client: ComfyClient
    file: OutputFile
    path: Path
    keep_metadata: bool

    async def done(self) -> SpooledFile:
        size, buffer = 0, bytearray()
        async with self.client.view(self.file) as stream:
            async for chunk in stream.iter_any():
                if not size:
                    self._check(chunk)
                buffer += chunk
                size += len(chunk)
                if len(buffer) >= _CHUNK:
                    await ended(self._write, buffer, size)
                    buffer = bytearray()
        if size == 0:
            raise ServerError(f"{self.client.url} sent an empty {self.file.filename}")
        return SpooledFile(self.path, self.file.filename, await ended(self._finish, buffer, size))

    def _check(self, begin: bytes) -> None:
        if begin.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):  # a login, say
            raise ServerError(f"{self.client.url} sent a web page for {self.file.filename}")

    def _write(self, buffer: bytearray, size: int) -> None:
        """*size*: of all until here."""
        self.path.parent.mkdir(mode=0o700, exist_ok=True)  # what is private stays so
        with self.path.open("wb" if size == len(buffer) else "ab") as file:
            file.write(buffer)

    def _finish(self, buffer: bytearray, size: int) -> int:
        """What people may have of it; its bytes then."""
        self._write(buffer, size)
        if not self.keep_metadata:
            strip(self.path)
        return self.path.stat().st_size


async def _patiently(copying: Copying, until: datetime) -> SpooledFile | None:
    delay, refused = _PATIENCE[0], 0
    while True:
        try:
            return await copying.done()
        except FileGone as error:
            log.warning("%s", error)
            return None
        except ServerError as error:
            log.warning("%s is not fetched yet: %s", copying.file.filename, error)
            refused += not isinstance(error, ServerUnavailable)
            if refused >= _TRIES or datetime.now(UTC) > until:
                return None
        await asyncio.sleep(delay)
        delay = min(delay * 2, _PATIENCE[1])
