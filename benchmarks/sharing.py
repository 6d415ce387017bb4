"""How members share the servers: one picture beside somebody's fifty, and ten who want much.

    uv run python -m benchmarks.sharing

Simulated servers; the bot's dispatch against first come, first served. The ten ask for 25 jobs
each, of mixed sizes, while the servers are busy for somebody else; from the moment on when each has
had ten of them until one of the ten has nothing left to begin, their GPU seconds are compared at
every end of a job: those on servers of any speed, loading included.
"""

import random
from collections.abc import Sequence
from itertools import product

from benchmarks.report import Goal, Report, main
from benchmarks.simulated import Asked, FirstCome, simulated
from bot.dispatch import Dispatch
from bot.placement import _PATIENCE

POLICIES = (FirstCome, Dispatch)
MEMBERS, EACH, HAD = 10, 25, 10
ONE, RUN = 2, 9.0  # the member who asks for one, and its seconds
BOUND = 3 * RUN + _PATIENCE
BESIDE = {"one beside fifty of the same model": "a", "one beside fifty of another model": "b"}
ALIKE = {
    "ten members, one server, one model": ((1.0,), 1),
    "ten members, three equal servers, one model": ((1.0, 1.0, 1.0), 1),
    "ten members, three equal servers, four models": ((1.0, 1.0, 1.0), 4),
    "ten members, speeds 1, 0.6 and 0.35, four models": ((1.0, 0.6, 0.35), 4),
}


def one_beside_fifty(model: str) -> list[Asked]:
    """The one comes a minute after the fifty."""
    return [*(Asked(1, "a", RUN) for _ in range(50)), Asked(ONE, model, RUN, at=60.0)]


def sent_before(jobs: Sequence[Asked]) -> int:
    """How many that waited went to a server before the one."""
    (one,) = (each for each in jobs if each.user == ONE)
    return sum(one.at <= each.sent < one.sent for each in jobs)


def wait(jobs: Sequence[Asked]) -> float:
    return next(each.wait for each in jobs if each.user == ONE)


def ten_who_want_much(servers: int, models: int) -> list[Asked]:
    chance = random.Random(models)
    before = [Asked(MEMBERS, "m0", 30.0) for _ in range(2 * servers)]
    return before + [
        Asked(
            user, f"m{chance.randrange(models)}", RUN * chance.choice([0.5, 1.0, 2.0]),
            at=1 + user / 10, noise=chance.uniform(0.9, 1.1),
        )
        for user in range(MEMBERS)
        for _ in range(EACH)
    ]  # fmt: skip


def had(jobs: Sequence[Asked], now: float) -> list[float]:
    """GPU seconds of each member."""
    seconds = [0.0] * (MEMBERS + 1)
    for each in jobs:
        seconds[each.user] += max(0.0, min(now, each.ended) - each.began)
    return seconds[:MEMBERS]


def most_to_least(jobs: Sequence[Asked]) -> float:
    """At the worst moment; infinite if one had everything before another had ten."""
    by_user = [[each for each in jobs if each.user == user] for user in range(MEMBERS)]
    since = max(sorted(each.ended for each in mine)[HAD - 1] for mine in by_user)
    until = min(max(each.began for each in mine) for mine in by_user)
    moments = [each.ended for each in jobs if since <= each.ended <= until]
    return max((max(had(jobs, now)) / min(had(jobs, now)) for now in moments), default=float("inf"))


def jain(jobs: Sequence[Asked]) -> float:
    """Halfway: 1 if all had the same, 0.1 if one of ten had everything."""
    seconds = had(jobs, max(each.ended for each in jobs) / 2)
    return sum(seconds) ** 2 / (len(seconds) * sum(each**2 for each in seconds))


async def measure() -> Report:
    asked: list[tuple[Sequence[float], list[Asked]]]
    asked = [((1.0,), one_beside_fifty(model)) for model in BESIDE.values()]
    asked += [(speeds, ten_who_want_much(len(speeds), n)) for speeds, n in ALIKE.values()]
    found = await simulated(*((*each, policy) for each, policy in product(asked, POLICIES)))
    pairs = dict(zip([*BESIDE, *ALIKE], zip(found[::2], found[1::2], strict=True), strict=True))
    rows: list[list[str | float]] = []
    for name in BESIDE:
        rows.append([f"{name}: sent before it", *map(sent_before, pairs[name])])
        rows.append([f"{name}: its wait, s", *map(wait, pairs[name])])
    for name in ALIKE:
        ratios = [most_to_least(each) for each in pairs[name]]
        told = ["some had all first" if each == float("inf") else each for each in ratios]
        rows.append([f"{name}: most to least GPU seconds", *told])
        rows.append([f"{name}: Jain's index halfway", *map(jain, pairs[name])])
    same, other = BESIDE
    goals = [
        Goal(f"{same}: sent before it", sent_before(pairs[same][1]), 0),
        Goal(f"{other}: its wait, s, to three runs and the patience", wait(pairs[other][1]), BOUND),
    ]
    for name, (_, models) in ALIKE.items():
        if models == 1:
            worst = most_to_least(pairs[name][1])
            goals.append(Goal(f"{name}: most to least GPU seconds", worst, 1.2))
        goals.append(Goal(f"{name}: Jain's index", jain(pairs[name][1]), 0.9, at_least=True))
    return Report(
        "Sharing",
        "Simulated servers: a member who asks for one picture a minute after another queued "
        "fifty, and ten members who queue 25 jobs of mixed sizes each. With several models whoever "
        "needs the one that is loaded may go first, within limits.",
        ["", "first come, first served", "the bot"],
        rows,
        goals,
    )


if __name__ == "__main__":
    main(measure)
