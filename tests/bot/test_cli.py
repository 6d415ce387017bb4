"""The command line, the way a person sees it: what is printed, and the exit code."""

import asyncio
import importlib.metadata
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click
import pytest
import yarl

import bot.__main__
from bot.errors import StoreError
from tests.bot.builders import write_workflow
from tests.bot.shell import VARIABLES, Outcome, Shell
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.discord import FakeDiscord, Guild
from tests.graphs import PLAIN, TXT2IMG, a_graph

ROOT = Path(__file__).parents[2]
COMMANDS = ("check", "convert", "demo", "init", "inspect", "invite", "run", "workflows")


@pytest.fixture
async def discord() -> AsyncIterator[FakeDiscord]:
    async with FakeDiscord() as fake:
        yield fake


@pytest.fixture
def guild(discord: FakeDiscord) -> Guild:
    return discord.add_guild("Comfy Lab")


def configured(
    monkeypatch: pytest.MonkeyPatch, discord: FakeDiscord, *servers: str, guilds: tuple[int, ...]
) -> None:
    """config.yaml and the environment for these servers, in the current folder."""
    listed = [{"name": f"gpu-{number}", "url": url} for number, url in enumerate(servers, 1)]
    settings = {"servers": listed, "discord": {"guilds": list(guilds)}}
    with Path("config.yaml").open("x") as file:  # never over one that is there
        json.dump(settings, file)
    monkeypatch.setenv("DISCORD_TOKEN", discord.token)
    monkeypatch.setenv("COMFYCORD_DISCORD_API", discord.url)


