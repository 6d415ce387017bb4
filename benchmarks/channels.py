"""Results under Discord's rate limits: how many pass, and how long one waits behind progress.

    uv run python -m benchmarks.channels

The bot learns of the limits from Discord's answers alone: five edits in five seconds of a channel,
fifty requests a second in all. The reference is what these let through at best.
"""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from typing import Any

from benchmarks.answers import picture
from benchmarks.lab import Lab, lab
from benchmarks.report import Goal, Report, main
from benchmarks.waiting import fill, placeholders, rows_of
from comfy.standin import Pace
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.discord import Request
from tests.fakes.discord_limits import Limits

CHANNELS = 50
IN_ONE, IN_ALL = 19.9, 7.9  # seconds, at the end of which some limit is used up
PROGRESSING = 20
AMONG_PROGRESS = 22.0  # seconds
STEPS = 60
SHARE_GOAL, DELAY_GOAL = 0.9, 5.0


class EndingComfyUI(FakeComfyUI):
    """*ended*: when it told the end of each prompt, as loop time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(pace=Pace(node=0.0, step=seconds / STEPS, previews=False))
        self.picture = picture(2**16)
        self.ended: dict[str, float] = {}

    async def deliver(self, socket: Any, frame: Any) -> None:
        if getattr(frame, "type", "") == "executing" and frame.data.get("node", "") is None:
            self.ended[frame.data["prompt_id"]] = asyncio.get_running_loop().time()
        await super().deliver(socket, frame)


@asynccontextmanager
async def prepared(
    comfyui: Sequence[EndingComfyUI], channels: int, jobs: int, **columns: Any
) -> AsyncIterator[Lab]:
    """*columns*: see `rows_of`."""
    async with lab(comfyui) as laboratory:
        discord, guild = laboratory.discord, laboratory.channel.guild
        assert guild
        places = [discord.add_channel(guild, f"art{n}") for n in range(channels)]
        messages = placeholders(discord, places, jobs)
        await fill(laboratory.folder, await rows_of(places, jobs, messages, **columns))
        discord.limits = Limits()
        yield laboratory


async def throughput(laboratory: Lab, seconds: float) -> int:
    """Results since the first edit."""
    clock, requests = asyncio.get_running_loop().time, laboratory.discord.requests
    async with laboratory.running():
        await laboratory.discord.until(lambda: edits(requests), timeout=30)
        until = edits(requests)[0].at + seconds
        await asyncio.sleep(until - clock())
        return sum(bool(each.files) and each.at <= until for each in edits(requests))


async def delays(laboratory: Lab, quick: EndingComfyUI) -> list[float]:
    """Seconds from the end of each job of *quick* to its picture, while the others run."""
    clock, requests = asyncio.get_running_loop().time, laboratory.discord.requests
    async with laboratory.running():
        await laboratory.discord.until(
            lambda: all(each.executed for each in laboratory.comfyui), timeout=30
        )
        began = clock()
        await asyncio.sleep(AMONG_PROGRESS)
        ended = {prompt: at for prompt, at in quick.ended.items() if at > began}
        prompts = prompts_by_message(laboratory)
        posted = (each for each in edits(requests) if each.files)
        arrived = {prompts[each.path.rpartition("/")[2]]: each.at for each in posted}
        now = clock()
        return [arrived.get(prompt, now) - at for prompt, at in ended.items()]


def edits(requests: list[Request]) -> list[Request]:
    """Those of messages, as Discord took them."""
    return [each for each in requests if each.method == "PATCH" and each.status == 200]


def prompts_by_message(laboratory: Lab) -> dict[str, str]:
    database = laboratory.folder / "data" / "comfycord.db"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return dict(connection.execute("SELECT CAST(message_id AS TEXT), prompt_id FROM jobs"))


def allowed(channels: int, seconds: float) -> int:
    """Results at most: the first ones pass at once."""
    return min(50 * (int(seconds) + 1), 5 * channels * (int(seconds / 5) + 1))


async def measure() -> Report:
    quick, server = EndingComfyUI(2.5), EndingComfyUI(0)
    others = [EndingComfyUI(2 * AMONG_PROGRESS) for _ in range(PROGRESSING)]
    in_one, in_all = allowed(1, IN_ONE), allowed(CHANNELS, IN_ALL)
    async with (
        prepared([EndingComfyUI(0)], 1, 2 * in_one, steps=1) as alone,
        prepared([quick, *others], 1, 4 * PROGRESSING, steps=STEPS) as among,
    ):
        one, waited = await asyncio.gather(throughput(alone, IN_ONE), delays(among, quick))
    done = server.files.save("done", "output", picture(2**16))
    outputs = json.dumps([{"node_id": "7", **done.json()}])
    ended = {"state": "executed", "server": "s0", "outputs": outputs}
    async with prepared([server], CHANNELS, 2 * in_all, **ended) as everywhere:
        many = await throughput(everywhere, IN_ALL)
    asked = [each for lab in (alone, among, everywhere) for each in lab.discord.requests]
    refused = sum(each.status == 429 for each in asked)
    return Report(
        "Results under Discord's rate limits",
        f"One channel gets the results of jobs that take no time; {CHANNELS} get what waits for "
        "them, as after an outage. And one server ends a job every 2.5 s, in a channel that shows "
        f"the progress of {PROGRESSING} other jobs.",
        ("channels", "seconds", "results", "the limits allow", "share"),
        [
            ("1", IN_ONE, one, in_one, one / in_one),
            (f"{CHANNELS}", IN_ALL, many, in_all, many / in_all),
        ],
        [
            Goal("share in one channel", one / in_one, SHARE_GOAL, at_least=True),
            Goal(f"share in {CHANNELS} channels", many / in_all, SHARE_GOAL, at_least=True),
            Goal("requests refused (429), of 1,000", 1000 * refused / len(asked), 0),
            Goal("longest wait of a picture among progress, s", max(waited), DELAY_GOAL),
        ],
    )


if __name__ == "__main__":
    main(measure)
