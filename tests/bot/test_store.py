"""The database: a real SQLite file."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from bot.database import Database
from bot.errors import StoreError
from bot.jobs import Job, JobState
from bot.requests import Usage
from bot.store import Store
from bot.tables import metadata
from comfy.models import OutputFile
from comfy.phrases import Phrase, say
from tests.bot.builders import NOW, a_job, a_request
from tests.bot.rows import ids, kept, numbered

S = JobState


async def test_a_request_is_kept_as_it_is(store: Store) -> None:
    request = a_request(
        text="a 🐈 'and' \"a\" \\ dog", guild_id=None, settings={"cfg": 1.5, "a": 1}
    )

    added = await store.add(request)

    assert added
    found = await store.get(request.id)
    assert found == Job(request=request)
    assert list(found.request.settings) == ["cfg", "a"]


async def test_a_whole_job_comes_back_as_it_was_saved(store: Store) -> None:
    request = a_request()
    await store.add(request)
    job = Job(
        request=request,
        state=S.EXECUTED,
        message_id=2**63 - 1,
        attempt=3,
        prompt_id="7c9e6679-7425-40de-944b-e07fc1f90ae7",
        server="gpu-1",
        outputs=(OutputFile("9", "ü_00001_.png", "comfycord/x"), OutputFile("12:5", "t.png")),
        texts=("a text", ""),
        note="one picture was left out",
        seconds=4.25,
        messages=(2**63 - 1, 2**63 - 2),
        told=True,
        submitted_at=NOW + timedelta(seconds=1),
        finished_at=NOW + timedelta(seconds=9, microseconds=123456),
    )

    saved = await store.save(Job(request=request), job)

    assert saved
    assert await store.get(request.id) == job


async def test_a_note_can_still_be_said_in_other_languages(store: Store) -> None:
    note = say("{file} is gone; {why}", file="{a}.png", why=say("{number} s", number=4))
    job = await kept(store, 1, S.FAILED, note=note)

    found = await store.get(job.id)

    assert found is not None
    assert found.note == "{a}.png is gone; 4 s"
    assert isinstance(found.note, Phrase)
    assert (found.note.template, found.note.values) == (note.template, note.values)
    assert isinstance(found.note.values["why"], Phrase)


async def test_an_interaction_is_taken_once(store: Store) -> None:
    first, again = a_request(id="one"), a_request(id="two")

    assert await store.add(first)
    assert not await store.add(again)
    assert await store.get("two") is None


async def test_of_one_interaction_several_jobs_are_taken_once_each(store: Store) -> None:
    first, second = a_request(id="one", nth=0), a_request(id="two", nth=1)

    assert await store.add(first)
    assert await store.add(second)
    assert not await store.add(a_request(id="three", nth=1))
    assert await store.get("two") == Job(request=second)


async def test_an_unknown_job_is_none(store: Store) -> None:
    assert await store.get("nothing") is None


async def test_an_acknowledged_request_has_a_message(store: Store) -> None:
    request = a_request()
    await store.add(request)

    await store.acknowledge(request.id, 555)

    assert await store.get(request.id) == Job(request=request, message_id=555)


async def test_a_request_that_nobody_saw_is_discarded(store: Store) -> None:
    request = a_request()
    await store.add(request)

    await store.discard(request.id)

    assert await store.get(request.id) is None


async def test_a_job_is_not_discarded(store: Store) -> None:
    job = await kept(store, 1)

    await store.discard(job.id)

    assert await store.get(job.id) == job


async def test_the_second_of_two_movers_loses(store: Store) -> None:
    job = await kept(store, 1)

    cancelled = await store.save(job, job.to(S.CANCELLED))
    submitted = await store.save(job, job.to(S.SUBMITTING))

    assert (cancelled, submitted) == (True, False)
    assert await store.get(job.id) == job.to(S.CANCELLED)


async def test_pending_jobs_come_in_the_order_of_their_requests(store: Store) -> None:
    await kept(store, 5)
    await kept(store, 1, S.RUNNING)
    await kept(store, 4)
    await kept(store, 2, message_id=None)
    await kept(store, 3)

    assert ids(await store.pending(10)) == [5, 4, 3]
    assert ids(await store.pending(2)) == [5, 4]


async def test_the_line_comes_in_portions(store: Store) -> None:
    jobs = {(await kept(store, number)).id: number for number in (1, 2, 3, 4, 5)}

    portions = [await store.line(limit=2, offset=offset) for offset in (0, 2, 4, 6)]

    assert [[jobs[each.id] for each in some] for some in portions] == [[1, 2], [3, 4], [5], []]


async def test_a_place_counts_those_that_wait_in_front(store: Store) -> None:
    await kept(store, 1, S.QUEUED)
    second = await kept(store, 2)
    await kept(store, 3, message_id=None)
    fourth = await kept(store, 4)
    await kept(store, 5)

    assert [(await store.place(job)).number for job in (second, fourth)] == [1, 3]


async def test_in_flight_is_what_left_the_queue_and_needs_a_step(store: Store) -> None:
    moving = [S.SUBMITTING, S.QUEUED, S.RUNNING, S.EXECUTED]
    ended = [S.POSTED, S.FAILED, S.CANCELLED, S.EXPIRED]
    await kept(store, 1)
    for number, state in enumerate(moving, 10):
        await kept(store, number, state)
    for number, state in enumerate(ended, 20):
        await kept(store, number, state)
        await kept(store, number + 10, state, told=True)
    await kept(store, 40, S.RUNNING, message_id=None)

    assert ids(await store.in_flight()) == [10, 11, 12, 13, 20, 21, 22, 23]


async def test_unacknowledged_requests_are_found(store: Store) -> None:
    await kept(store, 1)
    await store.add(numbered(3))
    await store.add(numbered(2))

    assert ids(await store.unacknowledged()) == [3, 2]


async def test_a_job_is_found_by_the_first_letters_of_its_id(store: Store) -> None:
    job = await kept(store, 1, user_id=30)
    await kept(store, 2, user_id=31)

    assert await store.find(job.short_id, None) == job
    assert await store.find(job.short_id, 30) == job
    assert await store.find(job.short_id, 31) is None
    assert await store.find("ffffffff", None) is None


async def test_the_newest_of_several_is_found_and_a_prefix_is_no_pattern(store: Store) -> None:
    await kept(store, 1)
    newest = await kept(store, 2)

    assert await store.find("0000000", 30) == newest
    assert await store.find("%", None) is None
    assert await store.find("________", None) is None


async def test_the_latest_jobs_of_a_person_come_first(store: Store) -> None:
    for number, user in ((1, 30), (2, 31), (3, 30), (4, 30)):
        await kept(store, number, user_id=user)

    assert ids(await store.recent(30, 2)) == [4, 3]


async def test_open_jobs_of_a_person_and_waiting_ones_of_everybody_are_counted(
    store: Store,
) -> None:
    await kept(store, 1)
    await kept(store, 2, S.EXECUTED)
    await kept(store, 3, S.FAILED)
    await kept(store, 4, S.POSTED)
    await kept(store, 5, user_id=31)
    await store.add(numbered(6))

    mine, nobodys = await store.usage(30, NOW), await store.usage(99, NOW)

    assert (mine.mine, mine.pending) == (3, 3)
    assert (nobodys.mine, nobodys.pending) == (0, 3)


async def test_what_a_person_used_in_a_day_is_counted(store: Store) -> None:
    yesterday, today = NOW - timedelta(hours=24), NOW - timedelta(hours=23, minutes=59)
    await kept(store, 1, S.POSTED, created_at=yesterday, seconds=100.0)
    await kept(store, 2, S.POSTED, created_at=today, seconds=1.5)
    await kept(store, 3, S.FAILED, created_at=today, seconds=2.25)
    await kept(store, 4, S.CANCELLED, created_at=NOW)
    await kept(store, 5, S.EXPIRED, created_at=NOW)
    await kept(store, 6, S.RUNNING, created_at=NOW)
    await store.add(numbered(7, created_at=NOW))
    await kept(store, 8, S.POSTED, created_at=NOW, user_id=31, seconds=50.0)

    assert await store.usage(30, NOW) == Usage(mine=2, pending=1, today=3, gpu_seconds=3.75)
    assert await store.usage(31, NOW) == Usage(mine=0, pending=1, today=1, gpu_seconds=50.0)
    assert await store.usage(99, NOW) == Usage(mine=0, pending=1, today=0, gpu_seconds=0.0)


async def test_opening_again_keeps_the_rows(url: str) -> None:
    async with Store.open(url) as store:
        job = await kept(store, 1)

    async with Store.open(url) as store:
        assert await store.get(job.id) == job


async def test_a_write_whose_caller_is_cancelled_is_whole(url: str) -> None:
    request = a_request()
    async with Store.open(url) as store:
        assert await store.add(request)
        writing = asyncio.create_task(store.acknowledge(request.id, 7))
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert writing.cancelled()

    async with Store.open(url) as store:
        assert await store.get(request.id) == Job(request=request, message_id=7)


@pytest.mark.parametrize(
    "work",
    [lambda store: store.get("any"), lambda store: store.add(a_request())],
    ids=["read", "write"],
)
async def test_a_store_that_is_closed_refuses_work(
    url: str, work: Callable[[Store], Awaitable[object]]
) -> None:
    async with Store.open(url) as store:
        pass

    with pytest.raises(StoreError, match=r"^The database is closed: the bot stops\.$"):
        await work(store)


@pytest.mark.parametrize("error", [None, KeyError("a bug")], ids=["ended", "failed"])
async def test_a_read_under_way_when_the_store_closes_is_finished(
    url: str, error: Exception | None
) -> None:
    with contextlib.suppress(KeyError):
        async with Store.open(url) as store:
            job = await kept(store, 1)
            reading = asyncio.create_task(store.get(job.id))
            await asyncio.sleep(0)
            if error:
                raise error

    assert await reading == job


async def test_a_read_whose_caller_is_cancelled_gives_its_connection_back(url: str) -> None:
    returned: list[object] = []
    async with Database.open(url) as database:
        engine = database._engine.engine
        sa.event.listen(engine, "checkin", lambda *each: returned.append(each))
        reading = asyncio.create_task(Store(database).get("any"))
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait({reading})

    assert reading.cancelled()
    assert len(returned) == 1


async def test_many_writers_take_turns(store: Store) -> None:
    added = await asyncio.gather(*(store.add(numbered(number)) for number in range(40)))

    assert all(added)
    assert len(await store.unacknowledged()) == 40


async def test_two_stores_share_one_file(url: str, sqlite_store: Store) -> None:
    async with Store.open(url) as other:
        job = await kept(other, 1)

        assert await sqlite_store.get(job.id) == job


async def test_a_commit_is_on_the_disk(url: str) -> None:
    async with Database.open(url) as database:
        pragmas = [sa.text(f"PRAGMA {name}") for name in ("journal_mode", "synchronous")]
        journal, synchronous = [(await database.execute(each)).scalar_one() for each in pragmas]

    assert (journal, synchronous) == ("wal", 2)


async def test_the_migrations_make_exactly_the_schema_of_the_code(url: str, tmp_path: Path) -> None:
    async with Store.open(url):
        pass
    migrated, created = (
        sa.create_engine(each) for each in (url, f"sqlite:///{tmp_path}/created.db")
    )

    with migrated.connect() as one, created.connect() as other:
        metadata.create_all(other)
        differences = compare_metadata(MigrationContext.configure(one), metadata)
        schemas = [shape(each) for each in (one, other)]
    migrated.dispose()
    created.dispose()

    assert differences == []
    assert schemas[0] == schemas[1]


def shape(connection: sa.Connection) -> dict[str, Any]:
    found = sa.inspect(connection)
    return {
        table: {
            "columns": [
                {**column, "type": str(column["type"])} for column in found.get_columns(table)
            ],
            "indexes": sorted(
                [each["name"], each["column_names"], *map(str, each["dialect_options"].values())]
                for each in found.get_indexes(table)
            ),
            "unique": sorted(found.get_unique_constraints(table), key=str),
            "key": found.get_pk_constraint(table)["constrained_columns"],
        }
        for table in metadata.tables
    }


async def complaint(url: str) -> str:
    with pytest.raises(StoreError) as caught:
        async with Store.open(url):
            pass
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


OTHER_ENGINE = (
    "`database` must be a SQLite file, such as sqlite:///data/comfycord.db, or "
    "postgresql://USER@HOST/DATABASE."
)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("data/comfycord.db", "`database` looks like sqlite:///data/comfycord.db."),
        ("mysql://localhost/comfycord", OTHER_ENGINE),
        ("postgresql://localhost", OTHER_ENGINE),
        ("sqlite://", OTHER_ENGINE),
        ("sqlite://data/comfycord.db", OTHER_ENGINE),
    ],
    ids=["only a path", "another engine", "no database", "no file", "two slashes"],
)
async def test_a_wrong_address_is_answered_with_a_right_one(url: str, expected: str) -> None:
    assert await complaint(url) == expected


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    message = await complaint(f"sqlite:///{tmp_path}/file/jobs.db")

    assert message.startswith(f"The folder of {tmp_path}/file/jobs.db cannot be made: ")


async def test_a_database_of_something_else_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE jobs (company TEXT)")
    connection.close()

    message = await complaint(f"sqlite:///{path}")

    assert message == (
        f"The database sqlite:///{path} cannot be opened: table jobs already exists."
    )


async def test_a_database_of_a_newer_version_is_left_alone(url: str, tmp_path: Path) -> None:
    async with Store.open(url):
        pass
    with contextlib.closing(sqlite3.connect(tmp_path / "data/jobs.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()

    message = await complaint(url)

    assert message == (
        f"The database {url} was written by a newer Comfycord. Update the bot, or name another one."
    )


async def test_a_folder_in_place_of_the_file_is_named(tmp_path: Path) -> None:
    message = await complaint(f"sqlite:///{tmp_path}")

    assert message == (
        f"The database sqlite:///{tmp_path} cannot be opened: unable to open database file."
    )


async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "holiday.jpg"
    path.write_bytes(b"a picture " * 1000)

    message = await complaint(f"sqlite:///{path}")

    assert message == f"The database sqlite:///{path} cannot be opened: file is not a database."
    assert path.read_bytes() == b"a picture " * 1000


async def test_a_database_that_does_not_work_now_works_again_later(
    sqlite_store: Store, url: str
) -> None:
    job = await kept(sqlite_store, 1)
    with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as other:
        other.execute("ALTER TABLE jobs RENAME TO away")
        other.commit()
        with pytest.raises(StoreError, match=r"^The database does not work now: no such table"):
            await sqlite_store.get(job.id)
        with pytest.raises(StoreError, match=r"^The database does not work now: no such table"):
            await sqlite_store.discard(job.id)
        other.execute("ALTER TABLE away RENAME TO jobs")
        other.commit()

    assert await sqlite_store.get(job.id) == job


async def test_a_failed_write_changes_nothing(store: Store) -> None:
    job = a_job(request=numbered(1))
    await store.add(job.request)

    with pytest.raises(sa.exc.IntegrityError):
        await store.save(job, a_job(S.FAILED, request=job.request, attempt=None))

    assert await store.get(job.id) == job


async def test_a_damaged_database_is_told_and_left_alone(url: str, tmp_path: Path) -> None:
    path = Path(url.removeprefix("sqlite:///"))
    async with Store.open(url) as store:
        for number in range(200):
            await store.add(numbered(number, text="x" * 500))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 8192] = b"\xff" * 8192
    path.write_bytes(data)

    message = await complaint(url)

    assert "is damaged. Put a copy of it in its place" in message
    assert path.read_bytes() == bytes(data)


async def test_every_move_that_was_written_is_told_once(store: Store) -> None:
    moves: list[tuple[S, S]] = []
    store.on_move.append(lambda before, after: moves.append((before.state, after.state)))
    job = await kept(store, 1)
    other = await kept(store, 2)

    claimed = await store.claim(job.id, "local", "prompt", NOW)
    assert claimed is not None
    await store.keep(claimed, replace(claimed, attempt=2))
    queued = await store.move(claimed, S.QUEUED)
    late = await store.move(claimed, S.CANCELLED)  # somebody was faster
    await store.move(other, S.CANCELLED)

    assert late == queued
    assert moves == [
        (S.PENDING, S.SUBMITTING),
        (S.SUBMITTING, S.QUEUED),
        (S.PENDING, S.CANCELLED),
    ]
