"""A second bot on the same database or with the same token is told so and ends."""

import asyncio
import signal

import pytest

from tests.process.forked import comfycord
from tests.process.test_process import TOKEN, Lab, end, lab

__all__ = ["lab"]


async def second(lab: Lab, **environment: str) -> tuple[int, str]:
    """Exit code and what is said by another bot that is started now."""
    given = {
        "DISCORD_TOKEN": TOKEN,
        "COMFYUI_BASE_URL": lab.comfyui.url,
        "COMFYCORD_DISCORD_API": lab.discord.url,
    }
    log = lab.folder / "second.log"
    process = comfycord(lab.folder, given | environment, log=log)
    code = await asyncio.wait_for(process.wait(), 20)
    return code, log.read_text()


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
