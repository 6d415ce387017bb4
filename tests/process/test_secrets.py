"""Secrets are planted everywhere, a bot with its most talkative log has a bad day, and where it
wrote or said something is searched for them."""

import asyncio
import base64
import contextlib
import json
import shutil
import signal
import sqlite3
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from bot.errors import describe
from comfy.errors import NodeError
from comfy.standin import Pace
from tests.discord.http_face import free_port
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.discord import FakeDiscord, Fault, Interaction, Request
from tests.process.forked import Forked, comfycord
from tests.process.test_process import ROOT, Lab, end

TOKEN = "planted-discord.token.of-the-bot"
BEARER, LOGIN = "planted-bearer", "someone:planted-p@ss/word"
API_KEY = "planted-api-key"
MEMBER = "planted-token-of-a-script"
ECHOED = "planted-auth-token"  # a node that fails says it
SIGNED = "ab12cd34ef56ab12"
PATCHES = ("PATCH", "/channels/*/messages/*")
WEBHOOKS = "/webhooks/*/messages/*"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b49444154789c6364f8"
    "5f0f0002870180eb47ba920000000049454e44ae426082"
)


def basic(login: str) -> str:
    return "Basic " + base64.b64encode(login.encode()).decode()


class Guarded(FakeComfyUI):
    """Wants an `Authorization`, and says what it got instead, as no server should."""

    def __init__(self, wanted: str) -> None:
        super().__init__(pace=Pace(0, 0))
        self.wanted = wanted

    async def answer(self, request: web.Request, handler: Any) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if given != self.wanted:
            return web.Response(status=401, text=f"not {given}", reason=f"not {given}")
        return await super().answer(request, handler)


@dataclass
class Traces:
    """What is left of the day. *spool*: the files in it while a result was posted; *tokens*: those
    of interactions that the database still has when everything is told; *kept*: files of a workflow
    that may keep its metadata; *graphs*: those that a server got; *moderated*: what a
    moderator was shown."""

    log: str = ""
    sent: list[bytes] = field(default_factory=list)
    database: dict[str, str] = field(default_factory=dict)
    spool: list[bytes] = field(default_factory=list)
    tokens: int = 0
    graphs: str = ""
    moderated: list[bytes] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list)
    interactions: list[str] = field(default_factory=list)

    @property
    def secrets(self) -> list[str]:
        password = LOGIN.partition(":")[2]
        more = [TOKEN, BEARER, MEMBER, password, "planted-p%40ss", basic(LOGIN)[6:], SIGNED]
        return more + self.interactions


