"""`comfycord init`: what it writes, what it leaves alone, and what it says is next."""

import os
import select
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot import config
from tests.bot.shell import Outcome, Shell

ROOT = Path(__file__).parents[2]
TOKEN = "a.token-of_the.bot"
SHIPPED = (ROOT / "config.yaml").read_text("utf-8")
LOCAL = "http://127.0.0.1:8188"
WROTE = ["Wrote config.yaml.", "Wrote workflows."]


def next_steps(out: str) -> list[str]:
    steps = out.partition("Next:\n")[2].splitlines()
    assert [step.split(".")[0].strip() for step in steps] == list("12345")[: len(steps)]
    return [step.partition(". ")[2] for step in steps]


ADDRESS = "Set the address of your ComfyUI in config.yaml."
PUT_TOKEN = "Put DISCORD_TOKEN=... into a file named .env"
ALWAYS = ["comfycord invite, and open the link", "comfycord check", "comfycord"]


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Also where pytest has one."""
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        yield


def test_init_writes_all_that_the_bot_needs(shell: Shell, tmp_path: Path) -> None:
    done = shell.run("init", "--token", TOKEN, "--server", "http://gpu:8188/comfy/")

    settings, _ = config.load(environment={})
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[:4] == [*WROTE, "Wrote .env.", "Next:"]
    assert next_steps(done.out) == ALWAYS
    assert (tmp_path / "config.yaml").read_text("utf-8") == SHIPPED.replace(
        LOCAL, "http://gpu:8188/comfy/"
    )
    assert [each.url for each in settings.servers] == ["http://gpu:8188/comfy/"]
    assert (tmp_path / ".env").read_text() == f"DISCORD_TOKEN={TOKEN}\n"
    shipped = {path.name for path in (ROOT / "workflows").iterdir()}
    assert {path.name for path in (tmp_path / "workflows").iterdir()} == shipped
    assert TOKEN not in done.out


def test_init_without_a_terminal_takes_what_there_is(shell: Shell, tmp_path: Path) -> None:
    done = shell.run("init")

    assert done.code == 0
    assert done.out.splitlines()[:2] == WROTE
    assert next_steps(done.out) == [ADDRESS, PUT_TOKEN, *ALWAYS]
    assert (tmp_path / "config.yaml").read_text("utf-8") == SHIPPED
    assert not (tmp_path / ".env").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs file modes")
def test_the_token_is_nobody_elses_from_its_first_byte(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    chmod = Path.chmod

    def before(path: Path, mode: int) -> None:
        modes.append((stat.S_IMODE(path.stat().st_mode), path.stat().st_size))
        chmod(path, mode)

    monkeypatch.setattr(Path, "chmod", before)
    usual = os.umask(0)
    try:
        shell.run("init", "--token", TOKEN)
    finally:
        os.umask(usual)

    assert modes == [(0o600, 0)]
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_init_overwrites_nothing(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("retention_days: 7")
    (tmp_path / "workflows").mkdir()
    (tmp_path / ".env").write_text("DISCORD_TOKEN=mine")

    done = shell.run("init", "--token", TOKEN, "--server", LOCAL)

    assert done.code == 0
    assert done.out.splitlines()[:3] == [
        "config.yaml is here already and stays as it is.",
        "workflows is here already and stays as it is.",
        ".env has a token already and keeps it.",
    ]
    assert next_steps(done.out) == [ADDRESS, *ALWAYS]
    assert (tmp_path / "config.yaml").read_text() == "retention_days: 7"
    assert (tmp_path / ".env").read_text() == "DISCORD_TOKEN=mine"
    assert list((tmp_path / "workflows").iterdir()) == []


def test_init_a_second_time_has_nothing_to_do(shell: Shell, tmp_path: Path) -> None:
    shell.run("init", "--token", TOKEN, "--server", LOCAL)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    done = shell.run("init")

    assert next_steps(done.out) == ALWAYS
    assert "Wrote" not in done.out
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("before", ["COMFYUI_TOKEN_LOCAL=abc", "COMFYUI_TOKEN_LOCAL=abc\n"])
def test_a_token_goes_behind_what_the_file_of_secrets_holds(
    shell: Shell, tmp_path: Path, before: str
) -> None:
    (tmp_path / ".env").write_text(before)
    (tmp_path / ".env").chmod(0o644)

    shell.run("init", "--token", TOKEN)

    assert (tmp_path / ".env").read_text() == (f"COMFYUI_TOKEN_LOCAL=abc\nDISCORD_TOKEN={TOKEN}\n")
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_a_token_of_the_environment_is_enough(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISCORD_TOKEN", TOKEN)

    done = shell.run("init")

    assert next_steps(done.out) == [ADDRESS, *ALWAYS]
    assert not (tmp_path / ".env").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("--server", "gpu:8188"),
            "--server: `servers[0].url`: 'gpu:8188' needs http:// or https:// in front, and a "
            "host.\n",
        ),
        (
            ("--server", "http://me:secret@gpu"),
            "--server holds a login. Leave it out, and write COMFYUI_LOGIN_LOCAL=user:password "
            "into .env.\n",
        ),
        (
            ("--token", "two\nDATABASE_URL=x"),
            "A token has letters, digits, dots, - and _ only. Copy it again.\n",
        ),
    ],
    ids=["no address", "a login", "no token"],
)
def test_what_is_wrong_is_refused_before_anything_is_written(
    shell: Shell, tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    done = shell.run("init", *arguments)

    assert done == Outcome(1, "", told)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "address", ["https://gpu.example/a b", "http://[::1]:8188", "http://h/#: 'x' \"y\""]
)
def test_any_address_reaches_the_settings_whole(shell: Shell, address: str) -> None:
    shell.run("init", "--server", address)

    settings, _ = config.load(environment={})
    assert [each.url for each in settings.servers] == [address]


def test_a_folder_that_cannot_be_written_is_one_sentence(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").symlink_to(tmp_path / "gone" / "config.yaml")

    done = shell.run("init")

    assert done.code == 1
    assert done.err.startswith("This folder cannot be written: ")
    assert done.err.count("\n") == 1


def test_a_terminal_is_asked_and_does_not_show_the_token(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    without = {key: value for key, value in os.environ.items() if key != "DISCORD_TOKEN"}
    process = subprocess.Popen(
        (sys.executable, "-m", "bot", "init"),
        cwd=tmp_path,
        env={**without, "PYTHONPATH": str(ROOT)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)

    shown = _until(ours, "nothing): ")
    os.write(ours, f"{TOKEN}\n".encode())
    shown += _until(ours, f"[{LOCAL}]: ")
    os.write(ours, b"\n")
    shown += _until(ours, "3. comfycord\r\n")

    assert process.wait(20) == 0
    os.close(ours)
    assert TOKEN not in shown
    assert next_steps(shown.replace("\r", "")) == ALWAYS
    assert (tmp_path / "config.yaml").read_text("utf-8") == SHIPPED
    assert (tmp_path / ".env").read_text() == f"DISCORD_TOKEN={TOKEN}\n"


def _until(terminal: int, words: str) -> str:
    shown = ""
    while not shown.endswith(words):
        assert select.select([terminal], [], [], 20)[0], shown
        shown += os.read(terminal, 4096).decode()
    return shown
