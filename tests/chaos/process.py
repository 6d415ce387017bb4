"""The bot as a process that is killed for real, started from a warm fork in a third of a second."""

import asyncio
import logging
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
from bot import (
    answers,
    app,
    config,
    crew,
    delivery,
    execution,
    line,
    logs,
    postgres,
    runner,
    servers,
    spool,
)
from comfy import client
from tests.chaos import failpoints
from tests.process.forked import Forked, print_to

TOKEN = "the.token.of-the-bot"
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
    servers: {"_RETRY": (0.05, 0.4), "_VISIT_EVERY": 1.0},
    spool: {"_PATIENCE": (0.05, 0.4)},
    delivery: {"PROGRESS_EVERY": 0.1, "CHANNEL_EVERY": 0.05, "_EDIT_PATIENCE": 2.0},
    line: {"_EVERY": 0.5},
    answers: {"_LOOK_EVERY": 0.2, "_AGAIN": (0.1, 0.2), "_SETTLING": timedelta(seconds=1)},
    crew: {"_LEASE": 3.0, "_EVERY": 0.4, "_SAFE": 2.0},
    postgres: {"_LOOK_EVERY": 1.0, "_AGAIN": 0.1},
    client: {
        "_CONNECT": 1.0,
        "_HANDSHAKE": 1.0,
        "_ANSWER": 1.5,
        "_DOWNLOAD_STALL": 1.0,
        "_UPLOAD": 3.0,
        "_HEARTBEAT": 0.8,
    },
}


@dataclass(frozen=True, slots=True)
class Order:
    """Where the bot lives and whom it talks to; *failpoint*: where it dies.

    *part* of *parts*: which of the processes that share a database it is.
    """

    folder: Path
    discord: str
    comfyui: Mapping[str, str]  # address by name
    database: str
    part: int = 0
    parts: int = 1
    failpoint: str | None = None
    button_after: float | None = None  # seconds, where tokens do not live as long as Discord's

    @property
    def log(self) -> Path:
        return self.folder / f"bot{self.part}.log"

    def settings(self) -> config.Config:
        return config.Config.model_validate(
            {
                "servers": [{"name": name, "url": url} for name, url in self.comfyui.items()],
                "discord": {"shards": f"{self.part}/{self.parts}" if self.parts > 1 else None},
                "database": self.database,
                "workflows": str(self.folder / "workflows"),
                "limits": {"jobs_per_user": 1000},
            }
        )


class Bot(Forked):
    """A running bot. What it says is in its log."""

    def __init__(self, order: Order) -> None:
        super().__init__(_live, order)

    @property
    def alive(self) -> bool:
        return self.returncode is None

    async def ended(self, seconds: float = 15.0) -> int:
        """Its exit code, negative for a signal."""
        return await asyncio.wait_for(self.wait(), seconds)

    async def end(self, how: signal.Signals) -> int:
        self.send_signal(how)
        return await self.ended()


def _live(order: Order) -> None:
    os.chdir(order.folder)
    print_to(order.log)
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
