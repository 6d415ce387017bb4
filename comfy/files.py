"""Files that are opened and closed off the event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any


@asynccontextmanager
async def opened(path: Path, mode: str) -> AsyncIterator[IO[Any]]:
    """Who is cancelled while it is opened or closed leaves none open."""
    # A future of the executor, not a task: a loop that ends cancels all its tasks.
    opening = asyncio.get_running_loop().run_in_executor(None, path.open, mode)
    try:
        file = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close)
        raise
    try:
        yield file
        await asyncio.to_thread(file.close)
    finally:
        file.close()  # again, at no cost; or at once, where waiting for a thread was cut off


def _close(opening: "asyncio.Future[IO[Any]]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
