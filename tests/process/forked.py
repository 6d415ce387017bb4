"""Processes from a warm fork: Python and the bot are imported once, not for each start."""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from bot import app
from bot.__main__ import main

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__, *app.COGS])


class Forked:
    """A process that runs *target*. *returncode*: None while it lives, negative for a signal."""

    def __init__(self, target: Callable[..., None], *arguments: object) -> None:
        self._process = _FORKS.Process(target=target, args=arguments, daemon=True)
        self._process.start()
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._process.sentinel, self._end)

    def _end(self) -> None:
        self._loop.remove_reader(self._process.sentinel)
        self._process.join()
        self._ended.set()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode if self._ended.is_set() else None

    async def wait(self) -> int:
        await self._ended.wait()
        return self._process.exitcode or 0

    def send_signal(self, how: signal.Signals) -> None:
        assert self._process.pid
        with contextlib.suppress(ProcessLookupError):  # it has ended just now
            os.kill(self._process.pid, how)


def comfycord(
    folder: Path, environment: Mapping[str, str], *arguments: str, log: Path | None = None
) -> Forked:
    """The command line, in *folder*; what it prints goes to the file *log*."""
    return Forked(_comfycord, folder, dict(environment), arguments, log)


def _comfycord(
    folder: Path, environment: dict[str, str], arguments: tuple[str, ...], log: Path | None
) -> None:
    os.chdir(folder)
    os.environ.update(environment)
    if log is not None:
        print_to(log)
    sys.argv = ["comfycord", *arguments]
    main()


def print_to(log: Path) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
