"""What more servers bring: jobs per second of the whole bot, and how close to the best schedule.

    uv run python -m benchmarks.throughput

The bot runs as a process of its own against stand-ins that take 0.4 s for a job, or 0.8 s at half
speed, and a wire-level Discord, all on loopback. All is asked for while the servers are held; the
clock runs from their release to the last end on a server. The reference is one server in the same
run. How close the end of all work is to the best one is seen on simulated servers, with 60 jobs of
mixed sizes: no schedule can be quicker than all work divided by the speed of all servers.
"""

import asyncio
import random
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from benchmarks.lab import lab
from benchmarks.report import Goal, Report, main
from benchmarks.simulated import Asked, simulated
from comfy.standin import Pace
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.discord import Interaction, User

STEPS = 4
STEP = 0.1  # seconds, at speed 1
EACH = 16  # jobs per speed of 1
LIMITS = {(1.0, 1.0): 1.9, (1.0, 1.0, 1.0, 1.0): 3.6, (1.0, 0.5): 1.4}
FARMS = ((1.0,), *LIMITS)
SIMULATED = (*LIMITS, (1.0, 0.6, 0.35))
BATCH = 60
SEEDS = 2


class TimedComfyUI(FakeComfyUI):
    """Knows when its last prompt ended."""

    def __init__(self, speed: float) -> None:
        super().__init__(pace=Pace(node=0.0, step=STEP / speed, previews=False))
        self.picture = b"\x89PNG\r\n\x1a\n" + bytes(1000)
        self.ended = 0.0

    async def deliver(self, socket: Any, frame: Any) -> None:
        if getattr(frame, "type", "") == "executing" and frame.data.get("node", "") is None:
            self.ended = asyncio.get_running_loop().time()
        await super().deliver(socket, frame)


async def jobs_per_second(speeds: Sequence[float]) -> float:
    """After some runs, from which it knows its servers."""
    jobs = round(EACH * sum(speeds))
    servers = [TimedComfyUI(each) for each in speeds]
    async with lab(servers) as here, here.running():
        users = [here.discord.add_user(f"member{n}") for n in range(4)]

        async def asks(user: User, numbers: Iterable[int]) -> list[Interaction]:
            settings = {"workflow": "txt2img", "steps": STEPS}
            return [await here.ask(user, prompt=f"cat {each}", **settings) for each in numbers]

        async def asked(numbers: range) -> list[Interaction]:
            shares = (numbers[n :: len(users)] for n in range(len(users)))
            return [one for each in await asyncio.gather(*map(asks, users, shares)) for one in each]

        for each in await asked(range(4 * len(servers))):
            await here.posted(each)
        for server in servers:
            server.hold()
        waiting = await asked(range(100, 100 + jobs))
        began = asyncio.get_running_loop().time()
        for server in servers:
            server.finish()
        for each in waiting:
            await here.posted(each)
        return jobs / (max(server.ended for server in servers) - began)


def batch(seed: int) -> list[Asked]:
    chance = random.Random(seed)
    return [
        Asked(n % 4, "a", 9.0 * chance.choice([0.5, 1.0, 2.0]), noise=chance.uniform(0.9, 1.1))
        for n in range(BATCH)
    ]


def to_the_best(jobs: Sequence[Asked], speeds: Sequence[float]) -> float:
    work = sum(each.work * each.noise for each in jobs)
    return max(each.ended for each in jobs) * sum(speeds) / work


async def measure() -> Report:
    found = [await jobs_per_second(each) for each in FARMS]
    rates = dict(zip(FARMS, found, strict=True))
    one = rates[(1.0,)]
    runs = [(speeds, batch(seed)) for speeds in SIMULATED for seed in range(SEEDS)]
    ended = await simulated(*runs, loading=0.0, learned=True)
    ratios: dict[Any, list[float]] = {each: [] for each in SIMULATED}
    for (speeds, _), jobs in zip(runs, ended, strict=True):
        ratios[speeds].append(to_the_best(jobs, speeds))

    def row(speeds: Sequence[float]) -> list[str | float]:
        rate, best = rates.get(tuple(speeds)), ratios.get(tuple(speeds))
        told = [rate or "", rate / one if rate else "", fmean(best) if best else ""]
        return [" and ".join(f"{each:g}" for each in speeds), *told]

    goals = [
        Goal(
            f"servers of speed {_named(each)}: throughput to one",
            rates[each] / one,
            limit,
            at_least=True,
        )
        for each, limit in LIMITS.items()
    ]
    goals += [
        Goal(f"servers of speed {_named(each)}: end of all to the best possible", max(found), 1.08)
        for each, found in ratios.items()
    ]
    return Report(
        "Throughput",
        f"The whole bot with stand-ins that take {STEP * STEPS:g} s for a job at speed 1, against "
        f"one of them; and the end of {BATCH} jobs of mixed sizes on simulated servers, against "
        "all work divided by all speed, which no schedule can beat.",
        ["servers of speed", "jobs per second", "to one server", "end of all to the best"],
        [row(each) for each in (*FARMS, SIMULATED[-1])],
        goals,
    )


def _named(speeds: Sequence[float]) -> str:
    return ", ".join(f"{each:g}" for each in speeds)


if __name__ == "__main__":
    main(measure)
