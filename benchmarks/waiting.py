"""What a long line costs: the time of its queries, and the memory of the bot.

    uv run python -m benchmarks.waiting

Every step is the bot's own; the reference is a line of 100 jobs. PostgreSQL is measured where the
development environment has one. With 100,000 jobs there are twenty rounds: p99 is the longest.
"""

import itertools
import statistics
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

from benchmarks.lab import ROOT, lab
from benchmarks.report import Goal, Report, main
from bot.config import Limits
from bot.jobs import Job, Request
from bot.requests import Author, build
from bot.store import Store
from bot.tables import jobs, progress_row, request_row
from bot.wishes import Wish
from comfy.library import Library
from tests.fakes.comfyui import FakeComfyUI
from tests.fakes.discord import Channel, FakeDiscord
from tests.fakes.discord_messages import V2

ROUNDS = {100: 60, 10_000: 60, 100_000: 20}  # by the length of the line
MEMBERS = 50
COST = 30.0  # seconds of each waiting job
TIMES_GOAL, MEMORY_GOAL = 2.0, 2.0  # 10,000 beside 100; KiB of a waiting job
_SEED = 987654321
_numbers = itertools.count()


# Databases with jobs in them, for other benchmarks too


async def fill(folder: Path, rows: Iterator[dict[str, Any]]) -> None:
    """The database of a bot that will run in *folder*."""
    (folder / "data").mkdir()
    await insert(f"sqlite:///{folder}/data/comfycord.db", rows)


async def insert(url: str, rows: Iterator[dict[str, Any]]) -> None:
    async with Store.open(url) as store:
        while batch := list(itertools.islice(rows, 5000)):
            await store.database.whole(partial(_insert, batch))
        shared = store.database.shared
    if shared:
        connection = await asyncpg.connect(url)
        await connection.execute("VACUUM ANALYZE")  # it does so itself in a minute
        await connection.close()


def _insert(batch: list[dict[str, Any]], connection: sa.Connection) -> None:
    connection.execute(sa.insert(jobs), batch)


async def rows_of(
    channels: Sequence[Channel],
    number: int,
    messages: Iterable[int] = (),
    steps: int = 20,
    **columns: Any,
) -> Iterator[dict[str, Any]]:
    """Jobs of txt2img as the bot would have stored them, all in line unless *columns* say else.

    *messages*: their placeholders.
    """
    request = await _request(1, 1, steps)
    row = request_row(request) | progress_row(Job(request=request)) | {"cost": COST} | columns
    graph, told = row["graph"], itertools.chain(messages, itertools.count(10**17))

    def each(nth: int, message_id: int) -> dict[str, Any]:
        """A member's jobs stand one after the other on the clock of turns."""
        job_id, channel = str(uuid.uuid4()), channels[nth % len(channels)]
        return row | {
            "id": job_id,
            "interaction_id": 10**15 + next(_numbers),
            "guild_id": channel.guild.id if channel.guild else None,
            "channel_id": channel.id,
            "user_id": 10**14 + nth % MEMBERS,
            "message_id": message_id,
            "graph": graph.replace(request.id, job_id).replace(str(_SEED), str(nth)),
            "turn": nth // MEMBERS * COST,
        }

    return (each(nth, message_id) for nth, message_id in zip(range(number), told, strict=False))


def placeholders(discord: FakeDiscord, channels: Sequence[Channel], number: int) -> list[int]:
    """Messages for jobs that are in the database already."""
    card = {"flags": V2, "components": [{"type": 10, "content": "..."}]}
    return [
        int(discord.store.create(channels[n % len(channels)].id, discord.me, card, {})["id"])
        for n in range(number)
    ]


async def _request(interaction_id: int, user_id: int, steps: int = 20) -> Request:
    library = Library(ROOT / "workflows")
    await library.refresh()
    author = Author(interaction_id=interaction_id, user_id=user_id, channel_id=1, guild_id=1)
    wish = Wish(prompt="a lighthouse", values={"seed": _SEED, "steps": steps})
    return build(library.workflows["txt2img"], wish, author, Limits(), {}, datetime.now(UTC))


