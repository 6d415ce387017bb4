"""Starts what the bot is compared with, and makes the pictures that both get."""

import asyncio
import io
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

from PIL import Image, PngImagePlugin

from benchmarks.given import Job
from benchmarks.lab import ROOT, TOKEN, Lab, Used, ended, used


def noise(side: int) -> bytes:
    """A PNG with its workflow in it, of 3 bytes a pixel: noise does not compress."""
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", "x" * 3000)
    written = io.BytesIO()
    pixels = Image.frombytes("RGB", (side, side), os.urandom(side * side * 3))
    pixels.save(written, "PNG", pnginfo=info)
    return written.getvalue()


@dataclass(frozen=True, slots=True)
class Peer:
    """A process that posts into the channel of *lab*."""

    lab: Lab
    process: Process

    def run(self, comfyui: str, steps: int) -> None:
        """One more job; it begins at once."""
        job = Job(comfyui, steps, self.lab.discord.url, TOKEN, self.lab.channel.id)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")

    @property
    def used(self) -> Used:
        return used(self.process.pid)


@asynccontextmanager
async def peer(lab: Lab, module: str, *arguments: str) -> AsyncIterator[Peer]:
    """*module* of this package as a process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"benchmarks.{module}", *arguments,
        stdin=PIPE, cwd=lab.folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        yield Peer(lab, process)
    finally:
        await ended(process)
