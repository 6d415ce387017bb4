"""Files that are opened and closed in threads, and whoever is cancelled in between."""

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from comfy.files import opened


async def test_a_file_is_closed_though_its_user_is_cancelled_before_a_thread_was_free(
    tmp_path: Path,
) -> None:
    in_use, free = asyncio.Event(), threading.Event()
    files: list[IO[Any]] = []

    async def use() -> None:
        async with opened(tmp_path / "file", "wb") as file:
            files.append(file)
            asyncio.get_running_loop().run_in_executor(None, free.wait)
            in_use.set()

    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    using = asyncio.create_task(use())
    await in_use.wait()
    using.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await using
    free.set()

    assert files[0].closed
