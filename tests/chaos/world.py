"""A run: the members and the troubles of a plan, until everything has healed and is quiet."""

import asyncio
import contextlib
import functools
import io
import logging
import signal
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from comfy.standin import Pace
from tests.chaos.databases import Postgresql
from tests.chaos.lab import MEMORY, Lab, NotStarted, lab_in
from tests.chaos.plan import Asked, Deed, Plan, Trouble, drawn
from tests.chaos.process import TELL
from tests.chaos.verdict import Verdict, judged
from tests.fakes.discord import Channel, Fault, Guild, Interaction, User
from tests.fakes.discord_messages import Json, walk

MODERATOR = 0x20 | 0x2000
_BUSY = 0.3  # seconds that a spoiled connection lasts, at least
_ACKNOWLEDGED = 4.0  # seconds, after which a command was answered or never will be
_STAYS = 1.5  # seconds
_QUIET = 45.0  # seconds after which what is not over is stuck
_EDITS = ("PATCH", "/channels/*/messages/*")
_ROUTES = (
    _EDITS,
    _EDITS,
    ("POST", "/interactions/*"),
    ("PATCH", "/webhooks/*"),
    ("POST", "/channels/*/messages"),
    ("GET", "/channels/*/messages"),
)


@dataclass(slots=True)
class World:
    """*places*: by part and way; *asked*: the interaction of each job, by its number."""

    plan: Plan
    lab: Lab
    members: list[User]
    moderator: User
    places: list[dict[str, Channel]]
    asked: dict[int, Interaction] = field(default_factory=dict)
    clicks: dict[int, list[Interaction]] = field(default_factory=dict)
    deleted: set[int] = field(default_factory=set)  # by a moderator, so that nobody sees them
    done: Counter[str] = field(default_factory=Counter)
    fell: list[str] = field(default_factory=list)  # bots that ended of themselves
    outages: int = 0  # of the database, under way

    def row_of(self, number: int) -> Any:
        text = self.plan.text(number)
        rows = self.lab.rows(f"select * from jobs where text = '{text}'")  # noqa: S608
        return rows[0] if rows else None

    # What members do

    def ask(self, each: Asked) -> None:
        options: dict[str, Any] = {"prompt": self.plan.text(each.number), "steps": 2}
        options |= {"workflow": "txt2img", "private": each.way == "private", "batch": each.batch}
        if each.upload:
            file = io.BytesIO()
            Image.new("RGB", (32, 32), "green").save(file, "PNG")
            del options["batch"]
            options |= {"workflow": "img2img", "image": ("photo.png", file.getvalue())}
        member, place = (
            self.members[each.member],
            self.places[self.plan.part(each.number)][each.way],
        )
        self.asked[each.number] = self.lab.discord.slash(member, place, "generate", **options)

    def act(self, deed: Deed) -> None:
        asked = self.asked.get(deed.number)
        message = asked.message if asked else None
        if message is None:
            return
        self.done[deed.kind] += 1
        if deed.kind == "moderator deletes":
            self.deleted.add(deed.number)
            self.lab.discord.delete_message(message)
            return
        user = asked.user if deed.kind.startswith("member") else self.moderator
        self.click(deed.number, user, message, "cancel")

    def click(self, number: int, user: User, message: Json, action: str) -> bool:
        """Whether the message has such a button."""
        ids = [str(each.get("custom_id", "")) for each in walk(message["components"])]
        for custom_id in ids:
            if custom_id.endswith(f":{action}"):
                click = self.lab.discord.click(user, message, custom_id)
                self.clicks.setdefault(number, []).append(click)
                return True
        return False

    # What breaks

    async def suffer(self, trouble: Trouble) -> None:
        self.done[trouble.kind] += 1
        names = list(self.lab.comfyui)
        comfyui = self.lab.comfyui[names[trouble.server]]
        proxy = self.lab.proxies[names[trouble.server]]
        discord, size = self.lab.discord, trouble.size
        lasting = _BUSY + size
        match trouble.kind:
            case "kill" | "stop":
                await self.restart(trouble.kind, size / 2, trouble.one_of(self.lab.parts))
            case "database restarts":
                await self.restart_database(size / 2)
            case "comfyui restarts":
                comfyui.restart()
            case "comfyui restarts after a save":
                comfyui.restart_after_save = True
            case "comfyui is away":
                proxy.refuse()
                comfyui.forget()
                await asyncio.sleep(lasting)
                proxy.heal()
            case "socket drops":
                comfyui.drop()
            case "socket is deaf":
                comfyui.deafen()
            case "answer to a prompt lost":
                comfyui.lose_answer()
            case "half-open":
                proxy.freeze(new=size > 0.5)
                await asyncio.sleep(lasting)
                if size > 0.5:
                    proxy.heal()
            case "late answers":
                proxy.delay(lasting)
                await asyncio.sleep(lasting)
                proxy.heal()
            case "truncated answers":
                proxy.cut(int(20 + size * 2000))
                await asyncio.sleep(lasting)
                proxy.heal()
            case "refused connections":
                proxy.refuse()
                await asyncio.sleep(lasting)
                proxy.heal()
            case "execution error":
                comfyui.fail("boom", "RuntimeError")
            case "interrupted by a stranger":
                comfyui.interrupt()
            case "queue cleared by a stranger":
                comfyui.queue.clear()
            case "history cleared":
                comfyui.queue.history.clear()
            case "gateway op 7" | "gateway op 9" | "gateway closes":
                await self.drop(trouble.kind, trouble.one_of(self.lab.parts))
            case "interaction comes twice":
                self.repeat(size)
            case _:
                route = _ROUTES[trouble.one_of(len(_ROUTES))]
                discord.faults.append(_fault(trouble.kind, *route, times=1 + int(size * 2)))

    async def restart(self, how: str, pause: float, part: int) -> None:
        if self._lives(part):
            await self.lab.bots[part].end(signal.SIGKILL if how == "kill" else signal.SIGTERM)
            await asyncio.sleep(pause)
            await self.start(part)

    async def start(self, part: int) -> None:
        """Again and again while the database is away, as what looks after a service does."""
        while True:
            try:
                outages = self.outages
                await self.lab.start(part=part)
            except NotStarted:
                if self.outages == outages == 0:
                    raise
            else:
                return

    def _lives(self, part: int) -> bool:
        if not self.lab.alive(part):
            self.fell.append(f"part {part} ended of itself: {self.lab.bots[part].returncode}")
        return self.lab.alive(part)

    async def restart_database(self, pause: float) -> None:
        database = self.lab.database
        assert isinstance(database, Postgresql)
        self.outages += 1
        await database.restart(pause)
        self.outages -= 1

    async def drop(self, kind: str, part: int) -> None:
        order = {"gateway op 7": {"op": 7}, "gateway op 9": {"op": 9}}.get(kind, {"code": 4000})
        shard = part, self.lab.parts
        with contextlib.suppress(TimeoutError, RuntimeError):  # the bot is away or hangs up late
            await self.lab.discord.gateway.drop(shard=shard, **order)

    def repeat(self, size: float) -> None:
        if self.asked:
            asked = list(self.asked.values())[int(size * len(self.asked))]
            discord = self.lab.discord
            discord.gateway.dispatch("INTERACTION_CREATE", discord._payload(asked))

    async def heal(self) -> None:
        self.lab.discord.faults.clear()
        for proxy in self.lab.proxies.values():
            proxy.heal()
        for comfyui in self.lab.comfyui.values():
            comfyui.restart_after_save = False
        for part in range(self.lab.parts):
            if not self._lives(part):
                await self.start(part)

    def quiet(self) -> bool:
        """Nothing is left to be done; who has to click for a result does so."""
        left, now = self.lab.open_rows(), self.lab.discord.time()
        answering = any(
            each.acked_at is None and now - each.sent_at < _ACKNOWLEDGED
            for each in self.asked.values()
        )
        by_text = {self.plan.text(number): number for number in self.asked}
        for row in left:
            number = by_text.get(row["text"])
            if row["by_token"] and number is not None:
                latest = [self.asked[number], *self.clicks.get(number, [])][-1]
                if latest.message and latest.expired:
                    user = self.asked[number].user
                    if not self.click(number, user, latest.message, "collect"):
                        self.click(number, user, latest.message, "cancel")
        return not left and not answering and not self.lab.promises()


