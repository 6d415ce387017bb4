"""What one job costs, and what that means for ten, a hundred and a thousand servers.

    uv run python -m benchmarks.scale

The bot runs as a process of its own with a PostgreSQL, at full speed against ten stand-ins whose
jobs take a second and send progress. Its CPU time, transactions and requests are counted; the rows
are computed from them for jobs of ten seconds. What there is to compare with: one core, Discord's
limit of 50 requests a second, and what this PostgreSQL commits in a second.
"""

import asyncio
import math
import time
from typing import Any

import asyncpg

from benchmarks.lab import lab
from benchmarks.report import Goal, Report, main
from comfy.standin import Pace
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.postgres import Postgres

JOBS = 150
SERVERS = 10
STEPS = 10
JOB = 10.0  # seconds, of which the rows are told
CORE = 0.6  # of one core, which a process may take with room for peaks
GLOBAL = 50  # requests a second: https://docs.discord.com/developers/topics/rate-limits
INTERACTIONS = "/interactions/"  # these do not count for it


async def measure() -> Report:
    postgres = Postgres()
    url = postgres.ready_database()
    watch = await asyncpg.connect(url)
    commits = await committed(watch)
    servers = [FakeComfyUI(pace=Pace(node=0.02, step=0.1)) for _ in range(SERVERS)]
    async with lab(servers) as here, here.running(database=url):
        users = [here.discord.add_user(f"u{number}") for number in range(30)]
        options: dict[str, Any] = {"workflow": "txt2img", "prompt": "a cat", "steps": STEPS}
        await here.posted(await here.ask(users[0], **options))
        before, asked_before = here.used, [len(each.requests) for each in servers]
        requests, transactions = len(here.discord.requests), await transacted(watch)
        asked = [await here.ask(users[n % len(users)], **options) for n in range(JOBS)]
        for each in asked:
            await here.posted(each, 120)
        cpu = (here.used.cpu_seconds - before.cpu_seconds) / JOBS
        await asyncio.sleep(1.5)  # PostgreSQL tells its numbers late
        transactions = (await transacted(watch) - transactions) / JOBS
        counted = [r for r in here.discord.requests[requests:] if INTERACTIONS not in r.path]
        to_discord = len(counted) / JOBS
        to_comfyui = sum(len(each.requests) for each in servers) - sum(asked_before)
    await watch.close()
    await asyncio.to_thread(postgres.close)
    rows = [
        ["one job costs", cpu * 1000, transactions, to_discord, to_comfyui / JOBS, "", ""],
        *(
            _row(number, cpu, transactions, to_discord, to_comfyui / JOBS)
            for number in (10, 100, 1000)
        ),
    ]
    return Report(
        "What to expect at ten, a hundred and a thousand servers",
        f"{JOBS} jobs at once on {SERVERS} servers, with progress and PostgreSQL, measured; the "
        f"other rows are computed for jobs of {JOB:.0f} s and servers that are always busy. "
        f"PostgreSQL here commits {commits:,.0f} transactions a second, one after the other.",
        ["", "CPU ms", "transactions", "to Discord", "to ComfyUI", "processes", "of its limit"],
        rows,
        [
            Goal("requests to ComfyUI for one job", to_comfyui / JOBS, 3),
            Goal("CPU ms for one job", cpu * 1000, 100),
        ],
    )  # fmt: skip


def _row(servers: int, cpu: float, *others: float) -> list[str | float]:
    """Of one second."""
    jobs = servers / JOB
    told = [f"{jobs * each:,.0f}/s" for each in (cpu * 1000, *others)]
    share = jobs * others[1] / GLOBAL
    return [f"{servers} servers", *told, math.ceil(jobs * cpu / CORE), f"{share:.0%}"]


async def committed(connection: "asyncpg.Connection[Any]") -> float:
    """A second, of small ones, one after the other."""
    await connection.execute("CREATE TABLE IF NOT EXISTS tried (number int)")
    began, many = time.perf_counter(), 200
    for number in range(many):
        await connection.execute("INSERT INTO tried VALUES ($1)", number)
    return many / (time.perf_counter() - began)


async def transacted(connection: "asyncpg.Connection[Any]") -> int:
    query = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
    return int(await connection.fetchval(query))


if __name__ == "__main__":
    main(measure)
