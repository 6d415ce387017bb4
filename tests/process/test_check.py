"""Set-ups that are broken, each made for real, and what `comfycord check` says of each:
`docs/checks.md`."""

import inspect
import json
import os
import re
import shutil
from collections import namedtuple
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import discord
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bot import config
from bot.alone import alone
from tests.bot.builders import write_workflow
from tests.bot.conftest import shell
from tests.bot.shell import Shell
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.discord import FakeDiscord, Fault, Guild
from tests.graphs import TXT2IMG, a_graph

__all__ = ["shell"]

PAGE = Path(__file__).parents[2] / "docs/checks.md"
COMMAND = "COMFYCORD_WRITE_DOCS=1 uv run pytest -n0 tests/process/test_check.py"
REMEDY = f"run `{COMMAND}` and look at the difference"
HEAD = f"""\
# What `comfycord check` finds

Run it before the bot, and whenever something does not work. ✓ is well, ! works but is not as it
should be, ✗ must be mended: then the exit code is 1, else 0. `comfycord check --json` tells scripts
the same.

Here are set-ups that are broken, and what it says. The tests break each of them and compare, and
`{COMMAND}` writes this page anew.

| what is wrong | what `check` says | what to do |
|---|---|---|
"""
TOKEN = "the.token.of-the-bot"
MARKS = {"ok": "✓", "warning": "!", "failure": "✗"}
NEEDED = discord.Permissions(
    view_channel=True, send_messages=True, attach_files=True, read_message_history=True
)
_Disk = namedtuple("_Disk", "total used free")


@dataclass
class Place:
    """A set-up where everything is right, for a row to break."""

    folder: Path
    patch: pytest.MonkeyPatch
    discord: FakeDiscord
    comfyui: FakeComfyUI
    open: AsyncExitStack
    guild: Guild
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.use(self.comfyui.url)
        self.secrets(f"DISCORD_TOKEN={TOKEN}\n".encode())
        self.patch.setenv("COMFYCORD_DISCORD_API", self.discord.url)
        self.patch.setattr("bot.health._CONTAINER", ())  # also where the tests run in one
        self.patch.delenv("container", raising=False)
        self.discord.app_permissions = NEEDED
        self.channels([])
        self.workflow(a_graph())

    def write(self, text: str) -> None:
        (self.folder / "config.yaml").write_text(text, "utf-8")

    def use(self, url: str) -> None:
        self.settings["servers"] = [{"name": "local", "url": url}]
        self.set()

    def set(self, **settings: Any) -> None:
        self.settings |= settings
        self.write(json.dumps(self.settings))

    def secrets(self, content: bytes, mode: int = 0o600) -> None:
        path = self.folder / ".env"
        path.write_bytes(content)
        path.chmod(mode)

    def workflow(self, graph: dict[str, Any]) -> None:
        write_workflow(self.folder / "workflows", "txt2img", graph)

    def channels(self, *overwrites: list[Any]) -> None:
        """Text channels of the guild, each with what its settings allow and deny."""
        told = [
            {
                **self.discord.channel_payload(self.discord.add_channel(self.guild, name)),
                "permission_overwrites": each,
            }
            for name, each in zip(("art", "chat"), overwrites, strict=False)
        ]
        path = f"/guilds/{self.guild.id}/channels"
        self.discord.faults[:] = [Fault("GET", path, status=200, json=told, times=9)]

    def denied(self, name: str) -> list[Any]:
        deny = discord.Permissions(**{name: True}).value
        return [{"id": self.discord.me["id"], "type": 1, "allow": "0", "deny": str(deny)}]


