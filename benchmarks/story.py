"""From Python and an empty folder to the first picture in a channel.

    uv run python -m benchmarks.story

Nobody edits a file: `comfycord init` is told the token and the address. Not for Windows.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.lab import ROOT, TOKEN, ended
from benchmarks.report import Goal, Report, main
from comfy.standin import Pace, StandIn
from tests.fakes.discord import Channel, FakeDiscord

LIMIT = 300.0  # seconds; the README says five minutes
OURS = ("DISCORD_", "COMFYUI_", "COMFYCORD_", "DATABASE_", "PYTHONPATH", "VIRTUAL_ENV")


@dataclass
class Story:
    """*steps*: what a person did, and the seconds until it was done."""

    folder: Path
    discord: FakeDiscord
    steps: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.steps[what] = time.monotonic() - began

    @property
    def environment(self) -> dict[str, str]:
        others = {name: os.environ[name] for name in os.environ if not name.startswith(OURS)}
        return others | {"COMFYCORD_DISCORD_API": self.discord.url}

    async def types(self, program: str, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            program, *arguments, cwd=self.folder, env=self.environment, stdout=PIPE, stderr=STDOUT
        )
        told, _ = await process.communicate()
        if process.returncode:
            sys.exit(f"{program} {' '.join(arguments)} failed:\n{told.decode()}")

    async def installs(self) -> str:
        """The path of the `comfycord` that is installed then."""
        pip = ("env/bin/python", "-m", "pip")
        with self.step("python -m venv env"):
            await self.types(sys.executable, "-m", "venv", "env")
        with self.step("pip wheel (from the clone)"):
            await self.types(*pip, "wheel", "--no-cache-dir", "--no-deps", "-w", ".", str(ROOT))
        with self.step("pip install comfycord-*.whl"):
            (wheel,) = self.folder.glob("*.whl")
            await self.types(*pip, "install", "--no-cache-dir", wheel.name)
        return str(self.folder / "env/bin/comfycord")

    @asynccontextmanager
    async def running(self, comfycord: str) -> AsyncIterator[None]:
        bot = await asyncio.create_subprocess_exec(
            comfycord, "run", cwd=self.folder, env=self.environment, stdout=DEVNULL, stderr=DEVNULL
        )
        try:
            yield
        finally:
            await ended(bot)

    async def generates(self, channel: Channel) -> None:
        member = self.discord.add_user("member")
        asked = self.discord.slash(member, channel, "generate", prompt="a lighthouse in a storm")
        await asked.answered(60)
        await self.discord.until(
            lambda: asked.message and self.discord.files_of(asked.message), timeout=60
        )


async def measure() -> Report:
    pace = Pace(node=0.1, step=0.2, previews=False)  # a picture takes as long as in the demo
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        discord = await stack.enter_async_context(FakeDiscord(token=TOKEN))
        comfyui = await stack.enter_async_context(StandIn(pace=pace, version="0.28.0"))
        channel = discord.add_channel(discord.add_guild("Lab"), "art")
        story = Story(folder, discord)
        comfycord = await story.installs()
        with story.step("comfycord init --token TOKEN --server URL"):
            await story.types(comfycord, "init", "--token", TOKEN, "--server", comfyui.url)
        with story.step("comfycord check"):
            await story.types(comfycord, "check")
        with story.step("comfycord run, until Discord hears it"):
            await stack.enter_async_context(story.running(comfycord))
            await discord.ready(timeout=60)
        with story.step("/generate, until the picture is posted"):
            await story.generates(channel)
    total = sum(story.steps.values())
    return Report(
        title="From nothing to the first picture",
        about=(
            "Python and an empty folder; pip keeps nothing from before, and nobody edits a file. "
            "Downloads are as fast as this machine's package index; reading and typing is not "
            "counted."
        ),
        columns=("step", "s"),
        rows=[*story.steps.items(), ("all of them", total)],
        goals=[Goal("from nothing to the first picture, s", total, LIMIT)],
    )


if __name__ == "__main__":
    main(measure)
