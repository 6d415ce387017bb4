"""A whole bot between a wire-level Discord and a stand-in ComfyUI, all in this process."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bot import execution, runner, servers
from bot.app import Comfycord, use_discord_api
from bot.config import Config, Secrets, ServerSettings
from bot.jobs import Job
from bot.store import Store
from comfy.standin import Pace
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.discord import Channel, FakeDiscord, Guild, Interaction, User

ROOT = Path(__file__).parents[2]
TOKEN = "the.token.of-the-bot"


@dataclass
class World:
    discord: FakeDiscord
    comfyui: FakeComfyUI
    guild: Guild
    channel: Channel
    alice: User
    mod: User
    folder: Path
    bots: list[tuple[Comfycord, asyncio.Task[None]]] = field(default_factory=list)

    @property
    def bot(self) -> Comfycord:
        return self.bots[-1][0]

    def config(self, **changes: object) -> Config:
        settings = {
            "servers": (ServerSettings(name="local", url=self.comfyui.url),),
            "database": f"sqlite:///{self.folder}/data/test.db",
            "workflows": str(self.folder / "workflows"),
        }
        return Config.model_validate(settings | changes)

    async def start(
        self, *, up: bool = True, secrets: Secrets | None = None, **changes: object
    ) -> Comfycord:
        """A bot that is ready; *up*: it has also learned what the server can do."""
        file, secrets = self.folder / "config.yaml", secrets or Secrets()
        bot = Comfycord(self.config(**changes), secrets, config_file=file, ready_timeout=0.05)
        task = asyncio.create_task(bot.start(TOKEN))
        self.bots.append((bot, task))
        await self.discord.ready()  # said by Discord;
        await bot.wait_until_ready()  # and heard
        if up:
            for server in bot.servers.values():
                await asyncio.wait_for(server.wait_up(), 20)
        return bot

    async def stop(self) -> None:
        """Ends the bot as a crash would not: but nothing is written in `close`."""
        bot, task = self.bots.pop()
        await bot.close()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def generate(self, **options: object) -> Interaction:
        """An answered /generate of Alice's, of the postcard if nothing else is said."""
        asked = {"workflow": "postcard", "prompt": "a cat in the snow"} | options
        interaction = self.discord.slash(self.alice, self.channel, "generate", **asked)
        return await interaction.answered()

    async def running_job(self) -> Interaction:
        """A bot, and a job that ComfyUI holds until `comfyui.finish()`."""
        self.comfyui.hold()
        await self.start()
        interaction = await self.generate()
        await asyncio.wait_for(self.comfyui.held.wait(), 20)
        return interaction

    async def posted(self, interaction: Interaction) -> dict[str, bytes]:
        """The files of the placeholder, once it has become the result."""
        await self.discord.until(lambda: interaction.message and self.files(interaction))
        return self.files(interaction)

    def files(self, interaction: Interaction) -> dict[str, bytes]:
        """Those of a result: a preview of one that is being made is none."""
        files = self.discord.files_of(interaction.message)
        return {name: data for name, data in files.items() if name != "preview.jpg"}

    async def pending(self) -> Job:
        """The job that waits in the bot's queue."""
        await self.commands_end()
        (job,) = await self.bot.store.pending(1)
        return job

    async def until(self, condition: Callable[[], object]) -> None:
        """For what happens outside of Discord and so tells no event there."""
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def until_job(self, condition: Callable[[Job], object]) -> Job:
        """Alice's newest job, once *condition* holds; the database tells no event."""
        async with asyncio.timeout(20):
            while True:
                jobs = await self.bot.store.recent(self.alice.id, 1)
                if jobs and condition(jobs[0]):
                    return jobs[0]
                await asyncio.sleep(0.02)

    async def commands_end(self) -> None:
        """An answer reaches the person a moment before the command has written its last row."""
        await asyncio.gather(
            *(each for each in asyncio.all_tasks() if each.get_name() == "CommandTree-invoker")
        )

    async def jobs_end(self) -> None:
        """Until the jobs on their way need nothing more."""
        await self.commands_end()
        await asyncio.wait_for(asyncio.gather(*self.bot.runner._following.values()), 20)

    async def told(self, interaction: Interaction, words: str) -> str:
        """The text of the answer, once it says *words*."""
        await self.discord.until(lambda: words in text_of(interaction.message))
        return text_of(interaction.message)


def text_of(message: dict | None) -> str:
    """Everything that a person reads in a message."""
    if message is None:
        return ""
    found = [message.get("content") or ""]

    def collect(components: list[dict]) -> None:
        for each in components:
            found.append(each.get("content") or each.get("label") or "")
            collect(each.get("components", []))

    collect(message.get("components", []))
    return "\n".join(text for text in found if text)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of today's schema, made once: to make one takes as long as many a test."""
    path = tmp_path_factory.mktemp("database") / "empty.db"

    async def make() -> None:
        async with Store.open(f"sqlite:///{path}"):
            pass

    asyncio.run(make())
    return path


@pytest.fixture
async def world(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    monkeypatch.setattr(execution, "_SILENCE", 0.5)
    monkeypatch.setattr(execution, "_STRANGER", 0.1)
    monkeypatch.setattr(execution, "_CERTAIN", 0.1)
    monkeypatch.setattr(runner, "_PATIENCE", (0.05, 0.2))
    monkeypatch.setattr(runner, "_BROKEN", 0.05)
    monkeypatch.setattr(servers, "_RETRY", (0.05, 0.2))
    shutil.copytree(ROOT / "workflows", tmp_path / "workflows")
    (tmp_path / "data").mkdir()
    shutil.copy(empty_database, tmp_path / "data" / "test.db")
    async with FakeDiscord(token=TOKEN) as discord, FakeComfyUI(pace=Pace(0, 0)) as comfyui:
        use_discord_api(discord.url)
        guild = discord.add_guild("Lab")
        lab = World(
            discord,
            comfyui,
            guild,
            discord.add_channel(guild, "art"),
            discord.add_user("alice"),
            discord.add_user("mod", permissions=0x20 | 0x2000),
            tmp_path,
        )
        try:
            yield lab
        finally:
            while lab.bots:
                await lab.stop()