@pytest.fixture
async def place(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    async with (
        AsyncExitStack() as stack,
        FakeDiscord(token=TOKEN) as fake,
        FakeComfyUI(version="0.28.0") as comfyui,
    ):
        yield Place(tmp_path, monkeypatch, fake, comfyui, stack, fake.add_guild("Art Club"))
        await stack.aclose()


async def closed() -> str:
    """An address where nobody listens."""
    async with FakeComfyUI() as gone:
        return gone.url


async def wrong_port(place: Place) -> None:
    place.use(await closed())


async def in_a_container(place: Place) -> None:
    place.use(await closed())
    place.patch.setattr("bot.health._CONTAINER", (place.folder,))


async def another_program(place: Place) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>Router</html>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/{path:.*}", page)
    server = await place.open.enter_async_context(TestServer(app))
    place.use(str(server.make_url("")))


async def instead(place: Place, **options: Any) -> None:
    server = await place.open.enter_async_context(FakeComfyUI(**options))
    place.use(server.url)


def full_disk(place: Place) -> None:
    place.patch.setattr(shutil, "disk_usage", lambda _: _Disk(2**40, 2**40, 0))


def running(place: Place) -> None:
    """As another bot on the same data holds it."""
    secrets = config.Secrets(discord_token="another.bots.token")
    place.open.enter_context(alone(config.load(environment={})[0], secrets))


def file_in_folder(place: Place, name: str, text: str) -> None:
    (place.folder / "workflows" / name).write_text(text)


def damaged(place: Place) -> None:
    (place.folder / "data").mkdir()
    (place.folder / "data/comfycord.db").write_bytes(b"a picture " * 1000)


def without_commands(place: Place) -> None:
    told = {"message": "Missing Access", "code": 50001}
    place.discord.faults.append(
        Fault("GET", "/applications/*/guilds/*/commands", status=403, json=told)
    )


def env_in_utf_16(place: Place) -> None:
    place.secrets(f"DISCORD_TOKEN={TOKEN}".encode("utf-16"))
    place.patch.setenv("DISCORD_TOKEN", TOKEN)


async def no_discord(place: Place) -> None:
    place.patch.setenv("COMFYCORD_DISCORD_API", await closed())


Break = Callable[[Place], Awaitable[None] | None]

# What is wrong → how it is made so, and words of the cause and of the remedy.
BROKEN: dict[str, tuple[Break, str, str]] = {
    "an unknown key in `config.yaml`": (
        lambda place: place.write('servers: [{name: local, url: "http://gpu", ulr: x}]'),
        "unknown key `servers[0].ulr`",
        "Allowed here: name, url, ca_file.",
    ),
    "a wrong value in `config.yaml`": (
        lambda place: place.set(limits={"upload_mb": 500}),
        "`limits.upload_mb`",
        "Correct it",
    ),
    "`config.yaml` is not YAML": (
        lambda place: place.write("servers:\n  - name: local\n url: http://gpu"),
        "config.yaml, line 3: this is not YAML",
        "Check the indentation.",
    ),
    "an address without `http://`": (
        lambda place: place.use("gpu:8188"),
        "`servers[0].url`: 'gpu:8188' needs http:// or https:// in front",
        "Correct it",
    ),
    "a member of the HTTP face has no token": (
        lambda place: place.set(http={"port": 8190, "members": ["website"]}),
        "http.members: 'website' needs HTTP_TOKEN_WEBSITE",
        "makes one",
    ),
    "there is no `config.yaml`": (
        lambda place: [
            (place.folder / "config.yaml").unlink(),
            place.patch.setenv("COMFYUI_BASE_URL", place.comfyui.url),
        ],
        "There is no config.yaml here",
        "`comfycord init` writes one.",
    ),
    "others can read `.env`": (
        lambda place: place.secrets(f"DISCORD_TOKEN={TOKEN}".encode(), 0o644),
        ".env can be read by others",
        "Run `chmod 600 .env`.",
    ),
    "`.env` is in another encoding": (env_in_utf_16, ".env is not UTF-8", "Save it again as UTF-8"),
    "the place of the data is a file": (
        lambda place: (place.folder / "data").write_text(""),
        "data cannot be written",
        "name another file under `database`",
    ),
    "the disk is full": (full_disk, "The disk of data is full", "Free some room"),
    "the database is damaged": (damaged, "file is not a database", "Put a copy in its place"),
    "the bot runs already": (
        running,
        "Another Comfycord runs with the database",
        "Stop it before you start this one.",
    ),
    "there is no workflows folder": (
        lambda place: shutil.rmtree(place.folder / "workflows"),
        "The workflows folder workflows does not exist",
        "Make it",
    ),
    "a broken workflow file": (
        lambda place: file_in_folder(place, "poster.json", '{"1": '),
        "poster.json ends too early",
        "Download or save it again.",
    ),
    "a workflow in the editor's format": (
        lambda place: file_in_folder(place, "poster.json", '{"nodes": [], "links": []}'),
        "poster.json is in the editor's format",
        "Add it in Discord with /workflow add",
    ),
    "a mistake in a sidecar": (
        lambda place: write_workflow(
            place.folder / "workflows", "poster", TXT2IMG, "titel: Pictures"
        ),
        "poster.json has a sidecar with an unknown key `titel`",
        "Mend the file",
    ),
    "no token": (
        lambda place: (place.folder / ".env").unlink(),
        "No Discord token",
        "Put DISCORD_TOKEN=… into a file named .env",
    ),
    "a wrong token": (
        lambda place: place.secrets(b"DISCORD_TOKEN=the.token.of-another"),
        "Discord does not accept DISCORD_TOKEN",
        "Copy it again",
    ),
    "Discord cannot be reached": (no_discord, "Discord cannot be reached", "Try again later."),
    "an Interactions Endpoint URL is set": (
        lambda place: place.discord.faults.append(
            Fault("GET", "/oauth2/applications/@me", status=200, json=hooked(place))
        ),
        "The application has an Interactions Endpoint URL",
        "Remove it",
    ),
    "the bot is in no server": (
        lambda place: place.discord.kick(place.guild),
        "I am in no Discord server yet",
        "Open the link of `comfycord invite`.",
    ),
    "the bot is not in a server of `discord.guilds`": (
        lambda place: place.set(discord={"guilds": [place.guild.id, 123456789012345678]}),
        "I am not in the server 123456789012345678",
        "Use `comfycord invite`.",
    ),
    "it was invited without `applications.commands`": (
        without_commands,
        "In the server Art Club I may have no slash commands",
        "Open the link of `comfycord invite` again",
    ),
    "it may post no files in a channel": (
        lambda place: place.channels([], place.denied("attach_files")),
        "In the server Art Club I lack Attach Files in #chat",
        "Allow me that in the channel's settings.",
    ),
    "it sees no channel": (
        lambda place: place.channels(place.denied("view_channel"), place.denied("view_channel")),
        "In the server Art Club I do not see #art, #chat",
        "I need View Channel",
    ),
    "no ComfyUI is set": (
        lambda place: place.set(servers=[]),
        "No ComfyUI server is set",
        "Add one to config.yaml.",
    ),
    "a wrong port, or ComfyUI does not run": (
        wrong_port,
        "does not answer: nothing listens there",
        "Is ComfyUI running",
    ),
    "the bot in a container, ComfyUI beside it": (
        in_a_container,
        "does not answer: nothing listens there",
        "write http://host.docker.internal:",
    ),
    "another program at the address": (
        another_program,
        "does not answer as a ComfyUI server does",
        "Is the port right?",
    ),
    "a path that leads nowhere": (
        lambda place: place.use(f"{place.comfyui.url}/comfy"),
        "/comfy is not a ComfyUI server (HTTP 404)",
        "Is there a path prefix",
    ),
    "ComfyUI behind a login": (
        lambda place: instead(place, version="0.28.0", token="the-bearer"),
        "wants other credentials (HTTP 401)",
        "Set COMFYUI_TOKEN_<NAME> or COMFYUI_LOGIN_<NAME>",
    ),
    "an old ComfyUI": (
        lambda place: instead(place, version="0.27.9"),
        "ComfyUI 0.27.9 has known security holes",
        "Update it to 0.28.0 or later.",
    ),
    "a very old ComfyUI": (
        lambda place: instead(place, version="0.3.44"),
        "ComfyUI 0.3.44 is too old for me",
        "Update it to 0.28.0 or later.",
    ),
    "a model is missing": (
        lambda place: place.workflow(a_graph(n4={"ckpt_name": "gone.safetensors"})),
        "txt2img: lacks the file gone.safetensors",
        "Download it into ComfyUI's models folder.",
    ),
    "a custom node is missing": (
        lambda place: place.workflow({**TXT2IMG, "90": {"class_type": "Magic", "inputs": {}}}),
        "txt2img: lacks the nodes Magic",
        "Install them with ComfyUI-Manager.",
    ),
    "a number that ComfyUI does not take": (
        lambda place: place.workflow(a_graph(n3={"steps": 0})),
        "txt2img: `steps` of *Sampling* (`0`) is too small: 1 to 10000",
        "Correct it in ComfyUI",
    ),
}  # fmt: skip


def hooked(place: Place) -> dict[str, Any]:
    """The application, with another address for what people do."""
    owner = {"id": "1", "username": "owner", "discriminator": "0", "avatar": None}
    return {
        "id": place.discord.me["id"], "name": "Comfycord", "description": "", "icon": None,
        "bot_public": True, "bot_require_code_grant": False, "owner": owner,
        "verify_key": "0" * 64, "flags": 0,
        "interactions_endpoint_url": "https://example.org/interactions",
    }  # fmt: skip


async def checked(shell: Shell) -> tuple[int, list[dict[str, str]]]:
    done = await shell.runs("check", "--json")
    assert done.err == ""
    assert TOKEN not in done.out
    return done.code, json.loads(done.out)


@pytest.mark.skipif(os.name != "posix", reason="the page has what systems like POSIX say")
@pytest.mark.parametrize("what", BROKEN)
async def test_check_names_the_cause_and_the_remedy(what: str, place: Place, shell: Shell) -> None:
    make, cause, remedy = BROKEN[what]
    if inspect.isawaitable(made := make(place)):
        await made

    code, findings = await checked(shell)

    (found,) = [each for each in findings if each["level"] != "ok"]
    assert cause in found["text"]
    assert remedy in found["remedy"]
    assert code == (found["level"] == "failure")
    documented(what, found)


@pytest.mark.parametrize("end", ["", "/", "/api/"])
async def test_what_is_not_broken_is_well(place: Place, shell: Shell, end: str) -> None:
    place.use(place.comfyui.url + end)

    code, findings = await checked(shell)

    assert code == 0
    assert {(each["level"], each["remedy"]) for each in findings} == {("ok", "")}


# The page


def test_the_page_has_these_rows_and_no_others() -> None:
    assert list(rows()) == list(BROKEN), REMEDY
    assert PAGE.read_text("utf-8") == page(rows()), REMEDY


def documented(what: str, found: dict[str, str]) -> None:
    """It stands in the page, or is written there."""
    told = cell(f"{MARKS[found['level']]} {found['text']}."), cell(found["remedy"])
    if "COMFYCORD_WRITE_DOCS" in os.environ:
        PAGE.write_text(page({**rows(), what: told}), "utf-8")
    assert rows().get(what) == told, REMEDY


def rows() -> dict[str, tuple[str, str]]:
    """What the page says now."""
    text = PAGE.read_text("utf-8") if PAGE.exists() else ""
    found = re.findall(r"^\| (.+?) \| ([✓!✗] .+?) \| (.+) \|$", text, re.M)
    return {what: (says, do) for what, says, do in found}


def page(told: dict[str, tuple[str, str]]) -> str:
    known = {what: told[what] for what in BROKEN if what in told}
    return HEAD + "".join(f"| {what} | {says} | {do} |\n" for what, (says, do) in known.items())


def cell(text: str) -> str:
    """Without what differs from run to run and from machine to machine."""
    text = re.sub(r"(127\.0\.0\.1|host\.docker\.internal):\d+", r"\1:8188", text)
    text = re.sub(r"(Discord cannot be reached: ).*", r"\1…", text)
    return text.replace("|", r"\|")
