"""The gateway of the fake Discord: a session for each shard, which can be resumed."""

import asyncio
import contextlib
import json
import secrets
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from tests.fakes.discord_messages import EPHEMERAL, Json

if TYPE_CHECKING:
    from tests.fakes.discord import FakeDiscord

DISPATCH, HEARTBEAT, IDENTIFY, RESUME, RECONNECT, INVALID_SESSION, HELLO, ACK = (
    0,
    1,
    2,
    6,
    7,
    9,
    10,
    11,
)

GUILDS, GUILD_MESSAGES, DIRECT_MESSAGES = 1 << 0, 1 << 9, 1 << 12
PRIVILEGED = 1 << 1 | 1 << 8 | 1 << 15
HANG_UP_SECONDS = 5.0


class Link:
    """One socket. Frames go out in the order given; a number hangs up with that close code."""

    def __init__(self, socket: web.WebSocketResponse, *, compress: bool) -> None:
        self.gone = asyncio.Event()
        self._socket = socket
        self._deflate = zlib.compressobj() if compress else None
        self._out: asyncio.Queue[Json | int | None] = asyncio.Queue()

    def send(self, frame: Json | int | None) -> None:
        self._out.put_nowait(frame)

    async def write(self) -> None:
        with contextlib.suppress(ConnectionError):
            while (frame := await self._out.get()) is not None:
                if isinstance(frame, int):
                    await self._socket.close(code=frame)
                    return
                text = json.dumps(frame)
                if self._deflate is None:
                    await self._socket.send_str(text)
                else:
                    data = self._deflate.compress(text.encode())
                    await self._socket.send_bytes(data + self._deflate.flush(zlib.Z_SYNC_FLUSH))


@dataclass(eq=False)
class Session:
    """What was dispatched since IDENTIFY, so that RESUME can replay it."""

    intents: int
    link: Link | None
    shard: tuple[int, int] = (0, 1)
    """Which of how many."""
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    sent: list[Json] = field(default_factory=list)

    def serves(self, guild_id: int) -> bool:
        """Everything outside of guilds, 0, is the first shard's."""
        return (guild_id >> 22) % self.shard[1] == self.shard[0]

    def dispatch(self, event: str, data: Any) -> None:
        frame = {"op": DISPATCH, "t": event, "s": len(self.sent) + 1, "d": data}
        self.sent.append(frame)
        if self.link:
            self.link.send(frame)


class Gateway:
    """Takes the bot's connections and hands events to the session of their shard."""

    def __init__(self, fake: "FakeDiscord") -> None:
        self.identifies = 0
        self.resumes = 0
        self.sessions: dict[tuple[int, int], Session] = {}
        self.away = False
        """Whether connections are refused; events are kept meanwhile for the session."""
        self.replay = 0
        """How many events that the bot has had are sent again when it resumes."""
        self._fake = fake
        self._links: set[Link] = set()

    @property
    def session(self) -> Session | None:
        """That of the first shard."""
        return next((self.sessions[shard] for shard in sorted(self.sessions)), None)

    def dispatch(self, event: str, data: Json) -> None:
        """Send an event, unless the bot's intents leave it out; with no session it is lost."""
        intent = 0
        if event.startswith("MESSAGE_"):
            intent = GUILD_MESSAGES if "guild_id" in data else DIRECT_MESSAGES
            if data.get("flags", 0) & EPHEMERAL:
                return
        elif event.startswith(("GUILD_", "CHANNEL_")):
            intent = GUILDS
        own = data["id"] if event in ("GUILD_CREATE", "GUILD_DELETE") else 0
        guild_id = int(data.get("guild_id") or own)
        for session in self.sessions.values():
            if session.serves(guild_id) and session.intents & intent == intent:
                session.dispatch(event, data)

    async def drop(
        self,
        *,
        op: int | None = None,
        code: int | None = None,
        shard: tuple[int, int] | None = None,
    ) -> None:
        """See `FakeDiscord.drop`. Without *shard*: the first one."""
        if (op in (RECONNECT, INVALID_SESSION)) == (code is not None):
            raise ValueError("say op=7, op=9 or code=...")
        session = self.session if shard is None else self.sessions.get(shard)
        if session is None or session.link is None:
            raise RuntimeError("no bot is connected")
        link, session.link = session.link, None
        if op == INVALID_SESSION:
            del self.sessions[session.shard]
            link.send({"op": INVALID_SESSION, "d": False})
        elif op == RECONNECT:
            link.send({"op": RECONNECT, "d": None})
        else:
            link.send(code)
        await asyncio.wait_for(link.gone.wait(), HANG_UP_SECONDS)

    async def close(self) -> None:
        for link in tuple(self._links):
            link.send(1001)
            await asyncio.wait_for(link.gone.wait(), HANG_UP_SECONDS)

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        if self.away:
            raise web.HTTPServiceUnavailable
        socket = web.WebSocketResponse(timeout=1.0)
        await socket.prepare(request)
        link = Link(socket, compress=request.query.get("compress") == "zlib-stream")
        self._links.add(link)
        link.send({"op": HELLO, "d": {"heartbeat_interval": 41250}})
        writer = asyncio.create_task(link.write())
        try:
            async for frame in socket:
                if frame.type is WSMsgType.TEXT:
                    self._receive(link, json.loads(frame.data))
        finally:
            link.send(None)
            await writer
            self._links.discard(link)
            for session in self.sessions.values():
                if session.link is link:
                    session.link = None
            link.gone.set()
            self._fake.changed()
        return socket

    def _receive(self, link: Link, frame: Json) -> None:
        data = frame.get("d")
        match frame["op"]:
            case 1:
                link.send({"op": ACK})
            case 2 | 6 if data["token"] != self._fake.token:
                link.send(4004)
            case 2 if data["intents"] & PRIVILEGED & ~self._fake.privileged_intents:
                link.send(4014)
            case 2:
                self._identify(link, data["intents"], tuple(data.get("shard", (0, 1))))
            case 6:
                self._resume(link, data)

    def _identify(self, link: Link, intents: int, shard: tuple[int, int]) -> None:
        fake = self._fake
        self.sessions[shard] = session = Session(intents, link, shard)
        guilds = [g for g in fake.guilds.values() if g.installed and session.serves(g.id)]
        session.dispatch(
            "READY",
            {
                "v": 10,
                "user": fake.me,
                "guilds": [{"id": str(guild.id), "unavailable": True} for guild in guilds],
                "session_id": session.id,
                "shard": list(shard),
                "resume_gateway_url": fake.url.replace("http", "ws", 1) + "/gateway",
                "application": {"id": fake.me["id"], "flags": 0},
            },
        )
        for guild in guilds:
            session.dispatch("GUILD_CREATE", fake.guild_payload(guild))
        self.identifies += 1
        fake.changed()

    def _resume(self, link: Link, data: Json) -> None:
        known = self.sessions.values()
        session = next((each for each in known if each.id == data["session_id"]), None)
        if session is None:
            link.send({"op": INVALID_SESSION, "d": False})
            return
        session.link = link
        for frame in session.sent[max(data["seq"] - self.replay, 0) :]:
            link.send(frame)
        session.dispatch("RESUMED", {})
        self.resumes += 1
        self._fake.changed()
