"""`python -m tests.chaos points` kills the bot at every point, `… run` breaks everything at random.

The same seed repeats the same plan.
"""

import asyncio
import logging
import multiprocessing
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed

import click

from tests.chaos import points
from tests.chaos.databases import KINDS
from tests.chaos.verdict import WRONGS, Verdict
from tests.chaos.world import ran


@click.group()
def cli() -> None:
    """The bot as a process that is killed, between fakes that fail."""
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # of connections that were cut


_database = click.option("--database", type=click.Choice(KINDS), default="sqlite")


@cli.command("points")
@click.option("--only", default="", help="Points whose line contains this.")
@_database
def _points(only: str, database: str) -> None:
    """Kill it at every point, for every way of answering."""
    chosen = [each for each in points.all_points() if only in " ".join(each)]
    sys.exit(asyncio.run(points.table(chosen, database)) > 0)


@cli.command("run")
@click.option("--jobs", default=1000, help="Of all runs together.")
@click.option("--each", default=50, help="Jobs of one run.")
@click.option("--seed", default=1, help="Of the first run; the next one has the next.")
@click.option("--workers", default=2)
@click.option("--stop/--go-on", default=True, help="At the first broken promise, or after all.")
@_database
@click.option("--processes", default=1, help="That share a PostgreSQL, each with its shard.")
def _run(
    jobs: int, each: int, seed: int, workers: int, stop: bool, database: str, processes: int
) -> None:
    """Runs with random faults until so many jobs were asked for."""
    if processes > 1 and database == "sqlite":
        raise click.UsageError("Several processes need --database postgresql.")
    began, verdicts = time.monotonic(), list[Verdict]()
    seeds = range(seed, seed + -(-jobs // each))
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawned) as pool:
        runs = [pool.submit(ran, each_seed, each, database, processes) for each_seed in seeds]
        for done in as_completed(runs):
            verdict = done.result()
            verdicts.append(verdict)
            _tell(verdict)
            if verdict.wrongs and stop:
                pool.shutdown(wait=False, cancel_futures=True)
                break
    sys.exit(_tell_all(verdicts, time.monotonic() - began))


def _tell(verdict: Verdict) -> None:
    wrong = f"  WRONG: {dict(verdict.wrongs)}" if verdict.wrongs else ""
    troubles = sum(verdict.troubles.values())
    click.echo(
        f"seed {verdict.seed}: {verdict.asked} jobs, {verdict.acknowledged} acknowledged, "
        f"{troubles} troubles, {verdict.extra} extra executions, {verdict.seconds:.1f} s{wrong}"
    )
    for each in verdict.facts:
        click.echo(each)


def _tell_all(verdicts: list[Verdict], seconds: float) -> int:
    troubles, ends, wrongs, errors = (Counter[str]() for _ in range(4))
    for each in verdicts:
        troubles += each.troubles
        ends += each.ends
        wrongs += each.wrongs
        errors += each.errors
    for title, counts in (("troubles", troubles), ("ends", ends), ("errors in the log", errors)):
        click.echo(f"\n{title}: {sum(counts.values())}")
        for kind, number in counts.most_common():
            click.echo(f"  {number:6}  {kind}")
    jobs = sum(each.asked for each in verdicts)
    extra = sum(each.extra for each in verdicts)
    found = ", ".join(f"{wrongs[each]} {each}" for each in WRONGS)
    click.echo(
        f"\n{len(verdicts)} runs, {jobs} jobs: {found}; {extra} extra executions; {seconds:.0f} s"
    )
    return int(bool(wrongs))


if __name__ == "__main__":
    cli()
