"""Discord, ComfyUI behind proxies and a folder, for bots that come and go; and what is seen."""

import asyncio
import hashlib
import io
import shutil
import signal
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
from tests.chaos.databases import Database, database_of
from tests.chaos.process import TOKEN, Bot, Order
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.discord import Channel, FakeDiscord
from tests.fakes.discord_gateway import Session
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


class NotStarted(RuntimeError):
    """The bot ended before it was ready."""


class Lab:
    """*bots*: the newest one of each part, alive or not. Each part has a shard of Discord's."""

    def __init__(
        self,
        discord: FakeDiscord,
        comfyui: dict[str, tuple[PaintingComfyUI, Proxy]],
        folder: Path,
        database: Database,
        parts: int = 1,
    ) -> None:
        self.discord, self.folder, self.database, self.parts = discord, folder, database, parts
        self.comfyui = {name: each for name, (each, _) in comfyui.items()}
        self.proxies = {name: each for name, (_, each) in comfyui.items()}
        urls = {name: each.url for name, each in self.proxies.items()}
        self.order = Order(folder, discord.url, urls, database.url, parts=parts)
        self.bots: dict[int, Bot] = {}

    def age_tokens(self) -> None:
        """From now on a token lives five seconds, and an answer becomes a button after three."""
        self.discord.token_ttl = 5.0
        self.order = replace(self.order, button_after=3.0)

    async def start(self, failpoint: str | None = None, part: int = 0) -> Bot:
        """The next bot of a part; it has registered its commands and hears."""
        former = self._session(part)
        order = replace(self.order, part=part, failpoint=failpoint)
        bot = self.bots[part] = Bot(order)
        await self.until(lambda: self._session(part) is not former or not bot.alive, 30)
        if self._session(part) is former:
            raise NotStarted(f"the bot did not start:\n{self.log()[-3000:]}")
        return bot

    def alive(self, part: int) -> bool:
        return part in self.bots and self.bots[part].alive

    def hears(self, part: int) -> bool:
        """Whether its shard is connected."""
        session = self._session(part)
        return session is not None and session.link is not None

    def _session(self, part: int) -> Session | None:
        return self.discord.gateway.sessions.get((part, self.parts))

    def rows(self, query: str) -> list[Any]:
        """Of the bots' database, which is only read."""
        return self.database.rows(query)

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
        """Of one part after the other."""
        return "".join(each.read_text() for each in sorted(self.folder.glob("bot*.log")))

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
async def lab_in(
    folder: Path,
    *servers: str,
    pace: Pace | None = None,
    database: str = "sqlite",
    parts: int = 1,
) -> AsyncIterator[Lab]:
    """*servers*: their names; *parts*: how many bots share the database."""
    shutil.copytree(ROOT / "workflows", folder / "workflows")
    async with AsyncExitStack() as stack:
        opened = stack.enter_async_context
        kept = stack.enter_context(closing(await asyncio.to_thread(database_of, database, folder)))
        discord = await opened(FakeDiscord(token=TOKEN))
        comfyui = {}
        for name in servers or ("local",):
            fake = await opened(PaintingComfyUI(pace=pace or Pace(0, 0)))
            comfyui[name] = fake, await opened(Proxy(fake.url))
        lab = Lab(discord, comfyui, folder, kept, parts)
        try:
            yield lab
        finally:
            alive = [each for each in lab.bots.values() if each.alive]
            await asyncio.gather(*(each.end(signal.SIGKILL) for each in alive))


def place(lab: Lab, way: str) -> tuple[Channel, bool]:
    """A channel to ask in, and whether privately."""
    guild = lab.discord.add_guild("Lab", installed=way != "stranger")
    return lab.discord.add_channel(guild, "art"), way == "private"
