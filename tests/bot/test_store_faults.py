"""A database that another program locks, that is full, or where nothing can be written; and what a
loss of power may take from it."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from bot.database import Database
from bot.errors import StoreError
from bot.jobs import JobState
from bot.store import Store
from tests.bot.builders import NOW
from tests.bot.rows import kept, numbered

OTHER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@asynccontextmanager
async def locked(url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process writes, until its input ends."""
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OTHER, url.removeprefix("sqlite:///"), stdin=PIPE, stdout=PIPE
    )
    assert other.stdin
    assert other.stdout
    await asyncio.wait_for(other.stdout.readline(), 20)
    try:
        yield other
    finally:
        other.stdin.close()
        await other.wait()


async def test_a_write_waits_for_another_program_and_reads_do_not(
    sqlite_store: Store, url: str
) -> None:
    job = await kept(sqlite_store, 1)

    async with locked(url):
        write = asyncio.create_task(sqlite_store.add(numbered(2)))
        read = await asyncio.wait_for(sqlite_store.get(job.id), 1)
        assert not write.done()

    assert read == job
    assert await asyncio.wait_for(write, 20)


async def test_a_program_that_locks_it_for_too_long_is_named_and_nothing_is_written(
    sqlite_store: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.database._LOCKED", 0.1)
    job = await kept(sqlite_store, 1)

    async with locked(url):
        with pytest.raises(StoreError, match="database is locked"):
            await sqlite_store.move(job, JobState.FAILED, note="x")

    assert await sqlite_store.get(job.id) == job
    assert (await sqlite_store.move(job, JobState.FAILED, note="x")).state is JobState.FAILED


async def test_a_disk_that_is_full_keeps_what_is_there_and_takes_more_when_there_is_room(
    url: str,
) -> None:
    async with Database.open(url) as database:
        store, engine = Store(database), database._engine.engine
        job = await kept(store, 1)

        def full(connection: sa.PoolProxiedConnection, _: object) -> None:
            connection.cursor().execute("PRAGMA max_page_count=1")  # no page more than now

        sa.event.listen(engine, "connect", full)
        engine.dispose()
        with pytest.raises(StoreError, match="disk is full"):
            await store.add(numbered(2, text="x" * 500_000))
        assert await store.get(job.id) == job
        sa.event.remove(engine, "connect", full)
        engine.dispose()

        assert await store.add(numbered(99, text="x" * 500_000))


async def test_a_network_drive_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(url.removeprefix("sqlite:///")).parent
    mounts = f"/dev/sda1 / ext4 rw 0 0\nstore:/share {folder} nfs4 rw 0 0\n"
    monkeypatch.setattr(Path, "read_text", lambda _: mounts)

    with pytest.raises(StoreError, match=r"lies on a network drive \(nfs4\), where SQLite loses"):
        async with Store.open(url):
            pass
    assert not any(folder.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="nobody can write into this folder on Linux")
async def test_a_folder_that_is_read_only_is_named() -> None:
    with pytest.raises(StoreError, match=r"^The database sqlite:////proc/.* cannot be opened"):
        async with Store.open("sqlite:////proc/comfycord.db"):
            pass


async def test_only_what_a_server_tells_again_does_not_wait_for_the_disk(url: str) -> None:
    async with Database.open(url) as database:
        store = Store(database)
        waits: list[bool] = []

        def look(connection: sa.Connection, *_: object) -> None:
            level = connection.connection.cursor().execute("PRAGMA synchronous").fetchone()
            waits.append(level == (2,))  # FULL

        async def waited(doing: Awaitable[object]) -> bool:
            waits.clear()
            await doing
            return waits[-1]

        sa.event.listen(database._engine.engine, "commit", look)
        assert await waited(store.add(numbered(1)))
        assert await waited(store.acknowledge(numbered(1).id, 1))
        assert await waited(store.claim(numbered(1).id, "s", "p", NOW))
        job = await store.get(numbered(1).id)
        assert job
        assert await waited(store.move(job, JobState.QUEUED))
        assert not await waited(store.move(job.to(JobState.QUEUED), JobState.RUNNING))
        running = job.to(JobState.QUEUED).to(JobState.RUNNING)
        assert not await waited(store.move(running, JobState.EXECUTED))
        executed = running.to(JobState.EXECUTED)
        two = replace(executed, messages=(1, 2))
        assert await waited(store.save(executed, two)), "a second message cannot be looked for"
        assert await waited(store.move(two, JobState.POSTED))


async def test_writers_that_share_a_commit_wait_for_the_disk_if_one_of_them_does(url: str) -> None:
    async with Database.open(url) as database:
        store = Store(database)
        levels: list[object] = []

        def look(connection: sa.Connection, *_: object) -> None:
            levels.append(connection.connection.cursor().execute("PRAGMA synchronous").fetchone())

        running = await kept(store, 1, JobState.QUEUED, server="s")
        cancelled = await kept(store, 2, JobState.QUEUED, server="s")
        sa.event.listen(database._engine.engine, "commit", look)
        async with database._writing:
            both = asyncio.gather(
                store.move(running, JobState.RUNNING), store.move(cancelled, JobState.CANCELLED)
            )
            while len(database._waiting) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0)
        await both

    assert levels == [(2,)]
