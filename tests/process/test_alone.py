"""A second bot on the same database or with the same token is told so and ends."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE

import pytest

from tests.process.test_process import ROOT, TOKEN, Lab, end, lab

__all__ = ["lab"]


async def second(lab: Lab, **environment: str) -> tuple[int, str]:
    """Exit code and what is said by another bot that is started now."""
    given = {
        "DISCORD_TOKEN": TOKEN,
        "COMFYUI_BASE_URL": lab.comfyui.url,
        "COMFYCORD_DISCORD_API": lab.discord.url,
        "PYTHONPATH": str(ROOT),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", cwd=lab.folder, env=os.environ | given | environment,
        stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 20)
    return process.returncode or 0, (out + err).decode()


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"DISCORD_TOKEN": "another.token.of-another"}, "the database"),
        ({"DATABASE_URL": "sqlite:///other/jobs.db"}, "this token"),
    ],
    ids=["database", "token"],
)
async def test_a_second_process_is_told_and_ends(
    lab: Lab, other: dict[str, str], what: str
) -> None:
    first = await lab.start()

    code, said = await second(lab, **other)

    assert code == 1
    assert f"Another Comfycord runs with {what}" in said
    assert "Traceback" not in said
    assert first.returncode is None
    await end(first, signal.SIGTERM)


async def test_after_a_kill_the_next_process_runs(lab: Lab) -> None:
    first = await lab.start()
    await end(first, signal.SIGKILL)

    again = await lab.start()

    assert again.returncode is None
    await end(again, signal.SIGTERM)
