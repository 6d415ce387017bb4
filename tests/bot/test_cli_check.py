"""`comfycord check` where things are right, and how it tells. What is wrong: tests/process."""

import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import discord
import pytest
import yarl

from tests.bot.builders import write_workflow
from tests.bot.shell import Shell
from tests.bot.test_cli import configured
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.discord import FakeDiscord, Fault, Guild
from tests.graphs import TXT2IMG, a_graph

NEEDED = discord.Permissions(
    view_channel=True, send_messages=True, attach_files=True, read_message_history=True
)
MEMBER, ROLE = 1, 0


@pytest.fixture(autouse=True)
def no_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the tests run in one."""
    monkeypatch.setattr("bot.health._CONTAINER", ())
    monkeypatch.delenv("container", raising=False)


@pytest.fixture
async def fake() -> AsyncIterator[FakeDiscord]:
    async with FakeDiscord() as fake:
        fake.app_permissions = NEEDED
        yield fake


@pytest.fixture
def guild(fake: FakeDiscord) -> Guild:
    return add_guild(fake, "Comfy Lab", {"art": []})


def overwrite(who: object, kind: int, *, allow: str = "", deny: str = "") -> dict[str, str | int]:
    """As the settings of a channel have it."""
    given, taken = (
        discord.Permissions(**dict.fromkeys(names.split(), True)) for names in (allow, deny)
    )
    return {"id": str(who), "type": kind, "allow": str(given.value), "deny": str(taken.value)}


def add_guild(fake: FakeDiscord, name: str, channels: dict[str, list[Any]]) -> Guild:
    """With text channels and their overwrites, and a channel to talk and one of an unknown kind."""
    guild = fake.add_guild(name)
    told = [
        {
            **fake.channel_payload(fake.add_channel(guild, channel)),
            "permission_overwrites": overwrites,
        }
        for channel, overwrites in channels.items()
    ]
    voice = {**told[0], "id": fake.new_id(), "type": 2, "name": "talk", "bitrate": 64000}
    voice["user_limit"] = 0
    path = f"/guilds/{guild.id}/channels"
    fake.faults.append(Fault("GET", path, status=200, json=[*told, voice], times=9))
    return guild


def lines(out: str, *marks: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith(marks)]


@pytest.fixture
def ready(
    shell: Shell,
    fake: FakeDiscord,
    guild: Guild,
    comfyui: FakeComfyUI,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Shell:
    """In a folder where everything is right."""
    configured(monkeypatch, fake, comfyui.url, comfyui.url + "/api/", guilds=(guild.id,))
    write_workflow(tmp_path / "workflows", "txt2img", TXT2IMG)
    return shell


async def test_check_has_nothing_to_complain_about(ready: Shell, comfyui: FakeComfyUI) -> None:
    done = await ready.runs("check")

    told = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    assert {line[0] for line in told} == {"✓"}
    assert told[:5] == [
        "✓ config.yaml can be read",
        "✓ the database can be opened",
        "✓ Discord knows the token: I am Comfycord",
        "✓ In the server Comfy Lab I may have slash commands",
        "✓ In the server Comfy Lab I may post pictures in #art",
    ]
    assert told[5].startswith(f"✓ {comfyui.url} answers in ")
    assert sum(f"✓ {comfyui.url}/api answers in " in line for line in told) == 1
    assert told.count("✓ txt2img can run") == 2


async def test_check_tells_scripts_the_same(ready: Shell, tmp_path: Path) -> None:
    write_workflow(tmp_path / "workflows", "gone", a_graph(n4={"ckpt_name": "gone.pt"}))

    done = await ready.runs("check", "--json")
    shown = await ready.runs("check")

    told = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert {tuple(each) for each in told} == {("level", "text", "remedy")}
    assert told[0] == {"level": "ok", "text": "config.yaml can be read", "remedy": ""}
    assert {
        "level": "warning",
        "text": "gone: lacks the file gone.pt",
        "remedy": "Download it into ComfyUI's models folder.",
    } in told
    assert len(shown.out.splitlines()) == len(told)
    assert (
        "! gone: lacks the file gone.pt. Download it into ComfyUI's models folder."
        in shown.out.splitlines()
    )


async def test_check_shows_colours_on_a_terminal_only(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = (await shell.runs("check")).out
    monkeypatch.setattr("click.utils.should_strip_ansi", lambda *_: False)  # as on a terminal
    coloured = (await shell.runs("check")).out

    assert "\x1b" not in plain
    assert "\x1b[31m✗\x1b[0m No Discord token" in coloured


def test_check_of_nothing_names_everything_that_is_missing(shell: Shell) -> None:
    done = shell.run("check")

    assert done.code == 1
    assert [line.partition(". ")[0] for line in done.out.splitlines()] == [
        "! There is no config.yaml here",
        "✓ the database can be opened",
        "✗ The workflows folder workflows does not exist",
        "✗ No Discord token",
        "✗ No ComfyUI server is set",
    ]


async def test_one_thing_that_is_wrong_hides_no_other(
    shell: Shell, fake: FakeDiscord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeComfyUI() as gone, FakeComfyUI(version="0.28.0") as there:
        await gone.close()
        configured(monkeypatch, fake, gone.url, there.url, guilds=())
        monkeypatch.setenv("DISCORD_TOKEN", "something-else")
        (tmp_path / "data").write_text("")
        (tmp_path / ".env").write_bytes(b"\xff")

        done = await shell.runs("check")

    assert [line.partition(". ")[0] for line in lines(done.out, "✗", "!")] == [
        "✗ .env is not UTF-8 text",
        "✗ data cannot be written: File exists",
        "✗ The workflows folder workflows does not exist",
        "✗ Discord does not accept DISCORD_TOKEN",
        f"✗ {gone.url} does not answer: nothing listens there",
    ]
    assert "✓ ComfyUI 0.28.0" in done.out
    assert "something-else" not in done.out + done.err


async def test_check_of_a_wrong_config_is_one_finding(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("servres: []")

    done = shell.run("check")

    assert (done.code, done.err) == (1, "")
    assert done.out.startswith("✗ config.yaml: unknown key `servres`. Allowed here: discord, ")
    assert done.out.count("\n") == 1


@pytest.mark.parametrize(
    "path",
    ["/users/@me", "/users/@me/guilds", "/oauth2/applications/@me"],
    ids=["login", "guilds", "application"],
)
@pytest.mark.parametrize("status", [403, 404])
async def test_any_answer_of_discord_is_a_finding(
    shell: Shell, fake: FakeDiscord, monkeypatch: pytest.MonkeyPatch, path: str, status: int
) -> None:
    configured(monkeypatch, fake, guilds=())
    fake.faults.append(Fault("GET", path, status=status, json={"message": "no", "code": 0}))

    done = await shell.runs("check")

    expected = f"✗ Discord answered {status}. Try again later."
    if path.endswith("applications/@me"):
        expected = f"✗ Discord does not tell the application of DISCORD_TOKEN (HTTP {status}). "
    assert done.code == 1
    assert any(line.startswith(expected) for line in done.out.splitlines())


async def test_check_uses_the_token_of_a_server(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeComfyUI(token="the-bearer", version="0.28.0") as comfyui:
        monkeypatch.setenv("COMFYUI_BASE_URL", comfyui.url)
        (tmp_path / ".env").write_text("COMFYUI_TOKEN_LOCAL=the-bearer\n")
        allowed = await shell.runs("check")

    assert "✓ ComfyUI 0.28.0" in allowed.out


@pytest.mark.parametrize("taken", [True, False])
async def test_check_tries_the_port_of_the_http_face(
    shell: Shell, tmp_path: Path, taken: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (tmp_path / "config.yaml").write_text(f"http: {{port: {port}}}")
        if not taken:
            other.close()
        done = await shell.runs("check")

    told = (
        f"✗ http: I cannot listen at 127.0.0.1:{port} ("
        if taken
        else f"✓ http: I can listen at 127.0.0.1:{port}"
    )
    assert told in done.out


async def test_a_postgresql_that_does_not_answer_is_a_finding(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeComfyUI() as gone:
        port = yarl.URL(gone.url).port
    monkeypatch.setenv("DATABASE_URL", f"postgresql://me:secret@127.0.0.1:{port}/jobs")

    done = await shell.runs("check")

    (told,) = [line for line in lines(done.out, "✗") if "database" in line]
    assert told.startswith(f"✗ The database postgresql://me:***@127.0.0.1:{port}/jobs cannot be ")
    assert told.endswith(". Does it run, and is DATABASE_URL right?")


# Discord servers and their channels


async def test_what_the_bot_lacks_is_told_once_for_all_channels_that_lack_it(
    shell: Shell, fake: FakeDiscord, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = fake.me["id"]
    no_files = [overwrite(me, MEMBER, deny="attach_files")]
    muted = [overwrite(me, ROLE, deny="send_messages")]
    staff = [overwrite(me, ROLE, deny="view_channel")]
    own_again = [*muted, overwrite(me, MEMBER, allow="send_messages")]
    channels = {"art": [], "own": own_again, **dict.fromkeys(("a", "b", "c", "d", "e"), no_files)}
    guild = add_guild(fake, "St. Mary's", {**channels, "news": muted, "staff": staff, "log": staff})
    configured(monkeypatch, fake, guilds=(guild.id,))

    done = await shell.runs("check")
    for_scripts = json.loads((await shell.runs("check", "--json")).out)

    here, allow = "In the server St. Mary's I", "Allow me that in the channel's settings."
    assert [line for line in done.out.splitlines() if here in line] == [
        f"✓ {here} may have slash commands",
        f"✓ {here} may post pictures in #art, #own",
        f"! {here} lack Attach Files in #a, #b, #c and 2 more. {allow}",
        f"! {here} lack Send Messages, Attach Files in #news. {allow}",
        f"✓ {here} do not see #staff, #log. "
        "Where members are to use me, I need View Channel in the channel's settings.",
    ]
    assert {
        "level": "warning",
        "text": f"{here} lack Attach Files in #a, #b, #c and 2 more",
        "remedy": allow,
    } in for_scripts


@pytest.mark.parametrize(
    ("denied", "told"),
    [
        ("attach_files", "lack Attach Files in #art, #bots. Allow me that"),
        ("view_channel", "do not see #art, #bots. Where members are to use me, I need View"),
    ],
)
async def test_a_server_where_the_bot_can_work_nowhere_is_a_failure(
    shell: Shell, fake: FakeDiscord, monkeypatch: pytest.MonkeyPatch, denied: str, told: str
) -> None:
    nowhere = [overwrite(fake.me["id"], MEMBER, deny=denied)]
    guild = add_guild(fake, "Lab", {"art": nowhere, "bots": nowhere})
    configured(monkeypatch, fake, guilds=(guild.id,))

    done = await shell.runs("check")

    assert done.code == 1
    assert any(each.startswith(f"✗ In the server Lab I {told}") for each in done.out.splitlines())


async def test_an_administrator_may_everything_everywhere(
    shell: Shell, fake: FakeDiscord, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.app_permissions = discord.Permissions(administrator=True)
    guild = add_guild(fake, "Lab", {"art": [overwrite(fake.me["id"], ROLE, deny="view_channel")]})
    configured(monkeypatch, fake, guilds=(guild.id,))

    done = await shell.runs("check")

    assert "✓ In the server Lab I may post pictures in #art" in done.out.splitlines()


async def test_without_named_servers_the_first_ten_are_looked_into(
    shell: Shell, fake: FakeDiscord, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        add_guild(fake, f"Lab {number}", {"art": []})
    configured(monkeypatch, fake, guilds=())

    done = await shell.runs("check")

    assert done.out.count("I may post pictures in #art") == 10
    assert (
        "✓ Discord servers that I am in and did not look into: 2. "
        "Those in `discord.guilds` are all looked into." in done.out.splitlines()
    )


async def test_a_server_that_cannot_be_looked_into_hides_no_other(
    shell: Shell, fake: FakeDiscord, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = (add_guild(fake, name, {"art": []}) for name in ("Bad", "Good"))
    configured(monkeypatch, fake, guilds=(bad.id, good.id))
    fake.faults.append(Fault("GET", f"/guilds/{bad.id}", status=403))

    done = await shell.runs("check")

    assert (
        "! I cannot look into the server Bad (403 Forbidden (error code: 0): 403: Forbidden). "
        "Try again later." in done.out.splitlines()
    )
    assert "✓ In the server Good I may post pictures in #art" in done.out.splitlines()
