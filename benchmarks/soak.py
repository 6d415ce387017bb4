"""Thousands of jobs through one bot: whether memory, files, sockets or tasks pile up.

    uv run python -m benchmarks.soak [--jobs 5000]

The bot runs as a process of its own, at full speed, against two stand-ins without pace and a
wire-level Discord, which forget what is over. It is measured when nothing is under way: after the
first 500 jobs, after every 500 more and at the end. Linux only.
"""

import argparse
import asyncio
import base64
import gc
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from bot import app, config
from comfy.standin import Pace
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.discord import Channel, FakeDiscord, Interaction, User

ROOT = Path(__file__).parents[1]
TOKEN = "the.token.of-the-bot"  # noqa: S105
AT_ONCE = 8
EVERY = 500
RSS_GROWTH = 0.05
SETTLING = 40  # seconds; a connection that nobody uses is closed after 15 to 30
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def run_bot() -> None:
    """The bot; at SIGUSR1 it prints how many tasks it has."""

    async def run() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, tell)
        await app.run(*config.load())

    def tell() -> None:
        gc.collect()
        print(len(asyncio.all_tasks()), flush=True)

    asyncio.run(run())


class Figures(NamedTuple):
    """Of an idle bot. *files*: open ones but for the database's, of which a pool of connections
    keeps a few; *spool*: files in its folder."""

    jobs: int
    rss_mb: float
    files: int
    sockets: int
    tasks: int
    spool: int
    database_mb: float


@dataclass
class Lab:
    discord: FakeDiscord
    comfyui: list[FakeComfyUI]
    folder: Path
    channel: Channel
    bot: Process | None = None
    jobs: int = 0
    figures: list[Figures] = field(default_factory=list)

    async def start(self) -> None:
        servers = [{"name": f"s{n}", "url": each.url} for n, each in enumerate(self.comfyui)]
        settings = {"servers": servers, "limits": {"jobs_per_user": 1000}}
        (self.folder / "config.yaml").write_text(json.dumps(settings))
        shutil.copytree(ROOT / "workflows", self.folder / "workflows")
        environment = {
            "DISCORD_TOKEN": TOKEN,
            "COMFYCORD_DISCORD_API": self.discord.url,
            "PYTHONPATH": str(ROOT),
        }
        self.bot = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from benchmarks.soak import run_bot; run_bot()"),
            cwd=self.folder, env=os.environ | environment, stdout=PIPE,
        )  # fmt: skip
        await self.discord.ready(timeout=30)

    async def member(self, user: User, until: int) -> None:
        """Asks for one job after the other."""
        while self.jobs < until:
            self.jobs += 1
            answer = await self.asked(user, self.jobs).answered(60)
            await self.discord.until(lambda a=answer: posted(self.discord, a), timeout=60)  # type: ignore[misc]
            await asyncio.sleep(0)
            self.forget(answer)

    def asked(self, user: User, number: int) -> Interaction:
        """Mostly the plain thing; some private, some with a picture, some with steps."""
        options: dict[str, Any] = {"workflow": "postcard", "prompt": f"cat {number}"}
        if number % 5 == 0:
            options["private"] = True
        if number % 10 == 1:
            options = {"workflow": "txt2img", "prompt": f"cat {number}", "steps": 2}
        if number % 20 == 2:
            options = {"workflow": "img2img", "prompt": "a dog", "image": ("a.png", PICTURE)}
        return self.discord.slash(user, self.channel, "generate", **options)

    def forget(self, answer: Interaction) -> None:
        """What the fakes keep of a job, so that their memory does not count."""
        self.discord.interactions.pop(answer.token, None)
        if answer.message:
            self.discord.store.delete(answer.message)
        if self.jobs % 100 == 0:
            self.discord.requests[:] = [each for each in self.discord.requests if not each.done_at]
            if session := self.discord.gateway.session:
                session.sent[:-100] = [{}] * len(session.sent[:-100])
            for each in self.comfyui:
                each.requests.clear()
                each.executed.clear()
                for prompt_id in list(each.queue.history)[:-1000]:
                    del each.queue.history[prompt_id]

    async def measure(self) -> Figures:
        """Once nothing is left of the work, or `SETTLING` is over."""
        found = await self._look()
        before = self.figures[0] if self.figures else None
        for _ in range(SETTLING):
            await asyncio.sleep(1)
            found = await self._look()
            if before and all(b >= n for b, n in zip(before[2:6], found[2:6], strict=True)):
                break
        return found

    async def _look(self) -> Figures:
        assert self.bot is not None
        assert self.bot.stdout is not None
        self.bot.send_signal(signal.SIGUSR1)
        tasks = int(await self.bot.stdout.readline())
        process = Path(f"/proc/{self.bot.pid}")
        (rss,) = re.findall(r"VmRSS:\s+(\d+)", (process / "status").read_text())
        targets = [open_file(each) for each in (process / "fd").iterdir()]
        sockets = sum(each.startswith("socket:") for each in targets)
        data = self.folder / "data"
        spool = sum(each.is_file() for each in data.glob("*.spool/**/*"))
        database = sum(each.stat().st_size for each in data.glob("comfycord.db*") if each.is_file())
        files = sum(each.startswith("/") and "comfycord.db" not in each for each in targets)
        return Figures(
            self.jobs, int(rss) / 1024, files, sockets, tasks, spool,
            database / 2**20,
        )  # fmt: skip


