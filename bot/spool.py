"""Files on their way from ComfyUI to Discord: streamed to disk, never whole in memory."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from comfy.client import ComfyClient
from comfy.errors import ServerError
from comfy.models import OutputFile

_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class SpooledFile:
    """A whole copy on disk of one output. *name* is what Discord shows."""

    path: Path
    name: str
    size: int


class Spool:
    """A folder of temporary copies; what a crash left behind goes at the start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def clear(self) -> None:
        def renew() -> None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(parents=True, exist_ok=True)

        await asyncio.to_thread(renew)

    @asynccontextmanager
    async def fetched(
        self, client: ComfyClient, files: Iterable[OutputFile]
    ) -> AsyncIterator[list[SpooledFile]]:
        """Local copies, in order, for as long as the block lasts."""
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=self._folder))
        try:
            yield [
                await self._fetch(client, file, folder / f"{number}")
                for number, file in enumerate(files)
            ]
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _fetch(self, client: ComfyClient, file: OutputFile, path: Path) -> SpooledFile:
        size = 0
        async with client.view(file) as stream:
            target = await asyncio.to_thread(path.open, "wb")
            try:
                async for chunk in stream.iter_chunked(_CHUNK):
                    size += len(chunk)
                    await asyncio.to_thread(target.write, chunk)
            finally:
                await asyncio.to_thread(target.close)
        if size == 0:
            raise ServerError(f"{client.url} sent an empty {file.filename}")
        return SpooledFile(path, file.filename, size)
