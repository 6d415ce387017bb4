"""How long jobs take: learned per workflow, size and server from what earlier ones took. Pure."""

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from statistics import fmean, median_low
from typing import NamedTuple

UNKNOWN_SECONDS = 30.0  # of a workflow that was never run
_KEPT = 60  # runs of one workflow; older ones say less
_ENOUGH = 3  # runs of one size, after which other sizes say nothing


class Run(NamedTuple):
    """One that ended well. *work*: see `Request.work`; *seconds* on the server."""

    workflow: str
    work: float
    server: str
    seconds: float


class Estimates:
    """What is learned replaces what was known as a whole: requests are judged in other threads."""

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self.replace(runs)

    def replace(self, runs: Iterable[Run]) -> None:
        """The oldest first."""
        latest: dict[str, deque[Run]] = defaultdict(lambda: deque(maxlen=_KEPT))
        for each in runs:
            latest[each.workflow].append(each)
        self._runs = {name: tuple(each) for name, each in latest.items()}
        self._paces: dict[str, float] | None = None

    def learn(self, run: Run) -> None:
        runs = (*self._runs.get(run.workflow, ()), run)
        self._runs = self._runs | {run.workflow: runs[-_KEPT:]}
        self._paces = None

    def seconds(self, workflow: str, work: float) -> float | None:
        """On a server of average speed; None while the workflow was never run."""
        runs = self._runs.get(workflow, ())
        servers = {each.server for each in runs}
        told = [_fit([run for run in runs if run.server == each], work) for each in servers]
        return fmean(told) if told else None

    def pace(self, server: str) -> float:
        """How many times as long as the average server it takes; 1 while nothing is known."""
        if self._paces is None:
            self._paces = _paces(self._runs.values())
        return self._paces.get(server, 1.0)


def _fit(runs: Sequence[Run], work: float) -> float:
    """The lower median leaves out runs that had to load their model first."""
    same = [each.seconds for each in runs if each.work == work]
    if len(same) >= _ENOUGH or len(same) == len(runs):
        return median_low(same)
    sizes = {each.work for each in runs}
    per_size = [(s, median_low(r.seconds for r in runs if r.work == s)) for s in sizes]
    if len(per_size) == 1:
        ((size, seconds),) = per_size
        return seconds * work / size if size and work else seconds
    middle, average = fmean(s for s, _ in per_size), fmean(t for _, t in per_size)
    spread = sum((s - middle) ** 2 for s, _ in per_size)
    slope = max(0.0, sum((s - middle) * (t - average) for s, t in per_size) / spread)
    least = min(t for _, t in per_size) * min(1.0, work / min(sizes) if min(sizes) else 1.0)
    return max(least, average + slope * (work - middle))


def _paces(groups: Iterable[Iterable[Run]]) -> dict[str, float]:
    """Servers are compared by what several of them ran in the same size."""
    told: dict[str, list[float]] = defaultdict(list)
    for runs in groups:
        alike: dict[float, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for each in runs:
            alike[each.work][each.server].append(each.seconds)
        for servers in alike.values():
            took = {name: median_low(seconds) for name, seconds in servers.items()}
            average = fmean(took.values())
            if len(took) > 1 and average > 0:
                for name, seconds in took.items():
                    told[name] += [seconds / average] * len(servers[name])
    return {name: fmean(ratios) for name, ratios in told.items()}
