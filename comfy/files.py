"""Files that are opened and closed off the event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any


@asynccontextmanager
async def opened(path: Path, mode: str) -> AsyncIterator[IO[Any]]:
    """Who is cancelled while the file is opened leaves none open."""
    opening = asyncio.ensure_future(asyncio.to_thread(path.open, mode))
    try:
        file = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close)
        raise
    try:
        yield file
    finally:
        await asyncio.to_thread(file.close)


def _close(opening: "asyncio.Future[IO[Any]]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