def _fault(kind: str, method: str, path: str, times: int) -> Fault:
    match kind:
        case "discord 500":
            return Fault(method, path, status=500, times=times)
        case "discord 502 after it was done":
            return Fault(method, path, status=502, after_commit=True)
        case "discord resets":
            return Fault(method, path, reset=True, times=times)
        case "discord resets after it was done":
            return Fault(method, path, reset=True, after_commit=True)
    return Fault(method, path, status=429, times=times * 2)


async def run(plan: Plan) -> Verdict:
    began = time.monotonic()
    options: dict[str, Any] = {"database": plan.database, "parts": plan.parts}
    options["pace"] = Pace(node=0.001, step=0.015)
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        async with lab_in(Path(folder), "one", "two", **options) as lab:
            places = [await _places(lab, part) for part in range(plan.parts)]
            members = [lab.discord.add_user(name) for name in ("alice", "bob", "carol")]
            moderator = lab.discord.add_user("mod", permissions=MODERATOR)
            world = World(plan, lab, members, moderator, places)
            if plan.tokens_die:
                lab.age_tokens()
            await asyncio.gather(*(lab.start(part=each) for each in range(plan.parts)))
            ups = plan.parts * len(lab.comfyui)
            await lab.until(lambda: lab.log().count("is up: ") >= ups)
            await _play(world)
            await world.heal()
            quiet = await _quiet(world)
            if not quiet:
                for each in lab.bots.values():
                    each.send_signal(TELL)
                await lab.until(lambda: " waits in " in lab.log(), 2)
            return judged(world, quiet=quiet, seconds=time.monotonic() - began)


