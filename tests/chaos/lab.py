"""Discord, ComfyUI behind proxies and a folder, for bots that come and go; and what is seen."""

import asyncio
import hashlib
import io
import shutil
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from comfy.standin import Pace
from comfy.standin_nodes import SAMPLERS
from comfy.standin_store import Item
from comfy.standin_worker import NodeFailed, Run
from tests.chaos.process import LOG, TOKEN, Bot, Order
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.discord import Channel, FakeDiscord
from tests.fakes.discord_messages import Json, walk
from tests.fakes.proxy import Proxy

ROOT = Path(__file__).parents[2]
_SHM = Path("/dev/shm")  # noqa: S108
MEMORY = _SHM if _SHM.is_dir() else None
"""Where folders are made: a killed process loses nothing there, and no disk is waited for."""
ENDS = {"It did not work.": "failed", "Cancelled.": "cancelled"}


class PaintingComfyUI(FakeComfyUI):
    """Every picture tells by its colour which prompt it is of. *ran*: the prompts, as executed."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.ran: list[str] = []
        self.restart_after_save = False

    def restart(self) -> None:
        """Only the files are left."""
        self.forget()
        self.drop()

    def paint(self, graph: dict[str, Any], node_id: str, index: int) -> bytes:
        return painted(_prompt_of(graph))

    async def execute(self, item: Item) -> dict[str, Any]:
        self.ran.append(_prompt_of(item.graph))
        return await super().execute(item)

    async def run_node(self, run: Run, node_id: str) -> dict[str, Any] | None:
        if run.class_type(node_id) in SAMPLERS and "fails" in _prompt_of(run.item.graph):
            raise NodeFailed("RuntimeError", "This one cannot work")
        output = await super().run_node(run, node_id)
        if output and self.restart_after_save:
            self.restart_after_save = False
            self.restart()
            await asyncio.sleep(0)  # here the task of this run ends
        return output


def _prompt_of(graph: dict[str, Any]) -> str:
    return next(text for text in _texts(graph) if text.startswith("job "))


def _texts(graph: dict[str, Any]) -> list[str]:
    values = [value for node in graph.values() for value in node["inputs"].values()]
    return [each for each in values if isinstance(each, str)]


def painted(text: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), colour(text)).save(file, "PNG")
    return file.getvalue()


def colour(text: str) -> tuple[int, ...]:
    return tuple(hashlib.sha256(text.encode()).digest()[:3])


def is_of(picture: bytes, text: str) -> bool:
    with Image.open(io.BytesIO(picture)) as opened:
        return opened.convert("RGB").getpixel((0, 0)) == colour(text)


class Lab:
    """*bot*: the newest one, alive or not."""

    def __init__(
        self, discord: FakeDiscord, comfyui: dict[str, tuple[PaintingComfyUI, Proxy]], folder: Path
    ) -> None:
        self.discord, self.folder = discord, folder
        self.comfyui = {name: each for name, (each, _) in comfyui.items()}
        self.proxies = {name: each for name, (_, each) in comfyui.items()}
        self.order = Order(
            folder, discord.url, {name: each.url for name, each in self.proxies.items()}
        )
        self.bot: Bot | None = None

    def age_tokens(self) -> None:
        """From now on a token lives five seconds, and an answer becomes a button after three."""
        self.discord.token_ttl = 5.0
        self.order = replace(self.order, button_after=3.0)

    async def start(self, failpoint: str | None = None) -> Bot:
        """The next bot; it has registered its commands and hears."""
        self.bot = Bot(replace(self.order, failpoint=failpoint))
        ready = asyncio.create_task(self.discord.ready(timeout=30))
        await self.until(lambda: ready.done() or not self.bot.alive, 30)
        if not ready.done():
            ready.cancel()
            raise RuntimeError(f"the bot did not start:\n{self.log()[-3000:]}")
        return self.bot

    def rows(self, query: str) -> list[Any]:
        """Of the bot's database, which is only read. Empty while there is none."""
        if not self.order.database.exists():
            return []
        uri = f"file:{self.order.database}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=20)) as connection:
            connection.row_factory = sqlite3.Row
            try:
                return connection.execute(query).fetchall()
            except sqlite3.OperationalError:  # its tables are not made yet
                return []

    def open_rows(self) -> list[Any]:
        """Requests of which something is still to be done."""
        return self.rows("select * from jobs where not told or message_id is null")

    def promises(self) -> list[Any]:
        """Of answers that were begun, and of which no request came."""
        return self.rows("select * from tokens where job_id not in (select id from jobs)")

    async def until(self, condition: Callable[[], object], seconds: float = 10.0) -> bool:
        """For what tells no event. Whether it came to be."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        while not condition():
            if clock() > end:
                return False
            await asyncio.sleep(0.03)
        return True

    @property
    def messages(self) -> list[Json]:
        """All that the bot shows to anybody."""
        return list(self.discord.store._all.values())

    def log(self) -> str:
        path = self.folder / LOG
        return path.read_text() if path.exists() else ""

    @property
    def executed(self) -> list[str]:
        return [each for server in self.comfyui.values() for each in server.executed]


def words_of(message: Json) -> str:
    texts = [each.get("content") or "" for each in walk(message["components"])]
    return "\n".join([message["content"] or "", *texts])


def end_of(lab: Lab, message: Json) -> str | None:
    """What a message tells as the end of a job; None while it goes on, or of something else."""
    files = lab.discord.files_of(message)
    if any(name != "preview.jpg" for name in files):
        return "result"
    words = words_of(message)
    return next((end for told, end in ENDS.items() if told in words), None)


def excused(message: Json) -> bool:
    """It tells that nothing came of a request."""
    return "I was restarted" in words_of(message) or "being restarted" in words_of(message)


@asynccontextmanager
async def lab_in(folder: Path, *servers: str, pace: Pace | None = None) -> AsyncIterator[Lab]:
    """*servers*: their names."""
    shutil.copytree(ROOT / "workflows", folder / "workflows")
    async with AsyncExitStack() as stack:
        opened = stack.enter_async_context
        discord = await opened(FakeDiscord(token=TOKEN))
        comfyui = {}
        for name in servers or ("local",):
            fake = await opened(PaintingComfyUI(pace=pace or Pace(0, 0)))
            comfyui[name] = fake, await opened(Proxy(fake.url))
        lab = Lab(discord, comfyui, folder)
        try:
            yield lab
        finally:
            if lab.bot and lab.bot.alive:
                await lab.bot.end(signal.SIGKILL)


def place(lab: Lab, way: str) -> tuple[Channel, bool]:
    """A channel to ask in, and whether privately."""
    guild = lab.discord.add_guild("Lab", installed=way != "stranger")
    return lab.discord.add_channel(guild, "art"), way == "private"
