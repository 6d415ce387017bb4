"""The bot as a process that is killed for real, started from a warm fork in a third of a second."""

import asyncio
import contextlib
import importlib
import logging
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import yarl

import bot.__main__
from bot import answers, app, config, delivery, execution, line, logs, runner, servers, spool
from comfy import client
from tests.chaos import failpoints

TOKEN = "the.token.of-the-bot"
LOG = "bot.log"
POINTS = "points.log"
TELL = signal.SIGUSR1
# What takes seconds or minutes in earnest.
HASTE: Mapping[ModuleType, Mapping[str, object]] = {
    execution: {
        "_SILENCE": 0.5,
        "_STRANGER": 0.1,
        "_CERTAIN": 0.1,
        "_SETTLING": 0.05,
        "_STOP_DELAYS": (0, 0.1, 0.2, 0.4, 0.8, 1.6),
    },
    runner: {"_BROKEN": 0.05, "_IDLE": 0.5, "_UNANSWERED": 4.0, "_PATIENCE": (0.05, 0.4)},
    servers: {"_RETRY": (0.05, 0.4)},
    spool: {"_PATIENCE": (0.05, 0.4)},
    delivery: {"PROGRESS_EVERY": 0.1, "_EDIT_PATIENCE": 2.0},
    line: {"_EVERY": 0.5},
    answers: {"_LOOK_EVERY": 0.2, "_SETTLING": timedelta(seconds=1)},
    client: {
        "_CONNECT": 1.0,
        "_HANDSHAKE": 1.0,
        "_ANSWER": 1.5,
        "_DOWNLOAD_STALL": 1.0,
        "_UPLOAD": 3.0,
        "_HEARTBEAT": 0.8,
    },
}

for cog in app.COGS:  # the fork has them read already
    importlib.import_module(cog)
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__])


@dataclass(frozen=True, slots=True)
class Order:
    """Where the bot lives and whom it talks to; *failpoint*: where it dies."""

    folder: Path
    discord: str
    comfyui: Mapping[str, str]  # address by name
    failpoint: str | None = None
    button_after: float | None = None  # seconds, where tokens do not live as long as Discord's

    @property
    def database(self) -> Path:
        return self.folder / "data" / "jobs.db"

    def settings(self) -> config.Config:
        return config.Config.model_validate(
            {
                "servers": [{"name": name, "url": url} for name, url in self.comfyui.items()],
                "database": f"sqlite:///{self.database}",
                "workflows": str(self.folder / "workflows"),
                "limits": {"jobs_per_user": 1000},
            }
        )


class Bot:
    """A running bot. What it says is in `bot.log` of its folder."""

    def __init__(self, order: Order) -> None:
        self._process = _FORKS.Process(target=_live, args=(order,), daemon=True)
        self._process.start()
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._process.sentinel, self._end)

    def _end(self) -> None:
        self._loop.remove_reader(self._process.sentinel)
        self._process.join()
        self._ended.set()

    @property
    def alive(self) -> bool:
        return not self._ended.is_set()

    async def ended(self, seconds: float = 15.0) -> int:
        """Its exit code, negative for a signal."""
        async with asyncio.timeout(seconds):
            await self._ended.wait()
        return self._process.exitcode or 0

    async def end(self, how: signal.Signals) -> int:
        self.send(how)
        return await self.ended()

    def send(self, signal: signal.Signals) -> None:
        assert self._process.pid
        with contextlib.suppress(ProcessLookupError):  # it has ended just now
            os.kill(self._process.pid, signal)


def _live(order: Order) -> None:
    out = os.open(order.folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    tempfile.tempdir = str(order.folder)
    for module, values in HASTE.items():
        for name, value in values.items():
            assert hasattr(module, name), f"{module.__name__} has no {name} any more"
            setattr(module, name, value)
    if order.button_after is not None:
        answers._BUTTON_AT = timedelta(seconds=order.button_after)
    logs.set_up([TOKEN], debug=False)
    logging.getLogger("discord").setLevel(logging.WARNING)
    failpoints.arm(order.failpoint, order.folder / POINTS)
    secrets = config.Secrets(discord_token=TOKEN, discord_api=str(yarl.URL(order.discord)))
    asyncio.run(_run(order, secrets))


async def _run(order: Order, secrets: config.Secrets) -> None:
    asyncio.get_running_loop().add_signal_handler(TELL, _tell_tasks)
    await bot.__main__._until_stopped(app.run(order.settings(), secrets))


def _tell_tasks() -> None:
    """Into the log: where each of its tasks waits."""
    for task in asyncio.all_tasks():
        places, waiting = [], task.get_coro()
        while waiting is not None and (frame := getattr(waiting, "cr_frame", None)):
            places.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
            waiting = waiting.cr_await
        print(f"{task.get_name()} waits in {' > '.join(places)}", flush=True)


def sigkilled(code: int) -> bool:
    return code == -signal.SIGKILL
