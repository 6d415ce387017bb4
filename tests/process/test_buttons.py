"""Buttons and modals outlive the bot that showed them: killed without warning, a year old."""

import asyncio
import signal
import sqlite3
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.fakes.discord import Interaction
from tests.process.test_process import Lab, end, lab_in


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with lab_in(tmp_path) as each:
        yield each


async def posted(lab: Lab, interaction: Interaction) -> Interaction:
    await interaction.answered()
    await lab.discord.until(lambda: lab.files(interaction.message), timeout=60)
    return interaction


def rows(lab: Lab, query: str, *values: float) -> list[tuple]:
    (database,) = lab.folder.rglob("*.db")
    with sqlite3.connect(database, timeout=20) as connection:
        return connection.execute(query, values).fetchall()


def button(lab: Lab, action: str) -> str:
    """Of the oldest job."""
    ((job_id,),) = rows(lab, "select id from jobs order by number limit 1")
    return f"job:{job_id}:{action}"


async def posted_and_killed(lab: Lab) -> Interaction:
    """A result that a bot posted which was killed then."""
    bot = await lab.start()
    result = await posted(lab, await lab.generate())
    async with asyncio.timeout(60):
        while not rows(lab, "select 1 from jobs where told"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await end(bot, signal.SIGKILL)
    return result


async def test_buttons_work_after_a_kill(lab: Lab) -> None:
    result = await posted_and_killed(lab)
    bot = await lab.start()

    again = lab.discord.click(lab.alice, result.message, button(lab, "again"))
    await posted(lab, again)
    details = await lab.discord.click(lab.alice, result.message, button(lab, "details")).answered()

    assert details.ephemeral
    assert len(lab.results()) == 2
    assert await end(bot, signal.SIGTERM) == 0


async def test_an_open_modal_works_after_a_kill(lab: Lab) -> None:
    bot = await lab.start()
    result = await posted(lab, await lab.generate())
    edit = await lab.discord.click(lab.alice, result.message, button(lab, "edit")).answered()
    await end(bot, signal.SIGKILL)
    bot = await lab.start()

    sent = lab.discord.submit_modal(edit, {"text": "a dog", "width": "512"})
    await posted(lab, sent)

    assert rows(lab, "select text from jobs order by number desc limit 1") == [("a dog",)]
    assert await end(bot, signal.SIGTERM) == 0


async def test_pages_and_an_open_choice_work_after_a_kill(lab: Lab) -> None:
    bot = await lab.start()
    asked = {"workflow": "txt2img", "prompt": "a cat", "steps": 3}
    result = await posted(lab, lab.discord.slash(lab.alice, lab.channel, "generate", **asked))
    edit = await lab.discord.click(lab.alice, result.message, button(lab, "edit")).answered()
    noted = await lab.discord.submit_modal(edit, {"text": "a fox"}).answered()
    choice = await lab.discord.click(lab.alice, result.message, button(lab, "send")).answered()
    await end(bot, signal.SIGKILL)
    bot = await lab.start()

    run = lab.discord.click(lab.alice, noted.message, button(lab, "run"))
    await posted(lab, run)
    _, job_id, _ = button(lab, "send").split(":")
    sent = lab.discord.select(lab.alice, choice.message, f"use:0:{job_id}", ["upscale"])
    await posted(lab, sent)

    assert rows(lab, "select workflow, text from jobs order by number")[1:] == [
        ("txt2img", "a fox"),
        ("upscale", ""),
    ]
    assert await end(bot, signal.SIGTERM) == 0


async def test_the_buttons_of_a_card_that_is_a_year_old_work(lab: Lab) -> None:
    result = await posted_and_killed(lab)
    long_ago = (datetime.now(UTC) - timedelta(days=366)).timestamp()
    moments = "created_at = ?, submitted_at = ?, finished_at = ?"
    rows(lab, f"update jobs set {moments} returning id", *[long_ago] * 3)  # noqa: S608
    lab.discord.expire_tokens()
    bot = await lab.start()

    again = lab.discord.click(lab.alice, result.message, button(lab, "again"))
    await posted(lab, again)
    vary = await lab.discord.click(lab.alice, result.message, button(lab, "vary")).answered()
    varied = lab.discord.click(lab.alice, vary.message, button(lab, "vary:weak"))
    await posted(lab, varied)
    lab.discord.click(lab.alice, result.message, button(lab, "delete"))

    await lab.discord.until(lambda: len(lab.results()) == 2, timeout=60)
    assert await end(bot, signal.SIGTERM) == 0
