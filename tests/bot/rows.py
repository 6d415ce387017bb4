"""Jobs in a database, told apart by their numbers."""

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import sqlalchemy as sa

import bot.database
from bot.jobs import Job, JobState, Request
from bot.store import Store
from tests.bot.builders import a_request

S = JobState


def numbered(number: int, **changes: Any) -> Request:
    """Requests that differ from each other in all that must differ."""
    job_id = f"{number:08}-0000-4000-8000-000000000000"
    return a_request(id=job_id, interaction_id=number, **changes)


async def kept(store: Store, number: int, state: S = S.PENDING, **so: Any) -> Job:
    """A job of that state in the database, acknowledged unless *message_id* is None.

    *so*: of the request or of the job.
    """
    asked = {name: so.pop(name) for name in Request.__slots__ if name in so}
    request = numbered(number, **asked)
    job = Job(request=request, **({"message_id": number} | so))
    assert await store.add(request)
    if job.message_id is not None:
        await store.acknowledge(job.id, job.message_id)
    after = Job(request=request, state=state, **({"message_id": number} | so))
    assert await store.save(Job(request=request), after)
    return after


def ids(jobs: list[Job]) -> list[int]:
    return [job.request.interaction_id for job in jobs]


def an_old_database(url: str, revision: str, *rows: dict[str, Any]) -> dict[str, set[str]]:
    """A database as an earlier Comfycord left it, with a job for each of *rows*.

    Its tables and their columns.
    """
    path = Path(url.removeprefix("sqlite:///"))
    path.parent.mkdir()
    _migrate(url, revision)
    with contextlib.closing(sqlite3.connect(path)) as old:
        for number, changes in enumerate(rows, 1):
            row = _old_row(number) | changes
            names, marks = ", ".join(row), ", ".join("?" * len(row))
            old.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})", list(row.values()))  # noqa: S608
        old.commit()
        tables = [name for (name,) in old.execute("SELECT name FROM sqlite_master")]
        return {
            table: {name for _, name, *_ in old.execute(f"PRAGMA table_info({table})")}
            for table in tables
        }


def _old_row(number: int) -> dict[str, Any]:
    """As a waiting job was stored up to revision 0003."""
    asked = numbered(number)
    return {
        "id": asked.id, "interaction_id": asked.interaction_id, "guild_id": asked.guild_id,
        "channel_id": asked.channel_id, "user_id": asked.user_id, "workflow": asked.workflow,
        "text": asked.text, "settings": json.dumps(asked.settings),
        "graph": json.dumps(asked.graph), "created_at": asked.created_at.timestamp(),
        "state": "pending", "attempt": 0, "outputs": "[]", "texts": "[]", "note": "", "parts": 0,
        "told": 0,
    }  # fmt: skip


def _migrate(url: str, revision: str) -> None:
    config = alembic.config.Config()
    folder = Path(bot.database.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, revision)
        connection.commit()
    engine.dispose()