class Day:
    def __init__(self, folder: Path, discord: FakeDiscord, comfyui: list[Guarded]) -> None:
        self.folder, self.discord, self.comfyui = folder, discord, comfyui
        self.lab = Lab(discord, comfyui[0], folder)
        self.mod = discord.add_user("mod", permissions=0x20 | 0x2000)
        self.traces = Traces()
        self.moderated: list[Request] = []
        self.told_over_http: list[bytes] = []

    async def start(self, environment: dict[str, str]) -> Forked:
        given = {
            "DISCORD_TOKEN": TOKEN,
            "COMFYCORD_DISCORD_API": self.discord.url,
        }
        log = self.folder / "log"
        log.write_bytes(b"")
        bot = comfycord(self.folder, given | environment, "run", "--debug", log=log)
        await self.discord.ready(timeout=30)
        await self.logged("is up", len(self.comfyui))
        return bot

    async def logged(self, words: str, times: int = 1) -> None:
        async with asyncio.timeout(60):
            while (self.folder / "log").read_text().count(words) < times:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def ask(self, command: str = "generate", **options: Any) -> Interaction:
        if command == "generate":
            options = {"workflow": "keyed", "prompt": "a cat"} | options
        lab = self.lab
        return await self.discord.slash(self.mod, lab.channel, command, **options).answered()

    async def posted(self, **options: Any) -> Interaction:
        answer = await self.ask(**options)
        await self.discord.until(lambda: self.lab.files(answer.message), timeout=60)
        return answer

    async def pass_by(self) -> None:
        """Everything that a secret could slip into."""
        discord = self.discord
        answer = await self.posted_slowly()
        await self.told(1)
        await discord.click(self.mod, answer.message, f"job:{self.newest()}:details").answered()
        await self.posted(workflow="img2img", image=("a.png", PNG))
        discord.faults += [Fault("GET", "/attachments/*", status=404, times=5)]
        await self.ask(workflow="img2img", image=("a.png", PNG))
        await self.sent("did not give me the file")
        discord.faults += [
            Fault("PATCH", WEBHOOKS, status=429),
            Fault("PATCH", WEBHOOKS, reset=True),
        ]
        await self.posted(private=True)
        kept = await self.posted(workflow="open")
        self.traces.kept = list(self.lab.files(kept.message).values())
        self.comfyui[0].fail(f"nobody has the token {ECHOED}", "PermissionError")
        await self.ask()
        discord.faults += [Fault(*PATCHES, reset=True)]
        await self.told(5)
        await self.command_fails()
        for command in ("status", "queue", "history", "privacy export"):
            await self.ask(command)

    async def ask_over_http(self, port: int) -> None:
        """A member, and somebody whose token is almost right; what they are told was sent too."""
        root = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession() as session:
            for token in (MEMBER, f"{MEMBER}s"):
                session.headers["Authorization"] = f"Bearer {token}"
                asked = session.post(f"{root}/api/workflow/keyed", json={"prompt": "a cat"})
                async with asked as answer:
                    self.told_over_http.append(await answer.read())
                for path in ("/api/history", "/api/test_comfy", "/api/status", "/metrics"):
                    async with session.get(root + path) as answer:
                        self.told_over_http.append(await answer.read())

    async def posted_slowly(self) -> Interaction:
        """With a look into the spool. What is held before the result is an edit of its progress."""
        answer = await self.ask()
        while not self.lab.files(answer.message):
            held = self.discord.hold("PATCH", "/channels/*/messages/*")
            for each in self.discord.holds[:-1]:
                each.release()
            await held.reached()
        files = (self.folder / "data").glob("*.spool/**/*")
        self.traces.spool += [each.read_bytes() for each in files if each.is_file()]
        held.release()
        return answer

    async def moderate(self) -> None:
        """What moderators are shown of a workflow."""
        before = len(self.discord.requests)
        await self.ask("workflow show", workflow="keyed")
        await self.ask("workflow test", workflow="keyed")
        asked = {"workflow": "keyed", "parameter": "key"}
        where = (self.mod, self.lab.channel, "workflow expose")
        await self.discord.autocomplete(*where, focused="target", value="key", **asked)
        await self.ask("workflow export", workflow="keyed")
        self.moderated = self.discord.requests[before:]

    async def command_fails(self) -> None:
        """With a traceback in the log."""
        self.discord.faults += [Fault("POST", "/interactions/*", status=400, times=2)]
        self.discord.slash(self.mod, self.lab.channel, "status")
        await self.logged("a command failed")
        self.discord.faults.clear()

    async def servers_fail(self) -> None:
        """One wants other credentials, then nobody listens."""
        for each in self.comfyui:
            each.wanted = "something else"
            each.drop()
        await self.logged("credentials", len(self.comfyui))
        await self.ask("test_comfy")
        await self.sent("wants other credentials")
        for each in self.comfyui:
            await each.close()
        await self.logged("nothing listens there", len(self.comfyui))
        await self.ask("test_comfy")
        await self.sent("nothing listens there")

    async def sent(self, words: str) -> None:
        await self.discord.until(lambda: any(words in json.dumps(r.json) for r in self.written()))

    def written(self) -> list[Any]:
        return [each for each in self.discord.requests if each.json is not None]

    async def told(self, jobs: int) -> None:
        async with asyncio.timeout(60):
            while self.rows("select count(*) from jobs where told") != [(jobs,)]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    def history(self) -> list[Any]:
        return [each for comfyui in self.comfyui for each in comfyui.queue.history.values()]

    def newest(self) -> str:
        return str(self.rows("select id from jobs order by number desc limit 1")[0][0])

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        database = sqlite3.connect(self.folder / "data/comfycord.db", timeout=20)
        with contextlib.closing(database) as connection:
            return connection.execute(query).fetchall()

    def look_around(self) -> Traces:
        traces, discord = self.traces, self.discord
        traces.log = (self.folder / "log").read_text()
        traces.interactions = list(discord.interactions)
        traces.graphs = json.dumps([each["prompt"] for each in self.history()])
        told = [each for each in discord.requests if each not in self.moderated]
        traces.sent = [data for data in contents(told) if data not in traces.kept]
        traces.sent += self.told_over_http
        traces.moderated = contents(self.moderated)
        for (table,) in self.rows("select name from sqlite_master where type = 'table'"):
            rows = self.rows(f'select * from "{table}"')  # noqa: S608
            traces.database[table] = json.dumps(rows, default=str)
        traces.tokens = len(self.rows("select 1 from tokens"))
        return traces


def contents(requests: list[Request]) -> list[bytes]:
    """Everything in them that the bot wrote."""
    bodies = [json.dumps(each.json).encode() for each in requests]
    return bodies + [data for each in requests for data in each.files.values()]


