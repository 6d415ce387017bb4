"""From ComfyUI's end of a job to the arrival of Discord's request with the picture.

    uv run python -m benchmarks.completion [--jobs 12]

The bot runs as a process of its own against the stand-in and a wire-level Discord, all on
loopback. Beside it, in the same run, a plain poller: it asks GET /history once a second, reads
the whole picture into memory and posts it, as most bots do.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from comfy.standin import Pace
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.discord import Channel, FakeDiscord

ROOT = Path(__file__).parents[1]
TOKEN = "the.token.of-the-bot"  # noqa: S105
PICTURE = b"\x89PNG\r\n\x1a\n" + os.urandom(2**20 - 8)
STEP = 0.1


class TimedComfyUI(FakeComfyUI):
    """Knows when it sent the last frame of each prompt, `executing` with a null node."""

    def __init__(self) -> None:
        super().__init__(pace=Pace(node=0.0, step=STEP))
        self.picture = PICTURE
        self.ended: list[float] = []

    async def deliver(self, socket: Any, frame: Any) -> None:
        if getattr(frame, "type", "") == "executing" and frame.data.get("node", "") is None:
            self.ended.append(asyncio.get_running_loop().time())
        await super().deliver(socket, frame)


async def measure(
    discord: FakeDiscord, comfyui: TimedComfyUI, jobs: int, run: Callable[[], Awaitable[None]]
) -> tuple[list[float], float]:
    """Seconds from each end to its request, and HTTP requests to ComfyUI per job."""
    latencies = []
    asked = len(comfyui.requests)
    for _ in range(jobs):
        before, comfyui.ended = len(discord.requests), []
        await run()
        (posted,) = [each for each in discord.requests[before:] if each.files]
        latencies.append(posted.at - comfyui.ended[0])
    return latencies, (len(comfyui.requests) - asked) / jobs


async def bot_runs(discord: FakeDiscord, channel: Channel, steps: Callable[[], int]) -> None:
    alice = discord.add_user(uuid.uuid4().hex[:8])
    options: dict[str, Any] = {"workflow": "txt2img", "prompt": "a cat", "steps": steps()}
    answer = await discord.slash(alice, channel, "generate", **options).answered()
    await discord.until(lambda: answer.message and discord.files_of(answer.message), timeout=60)


async def poller_runs(
    session: aiohttp.ClientSession, comfyui: str, discord: str, channel: int, steps: int
) -> None:
    graph = json.loads((ROOT / "workflows/txt2img.json").read_text())
    graph["5"]["inputs"] |= {"steps": steps, "seed": random.getrandbits(32)}
    client_id = uuid.uuid4().hex
    async with session.ws_connect(f"{comfyui}/ws?clientId={client_id}"):  # for progress only
        body = {"prompt": graph, "client_id": client_id}
        async with session.post(f"{comfyui}/prompt", json=body) as response:
            prompt_id = (await response.json())["prompt_id"]
        entry = None
        while not entry:
            await asyncio.sleep(1)
            async with session.get(f"{comfyui}/history/{prompt_id}") as response:
                entry = (await response.json()).get(prompt_id)
    (output,) = entry["outputs"].values()
    async with session.get(f"{comfyui}/view", params=output["images"][0]) as response:
        data = await response.read()
    form = aiohttp.FormData()
    form.add_field("payload_json", "{}", content_type="application/json")
    form.add_field("files[0]", data, filename="x.png")
    headers = {"Authorization": f"Bot {TOKEN}"}
    url = f"{discord}/api/v10/channels/{channel}/messages"
    async with session.post(url, data=form, headers=headers) as response:
        response.raise_for_status()


async def compare(jobs: int) -> list[tuple[str, list[float], float]]:
    def steps() -> int:
        return random.randint(10, 20)

    folder = Path(tempfile.mkdtemp())
    shutil.copytree(ROOT / "workflows", folder / "workflows")
    async with FakeDiscord(token=TOKEN) as discord, TimedComfyUI() as comfyui:
        channel = discord.add_channel(discord.add_guild("Lab"), "art")
        environment = os.environ | {
            "DISCORD_TOKEN": TOKEN,
            "COMFYUI_BASE_URL": comfyui.url,
            "COMFYCORD_DISCORD_API": discord.url,
            "PYTHONPATH": str(ROOT),
        }
        bot = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bot",
            cwd=folder,
            env=environment,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await discord.ready(timeout=30)
            await bot_runs(discord, channel, steps)  # the first one warms both sides
            ours = await measure(discord, comfyui, jobs, lambda: bot_runs(discord, channel, steps))
        finally:
            bot.terminate()
            await bot.wait()
        async with aiohttp.ClientSession() as session:
            theirs = await measure(
                discord,
                comfyui,
                jobs,
                lambda: poller_runs(session, comfyui.url, discord.url, channel.id, steps()),
            )
    shutil.rmtree(folder, ignore_errors=True)
    return [("comfycord", *ours), ("poller, once a second", *theirs)]


def table(rows: list[tuple[str, list[float], float]]) -> str:
    lines = [f"{'':<24}{'median ms':>10}{'max ms':>10}{'HTTP per job':>14}"]
    for name, latencies, requests in rows:
        median, top = statistics.median(latencies) * 1000, max(latencies) * 1000
        lines.append(f"{name:<24}{median:>10.1f}{top:>10.1f}{requests:>14.1f}")
    ratio = statistics.median(rows[0][1]) / statistics.median(rows[1][1])
    lines.append(f"median, ours to the poller's: {ratio:.3f} (goal: at most 0.100)")
    return "\n".join(lines)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--jobs", type=int, default=12)
    print(table(asyncio.run(compare(arguments.parse_args().jobs))))
