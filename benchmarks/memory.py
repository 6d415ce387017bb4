"""Memory of a process while it delivers 20 pictures of 8 MiB, finished in one moment.

    uv run python -m benchmarks.memory

Compared with a poller as most bots are (poller.py), which holds every picture whole. Linux only.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.lab import Lab, lab, used
from benchmarks.peers import noise, peer
from benchmarks.report import Goal, Report, main
from tests.fakes.comfyui import FakeComfyUI

AT_ONCE = 20  # on as many servers
SIDES = (100, 1672)  # pixels; the second makes 8 MiB
STEPS = 1


class Memory(NamedTuple):
    """MiB of the whole process, before the jobs and at most while their pictures are on the way."""

    before: float
    peak: float

    @property
    def each(self) -> float:
        return (self.peak - self.before) / AT_ONCE


async def memory_of(lab: Lab, pid: int, ask: Callable[[], Awaitable[None]]) -> Memory:
    """The first round, of small pictures, warms the process."""
    for side in SIDES:
        picture = noise(side)
        for each in lab.comfyui:
            each.picture = picture
            each.hold()
        lab.discord.requests.clear()
        before = used(pid).rss_mib
        await ask()
        forget_peak(pid)
        for each in lab.comfyui:
            each.finish()
        await lab.discord.until(lambda: posted(lab) == AT_ONCE, timeout=60)
    return Memory(before, used(pid).peak_mib)


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # see proc(5)


def posted(lab: Lab) -> int:
    return sum(bool(each.files and each.done_at) for each in lab.discord.requests)


async def of_bot(lab: Lab) -> Memory:
    member = lab.discord.add_user("member")

    async def ask() -> None:
        options = {"workflow": "txt2img", "prompt": "a cat", "steps": STEPS}
        await asyncio.gather(*(lab.ask(member, **options) for _ in range(AT_ONCE)))
        await taken(lab)

    async with lab.running():
        assert lab.bot is not None
        return await memory_of(lab, lab.bot.pid, ask)


async def of_poller(lab: Lab) -> Memory:
    async with peer(lab, "poller") as poller:

        async def ask() -> None:
            for each in lab.comfyui:
                poller.run(each.url, STEPS)
            await taken(lab)

        return await memory_of(lab, poller.process.pid, ask)


async def taken(lab: Lab) -> None:
    """Until the servers have all jobs."""
    while sum(each.queue.remaining() for each in lab.comfyui) < AT_ONCE:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def measure() -> Report:
    servers = [FakeComfyUI() for _ in range(AT_ONCE)]
    async with lab(servers) as laboratory:
        bot, poller = await of_bot(laboratory), await of_poller(laboratory)
    found = {"the bot": bot, "poller, once a second": poller}
    return Report(
        title="Memory for pictures on their way",
        about=(
            f"{AT_ONCE} pictures of 8 MiB end in one moment, on {AT_ONCE} servers. Resident memory "
            "of the whole process, before the jobs and at its peak."
        ),
        columns=("", "before, MiB", "peak, MiB", "for each picture, MiB"),
        rows=[(who, *each, each.each) for who, each in found.items()],
        goals=[Goal("for each picture, part of the poller's", bot.each / poller.each, 0.15)],
    )


if __name__ == "__main__":
    main(measure)
