"""One job, one death at a named point, and what people see after the next start."""

import asyncio
import contextlib
import io
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from tests.chaos.lab import MEMORY, Lab, end_of, excused, is_of, lab_in, place
from tests.chaos.process import POINTS as TRACE
from tests.chaos.process import sigkilled
from tests.fakes.discord import Interaction
from tests.fakes.discord_messages import LOADING

WAYS = ("channel", "private", "stranger")
STEPS = {
    "plain": (
        "store.add", "store.keep_token", "store.keep_token #2", "answer", "store.acknowledge",
        "store pending>submitting", "comfy.queue_prompt", "store submitting>queued",
        "store queued>running", "edit", "edit by token", "store running outputs",
        "store running>executed", "store.settle", "spool.fetch", "comfy.view", "edit with files",
        "edit by token with files", "store executed messages", "store executed>posted",
    ),
    "upload": (
        "uploads.keep", "answer", "store.add", "store.keep_token", "edit by token",
        "store.keep_token #2", "store.keep_token #3", "store.acknowledge", "comfy.upload",
        "comfy.queue_prompt",
    ),
    "failing": (
        "store running>failed", "edit of the end", "edit by token of the end", "store failed told",
    ),
    "cancelled": (
        "store running>cancelled", "answer of the end", "comfy.delete_queued", "comfy.interrupt",
        "edit of the end", "edit by token of the end", "store cancelled told",
    ),
    "waiting": (
        "store pending>cancelled", "answer of the end", "edit of the end",
        "edit by token of the end", "store cancelled told",
    ),
    "deleted": ("scan", "post with files", "store executed messages", "store executed>posted"),
}  # fmt: skip
QUICK = (
    ("plain", "after answer", "channel"),
    ("plain", "after comfy.queue_prompt", "private"),
    ("plain", "before store running>executed", "stranger"),
    ("plain", "before store executed messages", "channel"),
    ("upload", "after store.add", "private"),
    ("upload", "after uploads.keep", "channel"),
    ("cancelled", "after store running>cancelled", "channel"),
)
TEXT = "job a cat in the snow"


class Wrong(AssertionError):
    """A promise is broken."""


class NotReached(Exception):
    """The way of this job does not pass the point."""


@dataclass(frozen=True, slots=True)
class Told:
    """How it ended, and how often the prompt was executed."""

    end: str
    executed: int


def all_points() -> Iterator[tuple[str, str, str]]:
    """Kind of job, point, way of answering."""
    for kind, steps in STEPS.items():
        for step in steps:
            for side in ("before", "after"):
                for way in WAYS if kind != "deleted" else WAYS[:1]:
                    yield kind, f"{side} {step}", way


