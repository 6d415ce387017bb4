"""Every line of a `sh` block of the README and the owner's pages is run, as a person would.

A line that would download or run for ever has its variation in `LINES`, and what cannot be run is
named in `ELSEWHERE`. A line that is in neither fails, and so does one that nobody shows any more.
"""

import asyncio
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
import pytest
import yaml

from comfy.standin import Pace
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.discord import FakeDiscord
from tests.process.forked import comfycord

ROOT = Path(__file__).parents[1]
README, GUIDE = "README.md", "docs/guide.md"
PAGES = (GUIDE, "docs/backup.md", "docs/troubleshooting.md", README)
TOKEN = "your-token"
MEMBER = "the-token-of-the-website"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the lines are those of a POSIX shell")


def shell_blocks(document: str) -> list[list[str]]:
    """The lines without what they say behind `  #`."""
    text = (ROOT / document).read_text("utf-8")
    found = re.findall(r"^( *)```sh\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE)
    every = ([re.sub(r"\s+# .*", "", line).strip() for line in b.splitlines()] for _, b in found)
    return [[line for line in block if line] for block in every]


@dataclass
class Place:
    """A clone of this checkout, a Discord and a ComfyUI."""

    folder: Path
    discord: FakeDiscord
    comfyui: FakeComfyUI
    port: int

    @property
    def environment(self) -> dict[str, str]:
        """`uv run` takes the environment that runs the tests, and downloads nothing."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("VIRTUAL_ENV", "UV_"))}
        return {
            **kept,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "UV_PROJECT_ENVIRONMENT": sys.prefix,
            "UV_NO_SYNC": "1",
            "COMFYCORD_DISCORD_API": self.discord.url,
        }

    @asynccontextmanager
    async def shell(self, line: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A terminal in the folder, whose Ctrl-C goes to all that it started."""
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", line, cwd=self.folder, env=self.environment, start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, preexec_fn=_hear_ctrl_c,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()


def _hear_ctrl_c() -> None:
    """Also where these tests themselves run in the background, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


# How a line is tested


async def prints(place: Place, line: str, *, said: str, instead: str | None = None) -> None:
    """It ends well and prints *said*, a pattern. *instead*: what is run in its place."""
    async with place.shell(instead or line) as process:
        out, _ = await asyncio.wait_for(process.communicate(), 60)

    assert process.returncode == 0, out.decode()
    assert re.search(said, out.decode()), out.decode()


async def shows_the_demo(place: Place, line: str) -> None:
    async with place.shell(f"{line} --no-browser") as process, aiohttp.ClientSession() as session:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            while not (found := re.search(rb"http://\S+", await process.stdout.readline())):
                pass
        async with session.get(found[0].decode()) as page:
            assert page.status == 200
        await _end(process)


async def runs_the_bot(place: Place, line: str) -> None:
    """Until Ctrl-C."""
    async with place.shell(line) as process:
        await place.discord.ready(timeout=60)
        await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ctrl-C, and all that was started ends."""
    os.killpg(process.pid, signal.SIGINT)
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode in (0, 130, -signal.SIGINT)
    assert b"Traceback" not in out


async def in_a_fork(place: Place, line: str, *, said: str, folder: str = "") -> None:
    """The installed command, in a warm process; `uv run` in front is tested by the others."""
    name, *arguments = shlex.split(line.removeprefix("uv run "))
    log = place.folder / "said.log"
    log.unlink(missing_ok=True)
    (place.folder / folder).mkdir(exist_ok=True)
    process = comfycord(place.folder / folder, place.environment, *arguments, log=log)
    if not arguments:
        await place.discord.ready(timeout=60)
        process.send_signal(signal.SIGTERM)

    assert name == "comfycord"
    assert await asyncio.wait_for(process.wait(), 60) == 0, log.read_text()
    assert re.search(said, log.read_text()), log.read_text()


_ROOT = shlex.quote(str(ROOT))
_VACUUM = (
    """python3 -c "import sqlite3; sqlite3.connect('data/comfycord.db')"""
    """.execute('VACUUM INTO \\"backup.db\\"')\""""
)
LINES: dict[str, Callable[[Place, str], Awaitable[None]]] = {
    "git clone https://github.com/comfycord/comfycord && cd comfycord": partial(
        prints,
        instead=f"git clone -q {_ROOT} again && cd again && ls && rm -rf ../again",
        said="README.md",
    ),
    "pip install uv": partial(prints, instead="uv --version", said=r"uv \d"),
    "uv run comfycord demo": shows_the_demo,
    'echo "DISCORD_TOKEN=your-token" > .env': partial(
        prints,
        instead='echo "DISCORD_TOKEN=your-token" > .env && cat .env',
        said=f"DISCORD_TOKEN={TOKEN}",
    ),
    "uv run comfycord init": partial(in_a_fork, folder="new-too", said=r"Wrote config\.yaml"),
    "uv run comfycord invite": partial(in_a_fork, said=r"https://discord\.com/oauth2/authorize\?"),
    "uv run comfycord check": partial(in_a_fork, said="postcard can run"),
    "uv run comfycord": runs_the_bot,
    "uv run comfycord workflows": partial(in_a_fork, said=r"txt2img \(7 nodes\)\n  text +2\.text"),
    "uv run pytest": partial(
        prints,
        instead="uv run pytest -n0 -p no:cacheprovider tests/test_architecture.py -k namespace",
        said="1 passed",
    ),
    "comfycord init": partial(in_a_fork, folder="new", said=r"Wrote config\.yaml"),
    "comfycord invite": partial(in_a_fork, said="permissions="),
    "comfycord check": partial(in_a_fork, said="postcard can run"),
    "comfycord": partial(in_a_fork, said="server local is up"),
    "mkdir my-bot && cd my-bot": partial(
        prints, instead="mkdir my-bot && cd my-bot && pwd", said="/my-bot"
    ),
    "cp docs/examples/compose.yaml compose.yaml": partial(
        prints, instead=f"cp {_ROOT}/docs/examples/compose.yaml compose.yaml && ls", said="compose"
    ),
    _VACUUM: partial(
        prints,
        instead=f"mkdir -p data && rm -f backup.db && {_VACUUM} && ls",
        said=r"backup\.db",
    ),
}
CONTAINER = "tests/test_docs_guides.py", "def test_the_container_of_the_guide_is_whole"
SERVICE = "tests/test_docs_guides.py", "def test_the_service_of_the_guide_is_whole"
WHEEL = "tests/test_packaging.py", '"build", "--wheel"'
# What needs root or Docker, or downloads: where the files that it names are tested.
ELSEWHERE = {
    "uv build --wheel": WHEEL,
    "uv tool install dist/comfycord-*.whl": WHEEL,
    "docker compose up -d": CONTAINER,
    "docker compose exec bot comfycord check": CONTAINER,
    "sudo python3 -m venv /opt/comfycord": SERVICE,
    "sudo /opt/comfycord/bin/pip install dist/comfycord-*.whl": SERVICE,
    "sudo useradd --system --home-dir /var/lib/comfycord --shell /usr/sbin/nologin comfycord": (
        SERVICE
    ),
    "sudo install -d -o comfycord -m 700 /var/lib/comfycord": SERVICE,
    "sudo -u comfycord env -C /var/lib/comfycord /opt/comfycord/bin/comfycord init": SERVICE,
    "sudo cp docs/examples/comfycord.service /etc/systemd/system/": SERVICE,
    "sudo systemctl enable --now comfycord": SERVICE,
    "journalctl -u comfycord -f": SERVICE,
    "sudo systemctl stop comfycord": SERVICE,
    "sudo tar -C /var/lib -czf comfycord.tar.gz comfycord": SERVICE,
    "sudo systemctl start comfycord": SERVICE,
}
(OVER_HTTP,) = (block for block in shell_blocks(GUIDE) if block[0] == ". ./.env")
SHOWN = {line: name for name in PAGES for block in shell_blocks(name) for line in block}


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone")  # but an unpacked archive, of which `git clone` makes none
    folder = tmp_path_factory.mktemp("readme") / "comfycord"
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    return folder


@pytest.fixture
async def place(clone: Path) -> AsyncIterator[Place]:
    """As a person has it after the steps before: a token in `.env`, an address in config.yaml."""
    async with FakeDiscord(token=TOKEN) as discord, FakeComfyUI(pace=Pace(0, 0)) as comfyui:
        discord.add_channel(discord.add_guild("Lab"), "art")
        with socket.socket() as chosen:
            chosen.bind(("127.0.0.1", 0))
            port = int(chosen.getsockname()[1])
        settings = {
            "servers": [{"name": "local", "url": comfyui.url}],
            "http": {"port": port, "members": ["website"]},
        }
        (clone / "config.yaml").write_text(yaml.safe_dump(settings))
        (clone / ".env").write_text(f"DISCORD_TOKEN={TOKEN}\nHTTP_TOKEN_WEBSITE={MEMBER}\n")
        yield Place(clone, discord, comfyui, port)


def test_every_line_is_known_and_every_known_line_is_shown() -> None:
    known = {*LINES, *ELSEWHERE, *OVER_HTTP}

    assert {f"{where}: {line}" for line, where in SHOWN.items() if line not in known} == set()
    assert known - SHOWN.keys() == set()


@pytest.mark.parametrize("line", LINES)
async def test_a_line_works(line: str, place: Place) -> None:
    await LINES[line](place, line)


@pytest.mark.parametrize("line", ELSEWHERE)
def test_a_line_that_is_not_run_is_tested_elsewhere(line: str) -> None:
    path, name = ELSEWHERE[line]

    assert name in (ROOT / path).read_text("utf-8")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_what_the_guide_asks_over_http_is_answered(place: Place) -> None:
    script = "\n".join(OVER_HTTP).replace("8190", str(place.port))
    log = place.folder / "status.log"
    told = f'curl() {{ command curl -sS -w "%{{stderr}}%{{http_code}}\\n" "$@" 2>> {log}; }}\n'
    bot = comfycord(place.folder, place.environment, log=place.folder / "bot.log")
    await place.discord.ready(timeout=60)
    await place.discord.until(lambda: place.discord.connected)

    async with place.shell(told + script) as process:
        out, _ = await asyncio.wait_for(process.communicate(), 60)

    bot.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(bot.wait(), 60) == 0
    assert '"status": "completed"' in out.decode()
    assert "event: status\ndata: " in out.decode()
    assert (place.folder / "picture.png").read_bytes().startswith(b"\x89PNG")
    statuses = log.read_text().split()
    # It is too late to cancel, and a bot that has just begun may not be ready.
    assert {"200", "409"} <= set(statuses) <= {"200", "409", "503"}, out.decode()
    assert statuses.count("200") >= len(statuses) - 2, out.decode()
    assert len(statuses) == sum(line.count("$U/") for line in OVER_HTTP)
