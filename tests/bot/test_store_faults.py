"""A database that another program locks, that is full, or where nothing can be written."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from bot.database import Database
from bot.errors import StoreError
from bot.jobs import JobState
from bot.store import Store
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
    await asyncio.wait_for(other.stdout.readline(), 10)
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
    assert await asyncio.wait_for(write, 5)


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
