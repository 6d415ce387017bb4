"""The bot as a process of its own, between stand-ins and a wire-level Discord, all on loopback."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.discord import Channel, FakeDiscord, Interaction, User

ROOT = Path(__file__).parents[1]
TOKEN = "the.token.of-the-bot"  # noqa: S105
_TICKS = os.sysconf("SC_CLK_TCK")


class Used(NamedTuple):
    """By one process since it began. Linux only."""

    cpu_seconds: float
    rss_mib: float
    peak_mib: float


def used(pid: int) -> Used:
    process = Path(f"/proc/{pid}")
    times = (process / "stat").read_text().rpartition(")")[2].split()
    status = (process / "status").read_text()
    rss, peak = (int(re.findall(rf"{each}:\s+(\d+)", status)[0]) for each in ("VmRSS", "VmHWM"))
    return Used((int(times[11]) + int(times[12])) / _TICKS, rss / 1024, peak / 1024)


@dataclass
class Lab:
    """*bot*: from `running` on."""

    discord: FakeDiscord
    comfyui: Sequence[FakeComfyUI]
    folder: Path
    channel: Channel
    bot: Process | None = None

    async def ask(self, user: User, **options: Any) -> Interaction:
        """/generate; back when Discord has the answer."""
        return await self.discord.slash(user, self.channel, "generate", **options).answered(60)

    def is_posted(self, asked: Interaction) -> bool:
        return bool(asked.message and self.discord.files_of(asked.message))

    async def posted(self, asked: Interaction, within: float = 60.0) -> None:
        await self.discord.until(lambda: self.is_posted(asked), timeout=within)

    @property
    def used(self) -> Used:
        assert self.bot is not None
        return used(self.bot.pid)

    @asynccontextmanager
    async def running(self, **settings: Any) -> AsyncIterator[None]:
        """The bot, with *settings* in its config.yaml; its limits do not matter unless given."""
        servers = [{"name": f"s{n}", "url": each.url} for n, each in enumerate(self.comfyui)]
        limits = {"jobs_per_user": 100_000, "queue": 100_000}
        config = {"servers": servers, "limits": limits} | settings
        (self.folder / "config.yaml").write_text(json.dumps(config))
        environment = {
            "DISCORD_TOKEN": TOKEN, "COMFYCORD_DISCORD_API": self.discord.url,
        }  # fmt: skip
        self.bot = await process("-m", "bot", folder=self.folder, environment=environment)
        try:
            await self.discord.ready(timeout=60)
            yield
        finally:
            await ended(self.bot)


@asynccontextmanager
async def lab(comfyui: Sequence[FakeComfyUI]) -> AsyncIterator[Lab]:
    """*comfyui*: not started yet. The bot is not started either: see `Lab.running`."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(tempfile.mkdtemp())
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        shutil.copytree(ROOT / "workflows", folder / "workflows")
        discord = await stack.enter_async_context(FakeDiscord(token=TOKEN))
        for each in comfyui:
            await stack.enter_async_context(each)
        channel = discord.add_channel(discord.add_guild("Lab"), "art")
        yield Lab(discord, comfyui, folder, channel)


async def process(
    *arguments: str, folder: Path, environment: Mapping[str, str], stdout: int = DEVNULL
) -> Process:
    """Python with *arguments*; it finds the project wherever *folder* is."""
    return await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=folder, stdout=stdout, stderr=DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | dict(environment),
    )  # fmt: skip


async def ended(started: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        started.terminate()
    await started.wait()