def settings_of(day: Day, one_server: bool, port: int) -> dict[str, str]:
    """Writes what the bot reads, and returns what its environment holds."""
    shutil.copytree(ROOT / "workflows", day.folder / "workflows")
    graph = json.loads((ROOT / "workflows/postcard.json").read_text())
    graph["43"]["inputs"] |= {"api_key": API_KEY, "auth_token": ECHOED}
    sidecar = (ROOT / "workflows/postcard.yaml").read_text()
    for name, more in (("keyed", ""), ("open", "keep_metadata: true\n")):
        (day.folder / f"workflows/{name}.json").write_text(json.dumps(graph))
        (day.folder / f"workflows/{name}.yaml").write_text(sidecar + more)
    if one_server:
        address = day.comfyui[0].url.removeprefix("http://")
        return {"COMFYUI_BASE_URL": f"http://someone:planted-p%40ss%2Fword@{address}"}
    named = zip(("a", "b"), day.comfyui, strict=True)
    settings: dict[str, Any] = {
        "servers": [{"name": name, "url": each.url} for name, each in named],
        "http": {"port": port, "members": ["script"]},
    }
    (day.folder / "config.yaml").write_text(json.dumps(settings))
    return {"COMFYUI_TOKEN_A": BEARER, "COMFYUI_LOGIN_B": LOGIN, "HTTP_TOKEN_SCRIPT": MEMBER}


async def bad_day(folder: Path, *, one_server: bool) -> Traces:
    wanted = [basic(LOGIN)] if one_server else [f"Bearer {BEARER}", basic(LOGIN)]
    async with AsyncExitStack() as stack:
        discord = await stack.enter_async_context(FakeDiscord(token=TOKEN))
        discord.store.signature = f"ex={SIGNED}&is={SIGNED}&hm={SIGNED}"
        comfyui = [await stack.enter_async_context(Guarded(each)) for each in wanted]
        day = Day(folder, discord, comfyui)
        port = free_port()
        bot = await day.start(settings_of(day, one_server, port))
        try:
            await day.pass_by()
            await day.moderate()
            if not one_server:
                await day.ask_over_http(port)
            await day.servers_fail()
        finally:
            code = await end(bot, signal.SIGTERM)
        assert code == 0
        return day.look_around()


@pytest.fixture(
    scope="module",
    params=["several servers", pytest.param("COMFYUI_BASE_URL", marks=pytest.mark.chaos)],
)
def traces(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Traces:
    folder = tmp_path_factory.mktemp("secrets")
    return asyncio.run(bad_day(folder, one_server=request.param == "COMFYUI_BASE_URL"))


def found(secrets: Iterable[str], *places: str | bytes) -> list[str]:
    data = [each.encode() if isinstance(each, str) else each for each in places]
    return [each for each in secrets if any(each.encode() in one for one in data)]


def test_no_secret_stands_in_the_log(traces: Traces) -> None:
    assert "=== Request to ComfyUI ===" in traces.log
    assert "Traceback" in traces.log
    assert not [line for line in traces.log.splitlines() if " DEBUG   discord" in line]
    assert found([*traces.secrets, API_KEY], traces.log) == []


def test_a_key_that_a_failed_node_says_does_not_stand_in_the_log(traces: Traces) -> None:
    assert "nobody has the token" in traces.log
    assert found([ECHOED], traces.log) == []


def test_no_secret_is_sent_to_discord(traces: Traces) -> None:
    assert len(traces.sent) > 20
    assert found([*traces.secrets, API_KEY], *traces.sent) == []


def test_a_picture_that_may_keep_its_workflow_holds_no_key(traces: Traces) -> None:
    assert traces.kept
    assert found([API_KEY], *traces.kept) == []


def test_a_key_that_comfyui_refuses_is_not_shown() -> None:
    graph = {"43": {"class_type": "SaveImage", "inputs": {"api_key": API_KEY}}}
    error = NodeError("43", "SaveImage", "api_key", "custom_validation_failed", "")

    assert API_KEY not in describe(error, graph)


def test_moderators_are_shown_no_key(traces: Traces) -> None:
    assert found([*traces.secrets, API_KEY, ECHOED], *traces.moderated) == []


def test_no_secret_stands_in_the_database(traces: Traces) -> None:
    tables = [text for table, text in traces.database.items() if table != "tokens"]
    assert "a cat" in traces.database["jobs"]
    assert found(traces.secrets, *tables) == []


def test_no_key_of_a_workflow_stands_in_the_database(traces: Traces) -> None:
    assert found([API_KEY, ECHOED], traces.graphs) == [API_KEY, ECHOED]
    assert found([API_KEY, ECHOED], *traces.database.values()) == []


def test_no_secret_stands_in_the_spool(traces: Traces) -> None:
    assert traces.spool
    assert found([*traces.secrets, API_KEY], *traces.spool) == []


def test_no_token_is_kept_when_everything_is_told(traces: Traces) -> None:
    assert traces.tokens == 0
