"""Which job goes to which server: waiting, model loads and time to the end of all work.

    uv run python -m benchmarks.scheduling [--seeds 2]

Simulated servers of speeds 1, 0.6 and 0.35, and four models: a job takes 9 s at speed 1, and 14 s
more where its model is not the loaded one. Ten members ask for 200 jobs at random moments within
half an hour, one of them for 60 % of those; after ten minutes that one adds 60 at once. The bot's
dispatch against the same bot without a look at the models, and against first come, first served.
"""

import argparse
import random
from itertools import product
from statistics import fmean

from benchmarks.report import Goal, Report, main
from benchmarks.simulated import Asked, FirstCome, InTurns, simulated
from bot.dispatch import Dispatch
from bot.placement import _PATIENCE

SPEEDS = (1.0, 0.6, 0.35)
HEAVY = 0
POLICIES = {"first come, first served": FirstCome, "in turns": InTurns, "the bot": Dispatch}
SEEDS = 2


def workload(seed: int) -> list[Asked]:
    chance = random.Random(seed)

    def job(user: int, at: float) -> Asked:
        return Asked(user, f"m{chance.randrange(4)}", 9.0, at, chance.uniform(0.9, 1.1))

    def user() -> int:
        return HEAVY if chance.random() < 0.6 else chance.randint(1, 9)

    alone = [job(user(), chance.uniform(0, 1800)) for _ in range(200)]
    return alone + [job(HEAVY, 600.0) for _ in range(60)]


def figures(jobs: list[Asked]) -> list[float]:
    """Mean turnaround, its 95th percentile of the light members' waits, loads, makespan, lost."""
    done = [each for each in jobs if each.done]
    light = sorted(each.wait for each in done if each.user != HEAVY)
    return [
        fmean(each.turnaround for each in done),
        light[int(0.95 * len(light))],
        sum(each.loading > 0 for each in done),
        max(each.ended for each in done),
        fmean(each.seconds for each in done),
        len(jobs) - len(done),
    ]


async def measure(seeds: int = SEEDS) -> Report:
    runs = [(policy, seed) for policy, seed in product(POLICIES.values(), range(seeds))]
    found = await simulated(*((SPEEDS, workload(seed), policy) for policy, seed in runs))
    told = [figures(each) for each in found]
    rows = {
        name: [fmean(column) for column in zip(*told[n * seeds : (n + 1) * seeds], strict=True)]
        for n, name in enumerate(POLICIES)
    }
    bot, first = rows["the bot"], rows["first come, first served"]
    ratios = [mine / theirs for mine, theirs in zip(bot[:4], first[:4], strict=True)]
    whats = ("mean turnaround", "light members' p95 wait", "model loads", "time to the end")
    limits = (0.75, 0.3, 0.75, 0.9)
    goals = [
        Goal(f"{what}, to first come, first served", ratio, limit)
        for what, ratio, limit in zip(whats, ratios, limits, strict=True)
    ]
    bound = 3 * bot[4] + _PATIENCE
    goals += [
        Goal("light members' p95 wait, s, to three mean runs and the patience", bot[1], bound),
        Goal("jobs that idle servers left in the line", bot[5] * seeds, 0),
    ]
    return Report(
        "Scheduling",
        "Simulated servers of speeds 1, 0.6 and 0.35, four models, a job of 9 s, a model load of "
        "14 s; ten members, of which one asks for 60 % of 200 jobs and for 60 more at once. "
        f"Means of {seeds} such half hours; the bot has learned nothing before.",
        ["", "mean turnaround s", "light p95 wait s", "model loads", "end of all s", "mean run s"],
        [[name, *row[:5]] for name, row in rows.items()],
        goals,
    )


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", type=int, default=SEEDS)
    seeds = arguments.parse_args().seeds
    main(lambda: measure(seeds))