# The queries

STEPS = ("add", "claim", "place", "/queue")


async def times(url: str, waiting: int) -> dict[str, list[float]]:
    """Milliseconds of each step; the line stays as long as it is."""
    await insert(url, await rows_of([Channel(1, "art")], waiting))
    taken: dict[str, list[float]] = defaultdict(list)

    async def timed(step: str, work: Awaitable[object]) -> None:
        began = time.perf_counter()
        await work
        taken[step].append((time.perf_counter() - began) * 1000)

    async with Store.open(url) as store:
        for number in range(ROUNDS[waiting]):
            request = await _request(number + 1, 10**14 + number % MEMBERS)
            await timed("add", store.add(request))
            await store.acknowledge(request.id, number + 1)
            await timed("claim", claimed(store))
            await timed("place", store.place(Job(request=request)))
            await timed("/queue", board(store, request.user_id))
    return taken


async def claimed(store: Store) -> None:
    """As a server that has room takes the next job; those behind it are known already."""
    line = await store.line(50)
    await store.get_all([line[-1].id])
    await store.claim(line[0].id, "local", str(uuid.uuid4()), datetime.now(UTC))


async def board(store: Store, user_id: int) -> None:
    await store.on_servers()
    await store.waiting(user_id)


async def memory(waiting: int) -> float:
    """MiB of a bot whose server is busy and whose line is so long."""
    comfyui = FakeComfyUI()
    async with lab([comfyui]) as laboratory:
        comfyui.hold()
        await fill(laboratory.folder, await rows_of([laboratory.channel], waiting))
        async with laboratory.running():
            await laboratory.discord.until(lambda: comfyui.held.is_set(), timeout=30)
            await laboratory.ask(laboratory.discord.add_user("alice"), workflow="txt2img")
            return laboratory.used.rss_mib


def databases(folder: Path) -> Iterator[tuple[str, Iterator[str]]]:
    """By name, addresses of empty ones."""
    yield "SQLite", (f"sqlite:///{folder}/{n}.db" for n in itertools.count())
    with suppress(pytest.skip.Exception):
        from tests.fakes.postgres import postgres

        yield "PostgreSQL", (postgres().database() for _ in itertools.count())


async def measure() -> Report:
    rows: list[tuple[str | float, ...]] = []
    goals = []
    with tempfile.TemporaryDirectory() as folder:
        for name, urls in databases(Path(folder)):
            medians = {}
            for waiting in ROUNDS:
                taken = await times(next(urls), waiting)
                medians[waiting] = {step: statistics.median(taken[step]) for step in STEPS}
                p99 = {step: statistics.quantiles(taken[step], n=100)[98] for step in STEPS}
                both = (ms for step in STEPS for ms in (medians[waiting][step], p99[step]))
                rows.append((f"{name}, {waiting:,}", *both))
            growth = {step: medians[10_000][step] / medians[100][step] for step in STEPS}
            most = max(growth, key=lambda step: growth[step])
            goals.append(
                Goal(f"{name}: median of `{most}`, times that of 100", growth[most], TIMES_GOAL)
            )
    short, long = await memory(100), await memory(10_000)
    goals.append(Goal("memory of a waiting job, KiB", (long - short) * 1024 / 9_900, MEMORY_GOAL))
    return Report(
        "A long line",
        "What the bot does with a line of 10,000 jobs, beside one of 100; milliseconds, median and "
        f"p99. The bot itself has {short:.0f} MiB with 100 and {long:.0f} with 10,000.",
        ("database, waiting", *(f"{step} {of}" for step in STEPS for of in ("ms", "p99"))),
        rows,
        goals,
    )


if __name__ == "__main__":
    main(measure)
