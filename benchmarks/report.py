"""What a benchmark tells: a table, and its goals with what was seen. Markdown, for a terminal too.

Every benchmark has `async def measure() -> Report`; its command prints it, and `python -m
benchmarks` gathers all of them in docs/benchmarks.md.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goal:
    """*seen* has to be at most *limit*; at least, where *at_least*."""

    what: str
    seen: float
    limit: float
    at_least: bool = False

    @property
    def reached(self) -> bool:
        return self.seen >= self.limit if self.at_least else self.seen <= self.limit

    def __str__(self) -> str:
        mark, word = "✅" if self.reached else "❌", "at least" if self.at_least else "at most"
        return f"- {mark} {self.what}: **{_told(self.seen)}** (goal: {word} {_told(self.limit)})"


@dataclass(frozen=True, slots=True)
class Report:
    """*about*: what was done and compared with what, in a few sentences. Units stand in *columns*;
    the first column names the row."""

    title: str
    about: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float]]
    goals: Sequence[Goal]

    def __str__(self) -> str:
        cells = [list(self.columns), *([_told(each) for each in row] for row in self.rows)]
        widths = [max(len(row[n]) for row in cells) for n in range(len(self.columns))]
        head, *body = [_line(row, widths) for row in cells]
        rule = _line(
            ["-" * w if n == 0 else "-" * (w - 1) + ":" for n, w in enumerate(widths)], widths
        )
        goals = [str(each) for each in self.goals]
        return "\n".join([f"## {self.title}", "", self.about, "", head, rule, *body, "", *goals])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return f"| {' | '.join(padded)} |"


def _told(value: str | float) -> str:
    """Three digits that count."""
    if isinstance(value, str):
        return value
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def main(measure: Callable[[], Awaitable[Report]]) -> None:
    """The command of one benchmark; exit code 1 where a goal was missed."""

    async def run() -> Report:
        return await measure()

    report = asyncio.run(run())
    print(report)
    sys.exit(not all(each.reached for each in report.goals))
