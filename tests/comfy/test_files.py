"""Files that are worked on in threads, and whoever is cancelled in between."""

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from comfy.files import ended, opened


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


async def test_who_is_cancelled_waits_for_the_thread_that_works_for_him() -> None:
    began, free = asyncio.Event(), threading.Event()
    done: list[str] = []
    loop = asyncio.get_running_loop()

    def work(what: str) -> None:
        loop.call_soon_threadsafe(began.set)
        free.wait()
        done.append(what)

    working = asyncio.create_task(ended(work, "written"))
    await began.wait()
    for _ in range(2):
        working.cancel()
        await asyncio.sleep(0)
        assert not working.done()
    free.set()
    with contextlib.suppress(asyncio.CancelledError):
        await working

    assert working.cancelled()
    assert done == ["written"]