async def crash(kind: str, point: str, way: str, database: str = "sqlite") -> Told:
    """`NotReached` if the bot lives through it; `Wrong` says which promise it breaks."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        async with lab_in(Path(folder), database=database) as lab:
            return await _Trial(lab, kind, way).run(point)


class _Trial:
    def __init__(self, lab: Lab, kind: str, way: str) -> None:
        self.lab, self.kind, self.way = lab, kind, way
        self.comfyui = lab.comfyui["local"]
        self.alice = lab.discord.add_user("alice")
        self.channel, self.private = place(lab, way)

    async def run(self, point: str) -> Told:
        lab = self.lab
        self.comfyui.hold()
        if self.kind == "waiting":
            self.comfyui.stop_answering()
        bot = await lab.start(point)
        await self._up()
        asked = self._ask()
        await self._go(asked)
        if self.kind == "waiting":
            self.comfyui.answer_again()
        if bot.alive and not await lab.until(lambda: self._quiet or not bot.alive, 15):
            raise Wrong(f"stuck before any crash: {[dict(each) for each in lab.open_rows()]}")
        # It may be right behind what was waited for.
        if not await lab.until(lambda: f"{point}\n" in self._trace(), 0.3):
            raise NotReached(f"a {self.kind} job answered by {self.way} does not pass {point!r}")
        if not sigkilled(await bot.ended()):
            raise Wrong("the bot ended of itself")
        self.comfyui.finish()
        await lab.start()
        if not await lab.until(lambda: self._quiet, 15):
            raise Wrong(f"stuck: {[dict(each) for each in lab.open_rows()]}")
        return self._verdict(asked)

    def _trace(self) -> str:
        """What is noted just before it dies."""
        return (self.lab.folder / TRACE).read_text()

    async def _up(self) -> None:
        """The bot knows what the server can do; where it cannot ask, it tried."""
        seen = self.comfyui.requests
        await self.lab.until(lambda: ("GET", "/object_info") in seen or self._waits(), 10)

    def _waits(self) -> bool:
        return self.kind == "waiting"

    def _ask(self) -> Interaction:
        options: dict[str, Any] = {"prompt": TEXT, "private": self.private}
        if self.kind == "upload":
            file = io.BytesIO()
            Image.new("RGB", (64, 64), "green").save(file, "PNG")
            options |= {"workflow": "img2img", "image": ("photo.png", file.getvalue()), "steps": 2}
        else:
            options |= {"workflow": "txt2img", "steps": 2}
        return self.lab.discord.slash(self.alice, self.channel, "generate", **options)

    async def _go(self, asked: Interaction) -> None:
        """To the moment at which this kind of job is as it should be, unless the bot dies first."""
        lab, bot = self.lab, self.lab.bots[0]
        state = "pending" if self._waits() else "running"
        shown = f"select 1 from jobs where state = '{state}' and message_id is not null"  # noqa: S608
        await lab.until(lambda: lab.rows(shown) or not bot.alive, 10)
        if not bot.alive:
            return
        match self.kind:
            case "failing":
                self.comfyui.fail()
            case "cancelled" | "waiting":
                ((job_id,),) = lab.rows("select id from jobs")
                await lab.until(lambda: self._can_cancel(asked) or not bot.alive)
                if bot.alive:
                    lab.discord.click(self.alice, asked.message, f"job:{job_id}:cancel")
                    await lab.until(lambda: self._quiet or not bot.alive, 10)
            case "deleted" if asked.message:
                lab.discord.delete_message(asked.message)
        if self.kind != "waiting" and self.kind != "failing":
            self.comfyui.finish()

    def _can_cancel(self, asked: Interaction) -> bool:
        return bool(asked.message and ":cancel" in str(asked.message["components"]))

    @property
    def _quiet(self) -> bool:
        """No request is open, and each has its row or left none."""
        return not self.lab.open_rows() and not self.lab.promises()

    def _verdict(self, asked: Interaction) -> Told:
        lab = self.lab
        ends = [(each, end_of(lab, each)) for each in lab.messages]
        told = [end for _, end in ends if end]
        going = [each for each, end in ends if not end and not excused(each)]
        executed = len(lab.executed)
        rows = lab.rows("select * from jobs")
        if executed > 2:
            raise Wrong(f"executed {executed} times")
        if len(told) > 1:
            raise Wrong(f"told {len(told)} times: {told}")
        if any(each["flags"] & LOADING for each, _ in ends):
            raise Wrong("still thinking")
        if going:
            raise Wrong(f"still shown as going on, rows {[dict(each) for each in rows]}")
        if rows and not told and self.kind != "deleted":
            raise Wrong(f"lost, rows {[dict(each) for each in rows]}")
        for message, end in ends:
            if end == "result":
                self._check_files(message)
        if not rows and executed:
            raise Wrong("executed, and no row tells of it")
        return Told(told[0] if told else "nothing", executed)

    def _check_files(self, message: dict[str, Any]) -> None:
        if int(message["channel_id"]) != self.channel.id:
            raise Wrong("in another channel")
        files = self.lab.discord.files_of(message).values()
        if len(files) != 1 or not all(is_of(each, TEXT) for each in files):
            raise Wrong("not its own picture")


async def table(
    points: Iterable[tuple[str, str, str]], database: str = "sqlite", at_once: int = 3
) -> int:
    """Prints every point with its outcome and the totals; how many went wrong."""
    began, turns = time.monotonic(), asyncio.Semaphore(at_once)
    extra = 0

    async def outcome(kind: str, point: str, way: str) -> str:
        nonlocal extra
        async with turns:
            try:
                told = await crash(kind, point, way, database)
            except NotReached:
                return "not reached"
            except (Wrong, TimeoutError, RuntimeError, ValueError) as error:
                print(f"{kind}, {point}, {way}: {error!r}", flush=True)
                return "WRONG"
        extra += max(0, told.executed - 1)
        return f"ok: {told.end}"

    points = list(points)
    outcomes = await asyncio.gather(*(outcome(*each) for each in points))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for (kind, point, way), each in zip(points, outcomes, strict=True):
        rows.setdefault((kind, point), {})[way] = each
    for (kind, point), ways in {("job", "point"): {n: n for n in WAYS}, **rows}.items():
        print(f"{kind:10} {point:34} " + " ".join(f"{ways.get(way, ''):14}" for way in WAYS))
    reached = [ways for ways in rows.values() if set(ways.values()) != {"not reached"}]
    crashes = [each for each in outcomes if each != "not reached"]
    wrong = outcomes.count("WRONG")
    print(
        f"{len(reached)} of {len(rows)} points reached, {len(crashes)} crashes, {wrong} wrong, "
        f"{extra} extra executions, {time.monotonic() - began:.0f} s"
    )
    return wrong


async def passed(kind: str, way: str) -> list[str]:
    """The points that such a job passes, in order."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        async with lab_in(Path(folder)) as lab:
            with contextlib.suppress(NotReached):
                await _Trial(lab, kind, way).run("none")
            return (lab.folder / TRACE).read_text().splitlines()
