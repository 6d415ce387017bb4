"""The bot as a process of its own: killed without warning, and under load."""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from comfy.standin import Pace
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.discord import FakeDiscord
from tests.process.forked import Forked, comfycord

ROOT = Path(__file__).parents[2]
TOKEN = "the.token.of-the-bot"
DISCORD_WAITS = 3.0  # seconds for an answer; how far below it the bot stays, benchmarks tell


class Lab:
    def __init__(self, discord: FakeDiscord, comfyui: FakeComfyUI, folder: Path) -> None:
        self.discord, self.comfyui, self.folder = discord, comfyui, folder
        self.channel = discord.add_channel(discord.add_guild("Lab"), "art")
        self.alice = discord.add_user("alice")

    async def start(self) -> Forked:
        environment = {
            "DISCORD_TOKEN": TOKEN,
            "COMFYUI_BASE_URL": self.comfyui.url,
            "COMFYCORD_DISCORD_API": self.discord.url,
        }
        process = comfycord(self.folder, environment)
        await self.discord.ready(timeout=30)
        return process

    async def generate(self):  # type: ignore[no-untyped-def]
        asked = {"workflow": "postcard", "prompt": "a cat"}
        return await self.discord.slash(self.alice, self.channel, "generate", **asked).answered()

    def results(self) -> list[dict]:
        return [each for each in self.discord.messages[self.channel.id] if self.files(each)]

    def files(self, message: dict | None) -> dict[str, bytes]:
        """Those of a result: a preview of one that is being made is none."""
        files = self.discord.files_of(message) if message else {}
        return {name: data for name, data in files.items() if name != "preview.jpg"}


async def end(process: Forked, how: signal.Signals) -> int:
    process.send_signal(how)
    return await asyncio.wait_for(process.wait(), 10)


@asynccontextmanager
async def lab_in(folder: Path) -> AsyncIterator[Lab]:
    shutil.copytree(ROOT / "workflows", folder / "workflows")
    shutil.copy(ROOT / "config.yaml", folder)
    async with FakeDiscord(token=TOKEN) as discord, FakeComfyUI(pace=Pace(0, 0)) as comfyui:
        yield Lab(discord, comfyui, folder)


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with lab_in(tmp_path) as each:
        yield each


async def test_a_kill_while_a_job_runs_costs_nothing(lab: Lab) -> None:
    lab.comfyui.hold()
    bot = await lab.start()
    interaction = await lab.generate()
    await asyncio.wait_for(lab.comfyui.held.wait(), 20)

    await end(bot, signal.SIGKILL)
    lab.comfyui.finish()
    bot = await lab.start()

    await lab.discord.until(lambda: lab.files(interaction.message), timeout=60)
    assert await end(bot, signal.SIGTERM) == 0
    assert len(lab.results()) == 1
    assert len(lab.comfyui.executed) == 1


async def test_a_kill_after_the_post_and_before_its_answer_posts_nothing_twice(lab: Lab) -> None:
    lab.comfyui.hold()
    bot = await lab.start()
    interaction = await lab.generate()
    await asyncio.wait_for(lab.comfyui.held.wait(), 20)
    held = lab.discord.hold("PATCH", "/channels/*/messages/*")
    lab.comfyui.finish()
    await held.reached()
    while not lab.files(interaction.message):  # it was still an edit of the progress
        following = lab.discord.hold("PATCH", "/channels/*/messages/*")
        held.release()
        held = following
        await held.reached()

    await end(bot, signal.SIGKILL)
    held.release()
    posts = len(lab.discord.requests)
    bot = await lab.start()

    await lab.discord.until(
        lambda: any(r.method == "PATCH" for r in lab.discord.requests[posts:]), timeout=60
    )
    assert await end(bot, signal.SIGTERM) == 0
    assert len(lab.results()) == 1
    assert len(lab.discord.messages[lab.channel.id]) == 1
    assert len(lab.files(interaction.message)) == 1
    assert len(lab.comfyui.executed) == 1


async def test_a_kill_while_jobs_wait_keeps_them_all(lab: Lab) -> None:
    lab.comfyui.hold()
    bot = await lab.start()
    interactions = [await lab.generate() for _ in range(4)]
    await asyncio.wait_for(lab.comfyui.held.wait(), 20)

    await end(bot, signal.SIGKILL)
    lab.comfyui.finish()
    bot = await lab.start()

    for each in interactions:
        await lab.discord.until(lambda each=each: lab.files(each.message), timeout=60)
    assert await end(bot, signal.SIGTERM) == 0
    assert len(lab.results()) == 4
    assert len(lab.comfyui.executed) == 4


async def test_a_hundred_commands_in_a_second_are_answered_while_comfyui_hangs(lab: Lab) -> None:
    (lab.folder / "config.yaml").write_text("limits: {jobs_per_user: 1000}")
    lab.comfyui.stop_answering()
    bot = await lab.start()

    asked = []
    for number in range(100):
        options = {"workflow": "postcard", "prompt": f"cat {number}"}
        asked.append(lab.discord.slash(lab.alice, lab.channel, "generate", **options))
        await asyncio.sleep(0.01)  # the load: a hundred in a second
    for each in asked:
        await each.answered()

    assert await end(bot, signal.SIGTERM) == 0
    assert max(each.acked_at - each.sent_at for each in asked) < DISCORD_WAITS