def open_file(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)
    except FileNotFoundError:  # closed just now
        return "closed"


def posted(discord: FakeDiscord, answer: Interaction) -> bool:
    return bool(answer.message and discord.files_of(answer.message))


def line(figures: Figures) -> str:
    jobs, rss, files, sockets, tasks, spool, database = figures
    return f"{jobs:>8}{rss:>10.1f}{files:>8}{sockets:>9}{tasks:>8}{spool:>8}{database:>12.1f}"


def verdict(figures: list[Figures]) -> bool:
    """Printed; whether it is within the limits."""
    first, last = figures[0], figures[-1]
    growth = last.rss_mb / first.rss_mb - 1
    print(f"RSS after the first {first.jobs} jobs: {growth:+.1%} (at most {RSS_GROWTH:+.0%})")
    kinds = ("files", "sockets", "tasks", "spool")
    leaked = [kind for kind in kinds if getattr(last, kind) > getattr(first, kind)]
    print(f"left over: {', '.join(leaked) or 'nothing'} (goal: nothing)")
    return growth <= RSS_GROWTH and not leaked


async def soak(jobs: int) -> bool:
    folder = Path(tempfile.mkdtemp())
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        discord = await stack.enter_async_context(FakeDiscord(token=TOKEN))
        comfyui = [
            await stack.enter_async_context(FakeComfyUI(pace=Pace(0, 0, previews=False)))
            for _ in range(2)
        ]
        for each in comfyui:
            each.picture = PICTURE
        lab = Lab(discord, comfyui, folder, discord.add_channel(discord.add_guild("Lab"), "art"))
        members = [discord.add_user(f"member{number}") for number in range(AT_ONCE)]
        await lab.start()
        assert lab.bot is not None
        try:
            print(
                f"{'jobs':>8}{'RSS MB':>10}{'files':>8}{'sockets':>9}{'tasks':>8}{'spool':>8}",
                end="",
            )
            print(f"{'database MB':>12}")
            for until in [*range(EVERY, jobs, EVERY), jobs]:
                await asyncio.gather(*(lab.member(each, until) for each in members))
                lab.figures.append(await lab.measure())
                print(line(lab.figures[-1]), flush=True)
        finally:
            lab.bot.terminate()
            await lab.bot.wait()
        return verdict(lab.figures)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--jobs", type=int, default=5000)
    raise SystemExit(not asyncio.run(soak(arguments.parse_args().jobs)))