async def in_a_process(folder: Path, command: str, **variables: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a bot that has a process of its own."""
    environment = {
        **{key: value for key, value in os.environ.items() if key not in VARIABLES},
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "utf-8",
        **variables,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", command),
        cwd=folder,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode or 0, out.decode(), err.decode()


# Flags and help


def test_the_version_is_that_of_the_package(shell: Shell) -> None:
    done = shell.run("--version")

    assert done == Outcome(0, f"comfycord, version {importlib.metadata.version('comfycord')}\n", "")


def test_help_lists_the_commands(shell: Shell) -> None:
    done = shell.run("--help")

    listed = done.out.partition("Commands:\n")[2]
    assert tuple(line.split()[0] for line in listed.splitlines()) == COMMANDS
    assert done.code == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(shell: Shell, command: str) -> None:
    done = shell.run(command, "--help")

    assert done.code == 0
    assert done.out.startswith(f"Usage: comfycord {command}")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--no-such-flag",), "--no-such-flag"),
        (("dance",), "No such command 'dance'."),
        (("demo", "--port", "many"), "'many' is not a valid integer range."),
        (("demo", "--port", "0"), "0 is not in the range 1<=x<=65535."),
        (("demo", "--port", "65536"), "65536 is not in the range 1<=x<=65535."),
    ],
    ids=["flag", "command", "value", "too small", "too large"],
)
def test_a_wrong_word_on_the_line_is_code_2(
    shell: Shell, arguments: tuple[str, ...], complaint: str
) -> None:
    done = shell.run(*arguments)

    assert done.code == 2
    assert complaint in done.err


# workflows


def test_workflows_lists_what_was_found_in_each(shell: Shell, tmp_path: Path) -> None:
    write_workflow(tmp_path / "workflows", "txt2img", a_graph(n6={"text": "a\ncat " * 30}))
    write_workflow(tmp_path / "workflows", "plain", PLAIN)
    words = {n: {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat"}} for n in "12"}
    write_workflow(tmp_path / "workflows", "texts", words)

    done = shell.run("workflows")

    lines = done.out.splitlines()
    assert done.code == 0
    assert lines[:2] == ["plain (2 nodes)", "texts (2 nodes)"]
    assert lines[2].startswith("  ! It is not clear which text is the prompt")
    assert lines[3] == "txt2img (7 nodes)"
    assert lines[4] == f"  text       6.text                   STRING   {('a cat ' * 10)[:60]}"
    assert "  steps      3.steps                  INT      20" in lines


def test_workflows_tells_what_is_wrong_with_a_file(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "workflows"
    write_workflow(folder, "good", PLAIN)
    write_workflow(folder, "sidecar", PLAIN, "titel: Oops")
    (folder / "editor.json").write_text('{"nodes": [], "links": []}')
    (folder / "broken.json").write_text("{")
    (folder / "_hidden.json").write_text("{}")

    done = shell.run("workflows")

    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines() if not line.startswith(" ")] == [
        "good", "_hidden.json", "broken.json", "editor.json", "sidecar.json",
    ]  # fmt: skip
    assert "editor.json is in the editor's format" in done.out
    assert "sidecar.json has a sidecar with an unknown key `titel`." in done.out


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (True, "workflows holds no workflow. Put an API-format export (*.json) into it."),
        (False, "workflows does not exist. Make it, or change the key."),
    ],
    ids=["empty", "missing"],
)
def test_a_folder_without_workflows_says_what_to_do(
    shell: Shell, tmp_path: Path, made: bool, told: str
) -> None:
    if made:
        (tmp_path / "workflows").mkdir()

    done = shell.run("workflows")

    assert done == Outcome(1, "", f"The workflows folder {told}\n")


async def test_what_is_printed_is_not_logged_as_well(tmp_path: Path) -> None:
    (tmp_path / "workflows").mkdir()
    (tmp_path / "workflows" / "broken.json").write_text("{")

    code, out, err = await in_a_process(tmp_path, "workflows")

    assert (code, err) == (0, "")
    assert out.startswith("broken.json ends too early")


async def test_workflows_asks_the_first_server_that_answers(
    shell: Shell, comfyui: FakeComfyUI, tmp_path: Path
) -> None:
    async with FakeComfyUI() as gone:
        closed = gone.url
    servers = [{"name": "a", "url": closed}, {"name": "b", "url": comfyui.url}]
    (tmp_path / "config.yaml").write_text(json.dumps({"servers": servers}))
    write_workflow(tmp_path / "workflows", "txt2img", TXT2IMG)

    done = await shell.runs("workflows")

    assert "  sampler    3.sampler_name           COMBO    euler" in done.out.splitlines()
    assert ("GET", "/object_info") in comfyui.requests


# invite


async def test_invite_prints_a_link_with_exactly_what_is_needed(
    shell: Shell, discord: FakeDiscord, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured(monkeypatch, discord, guilds=())

    done = await shell.runs("invite")

    link = yarl.URL(done.out.strip())
    view, send, attach, history, threads = 1 << 10, 1 << 11, 1 << 15, 1 << 16, 1 << 38
    assert (done.code, done.err) == (0, "")
    assert str(link.with_query(None)) == "https://discord.com/oauth2/authorize"
    assert dict(link.query) == {
        "client_id": discord.me["id"],
        "scope": "bot applications.commands",
        "permissions": str(view | send | attach | history | threads),
    }


def test_invite_needs_a_token(shell: Shell) -> None:
    done = shell.run("invite")

    assert done.code == 1
    assert done.err.startswith("No Discord token. Put DISCORD_TOKEN=… into a file named .env (")


# run


@pytest.mark.usefixtures("logging_put_back")
@pytest.mark.parametrize("arguments", [(), ("run",), ("run", "--debug")], ids=" ".join)
def test_without_a_token_the_bot_does_not_run(shell: Shell, arguments: tuple[str, ...]) -> None:
    done = shell.run(*arguments)

    assert done == Outcome(
        1,
        "",
        "No Discord token. Put DISCORD_TOKEN=… into a file named .env "
        "(https://discord.com/developers/applications, your application, Bot, Reset Token).\n",
    )


async def test_with_a_wrong_token_the_bot_does_not_run(
    discord: FakeDiscord, tmp_path: Path
) -> None:
    variables = {"DISCORD_TOKEN": "something-else", "COMFYCORD_DISCORD_API": discord.url}

    code, out, err = await in_a_process(tmp_path, "run", **variables)

    assert (code, out) == (1, "")
    *logged, last = err.splitlines()
    assert last.startswith("Discord does not accept DISCORD_TOKEN. Copy it again (https://")
    assert "Traceback" not in err
    assert "something-else" not in err
    assert not any("ERROR" in line for line in logged)


@pytest.mark.parametrize("command", ["run", "workflows", "invite"])
def test_a_wrong_config_is_one_sentence(shell: Shell, tmp_path: Path, command: str) -> None:
    text = 'servers:\n  - {name: local, url: "http://h", ulr: "http://h"}\n'
    (tmp_path / "config.yaml").write_text(text)

    done = shell.run(command)

    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "config.yaml: unknown key `servers[0].ulr`. Allowed here: name, url, ca_file.\n"
    )


def test_an_env_file_in_another_encoding_is_one_sentence(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes("DISCORD_TOKEN=abc".encode("utf-16"))

    done = shell.run("invite")

    assert done == Outcome(1, "", ".env is not UTF-8 text. Save it again as UTF-8.\n")


def test_an_env_file_that_docker_made_a_folder_is_one_sentence(
    shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / ".env").mkdir()

    done = shell.run("invite")

    assert done.code == 1
    assert done.err.startswith(".env cannot be read: ")
    assert done.err.count("\n") == 1


async def test_an_env_file_with_windows_mark_at_its_beginning_is_read(
    shell: Shell, discord: FakeDiscord, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configured(monkeypatch, discord, guilds=())
    monkeypatch.delenv("DISCORD_TOKEN")
    (tmp_path / ".env").write_text(f"DISCORD_TOKEN={discord.token}", "utf-8-sig")

    done = await shell.runs("invite")

    assert done.out.startswith("https://discord.com/oauth2/authorize?")


@pytest.mark.usefixtures("logging_put_back")
@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (StoreError("The disk is full."), 1, "The disk is full."),
        (KeyboardInterrupt(), 130, ""),
        (click.Abort(), 130, ""),
    ],
    ids=["ours", "Ctrl-C", "abort"],
)
def test_whatever_ends_the_bot_ends_without_a_traceback(
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    text: str,
) -> None:
    async def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(bot.__main__.app, "run", fail)

    done = shell.run("run")

    assert (done.code, done.out, done.err.strip()) == (code, "", text)


async def test_a_cancelled_bot_ended_as_it_should() -> None:
    async def stopped() -> None:
        raise asyncio.CancelledError

    await bot.__main__._until_stopped(stopped())


# demo


@pytest.mark.usefixtures("logging_put_back")
def test_the_demo_gets_what_the_line_says(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    async def run_demo(
        server: str | None, port: int | None, language: str, *, open_browser: bool
    ) -> None:
        calls.append((server, port, language, open_browser))

    monkeypatch.setattr("bot.demo.run_demo", run_demo)

    codes = [
        shell.run("demo").code,
        shell.run("demo", "--server", "http://h", "--port", "80", "--no-browser").code,
        shell.run("demo", "--language", "zh-cn").code,
    ]

    assert codes == [0, 0, 0]
    assert calls == [
        (None, None, "en-US", True),
        ("http://h", 80, "en-US", False),
        (None, None, "zh-CN", True),
    ]


def test_the_demo_speaks_no_language_that_discord_does_not_know(shell: Shell) -> None:
    done = shell.run("demo", "--language", "tlh")

    assert done.code == 2
    assert "'tlh' is not one of" in done.err


def test_a_demo_that_is_not_installed_says_how_to(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "bot.demo", raising=False)
    monkeypatch.setitem(sys.modules, "simcord", None)

    done = shell.run("demo")

    assert done.code == 1
    assert done.err.endswith('Install it with: pip install "comfycord[demo]"\n')
