"""When a job was said to be ready, when it was asked for, and when it was.

    uv run python -m benchmarks.expected

Simulated servers of speeds 1 and 0.5. Eight members ask at random moments for one to four jobs at
once, of four workflows that take 5 to 25 s, in three sizes; runs of the same differ by 10 %. What
the bot says in its first answer, from five runs of a workflow on, against the rule of most queues:
the average run so far, times how many are before it and itself, divided by the servers.
"""

import random
from collections.abc import Sequence
from itertools import product
from statistics import fmean, median

from benchmarks.report import Goal, Report, main
from benchmarks.simulated import LOADING, Asked, simulated

SPEEDS = (1.0, 0.5)
WORKFLOWS = {"a": 5.0, "b": 9.0, "c": 14.0, "d": 25.0}
JOBS = 160
LEARNED = 5  # runs of its workflow before a job counts
SEEDS = 2
CASES = {  # seconds between two requests, and for a model
    "servers half busy": (40.0, 0.0),
    "servers three quarters busy": (25.0, 0.0),
    "servers always busy": (20.0, 0.0),
    "three quarters busy, a model to load for each workflow": (25.0, LOADING),
}
GOAL = "servers three quarters busy"


def workload(seed: int, pause: float) -> list[Asked]:
    chance = random.Random(seed)
    jobs: list[Asked] = []
    now = 0.0
    while len(jobs) < JOBS:
        now += chance.expovariate(1 / pause)
        user, (workflow, seconds) = chance.randrange(8), chance.choice([*WORKFLOWS.items()])
        for _ in range(chance.choice([1, 1, 1, 2, 4])):
            work = seconds * chance.choice([0.5, 1.0, 2.0])
            jobs.append(Asked(user, workflow, work, now, chance.uniform(0.9, 1.1)))
    return jobs


def rule(jobs: Sequence[Asked], job: Asked) -> float:
    known = fmean(each.seconds for each in jobs if each.ended <= job.at)
    place = jobs.index(job)
    before = sum(each.ended > job.at for each in jobs[:place])
    return known * max(1.0, (before + 1) / len(SPEEDS))


def errors(jobs: Sequence[Asked]) -> list[tuple[float, float, bool]]:
    """The bot's and the rule's, each to the real duration; whether the job had to wait."""
    found = []
    for each in jobs:
        runs = sum(e.model == each.model and e.ended <= each.at for e in jobs)
        if each.told is not None and runs >= LEARNED:
            whole = each.turnaround
            ours, theirs = abs(each.told - whole) / whole, abs(rule(jobs, each) - whole) / whole
            found.append((ours, theirs, each.wait > 1))
    return found


async def measure() -> Report:
    runs = list(product(CASES.values(), range(SEEDS)))
    by_loading = {
        loading: await simulated(
            *((SPEEDS, workload(seed, pause)) for (pause, each), seed in runs if each == loading),
            loading=loading,
        )
        for loading in (0.0, LOADING)
    }
    rows: list[list[str | float]] = []
    seen = {}
    for name, (_, loading) in CASES.items():
        jobs = [by_loading[loading].pop(0) for _ in range(SEEDS)]
        found = [error for each in jobs for error in errors(each)]
        ours, theirs, waited = zip(*found, strict=True)
        seen[name] = median(ours)
        rows.append(
            [
                name,
                100 * median(ours),
                100 * fmean(each <= 0.2 for each in ours),
                100 * median(theirs),
                fmean(each.turnaround for one in jobs for each in one),
                100 * fmean(waited),
            ]
        )
    return Report(
        "Expected time",
        "Simulated servers of speeds 1 and 0.5, four workflows in three sizes, runs that differ by "
        "10 %. The error is the difference between the time that was said when a job was asked for "
        "and the time that it took, to the latter. The rule: the average run, times those before "
        "it and itself, by the servers. Who comes later may be served earlier, so a time that is "
        "said in a full line is a guess.",
        [
            "",
            "median error %",
            "within 20 %: %",
            "the rule's %",
            "it took, mean s",
            "had to wait %",
        ],
        rows,
        [Goal(f"median error, {GOAL}", seen[GOAL], 0.2)],
    )


if __name__ == "__main__":
    main(measure)
