"""Files that are read and written off the event loop."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

_Parameters = ParamSpec("_Parameters")
_Answer = TypeVar("_Answer")


async def ended(
    act: Callable[_Parameters, _Answer], *args: _Parameters.args, **kwargs: _Parameters.kwargs
) -> _Answer:
    """In a thread, as `asyncio.to_thread`. Who is cancelled meanwhile waits for its end, as a
    thread cannot be stopped and would go on behind him."""
    # A future of the executor, not a task: a loop that ends cancels all its tasks.
    acting = asyncio.get_running_loop().run_in_executor(None, partial(act, *args, **kwargs))
    try:
        return await asyncio.shield(acting)
    except asyncio.CancelledError:
        while not acting.done():
            with suppress(asyncio.CancelledError):  # who is cancelled again waits too
                await asyncio.wait([acting])
        acting.exception()  # nobody is told any more
        raise


@asynccontextmanager
async def opened(path: Path, mode: str) -> AsyncIterator[IO[Any]]:
    """Who is cancelled while it is opened or closed leaves none open."""
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