async def _places(lab: Lab, part: int) -> dict[str, Channel]:
    art = lab.discord.add_channel(await _guild(lab, part, installed=True), "art")
    far = lab.discord.add_channel(await _guild(lab, part, installed=False), "x")
    return {"channel": art, "private": art, "stranger": far}


async def _guild(lab: Lab, part: int, *, installed: bool) -> Guild:
    """Of the shard of that part."""
    while True:
        guild = lab.discord.add_guild(f"Lab {part}", installed=installed)
        if (guild.id >> 22) % lab.parts == part:
            return guild
        del lab.discord.guilds[guild.id]
        await asyncio.sleep(0.001)


async def _quiet(world: World) -> bool:
    """Whether it became quiet and stayed so for a while: a command may still be on its way."""
    clock = asyncio.get_running_loop().time
    end = clock() + _QUIET
    since: float | None = None
    while clock() < end:
        since = (since or clock()) if world.quiet() else None
        if since and clock() - since > _STAYS:
            return True
        await asyncio.sleep(0.2)
    return False


async def _play(world: World) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    under_way = []
    one_by_one: defaultdict[object, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def suffer(trouble: Trouble) -> None:
        match trouble.kind:
            case "kill" | "stop":
                key: object = trouble.one_of(world.lab.parts)
            case "database restarts":
                key = trouble.kind
            case _:
                key = trouble
        async with one_by_one[key]:
            await world.suffer(trouble)

    for step in world.plan.steps:
        await asyncio.sleep(began + step.at - loop.time())
        match step:
            case Asked():  # nobody can ask a bot that is away: then everything comes later
                waits, part = loop.time(), world.plan.part(step.number)
                await world.lab.until(functools.partial(world.lab.hears, part), 15)
                began += loop.time() - waits
                world.ask(step)
            case Deed():
                with contextlib.suppress(ValueError):  # the message changed meanwhile
                    world.act(step)
            case Trouble():
                under_way.append(asyncio.create_task(suffer(step)))
    await asyncio.gather(*under_way)


def ran(seed: int, jobs: int, database: str, parts: int) -> Verdict:
    """In a process of its own, where the fakes say nothing of connections that were cut."""
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    return asyncio.run(run(drawn(seed, jobs, database, parts)))
