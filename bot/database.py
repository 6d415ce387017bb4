"""An open database: brought to today's schema, and every statement a transaction of its own."""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import alembic.util
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from bot.errors import StoreError

log = logging.getLogger(__name__)

_LOCKED = 30.0  # seconds, for which another program may write
_PATIENCE = 1  # of SQLite itself, which holds up the end of the bot for as long
_NETWORK = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "beegfs",
    "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone",
}  # fmt: skip
_CACHE = 512  # KiB of one connection; the system has its own cache of the file


class Database:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._closed = False
        self._writing = asyncio.Lock()
        self._under_way: set[asyncio.Task[sa.CursorResult[Any]]] = set()

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator["Database"]:
        """*url* as in config.yaml. The file and its folder are made, the schema brought up."""
        engine = _engine(url)
        try:
            try:
                async with engine.connect() as connection:
                    await connection.run_sync(_upgrade)
                    await connection.commit()
            except sa.exc.DatabaseError as error:
                raise StoreError(f"The database {url} cannot be opened: {error.orig}.") from error
            except alembic.util.CommandError as error:
                raise StoreError(
                    f"The database {url} was written by a newer Comfycord. "
                    "Update the bot, or name another file."
                ) from error
            database = cls(engine)
            try:
                yield database
            finally:
                database._closed = True
                await asyncio.gather(*database._under_way, return_exceptions=True)
        finally:
            await engine.dispose()

    async def write(self, statement: sa.Insert | sa.Update | sa.Delete) -> int:
        """One after the other: writers that meet in SQLite sleep before they try again."""
        async with self._writing:
            return (await self.execute(statement)).rowcount

    async def checkpoint(self) -> None:
        """What was deleted leaves SQLite's log too."""
        with contextlib.suppress(sa.exc.OperationalError, sqlite3.OperationalError):
            async with self._engine.connect() as connection:
                raw: Any = (await connection.get_raw_connection()).driver_connection
                await raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    async def execute(self, statement: sa.Executable) -> sa.CursorResult[Any]:
        """In one transaction that a cancelled caller does not interrupt: it is whole or not at all,
        and its connection goes back to the pool."""

        if self._closed:
            raise StoreError("The database is closed: the bot stops.")

        async def execute() -> sa.CursorResult[Any]:
            clock = asyncio.get_running_loop().time
            end = clock() + _LOCKED
            while True:
                try:
                    async with self._engine.begin() as connection:
                        return await connection.execute(statement)
                except sa.exc.OperationalError as error:  # locked, full, gone: it may pass
                    locked = "locked" in str(error.orig)
                    if self._closed or not locked or clock() > end:
                        told = f"The database does not work now: {error.orig}."
                        raise StoreError(told) from error

        task = asyncio.create_task(execute())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)


def _engine(url: str) -> AsyncEngine:
    try:
        parsed = make_url(url)
    except sa.exc.ArgumentError as error:
        raise StoreError("`database` looks like sqlite:///data/comfycord.db.") from error
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.host:
        raise StoreError("`database` must be a SQLite file, such as sqlite:///data/comfycord.db.")
    try:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"The folder of {parsed.database} cannot be made: {error}.") from error
    if (kind := _network_file_system(Path(parsed.database))) is not None:
        raise StoreError(
            f"{parsed.database} lies on a network drive ({kind}), where SQLite loses data. "
            "Put `database` on a disk of this machine."
        )
    try:  # here, as the driver's thread outlives a failed attempt and complains on its own
        with contextlib.closing(sqlite3.connect(parsed.database)) as connection:
            (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise StoreError(f"The database {url} cannot be opened: {error}.") from error
    if state != "ok":
        raise StoreError(
            f"The database {url} is damaged. Put a copy of it in its place, or move it away to "
            "begin with an empty one."
        )
    engine = create_async_engine(
        parsed.set(drivername="sqlite+aiosqlite"), connect_args={"timeout": _PATIENCE}
    )
    sa.event.listen(engine.sync_engine, "connect", _configure_sqlite)
    sa.event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _network_file_system(path: Path) -> str | None:
    """Its kind, where the system tells (Linux). https://sqlite.org/wal.html, Disadvantages"""
    try:
        told = Path("/proc/mounts").read_text().replace(r"\040", "\0")  # a blank in a path
        mounts = [line.split() for line in told.splitlines()]
    except OSError:
        return None
    folder = path.parent.resolve()
    points = [(point.replace("\0", " "), kind) for _, point, kind, *_ in mounts]
    under = [each for each in points if folder.is_relative_to(each[0])]
    _, kind = max(under, key=lambda each: len(each[0]), default=("", ""))
    return kind if kind in _NETWORK else None


def _configure_sqlite(connection: Any, _record: object) -> None:
    # The driver's own transactions begin at the first write, too late for reads before it.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA secure_delete=ON")
    cursor.execute(f"PRAGMA cache_size=-{_CACHE}")
    cursor.close()
    # SQLite's own knows the letters of ASCII only.
    connection.create_function("lower", 1, lambda text: text and text.lower())


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _upgrade(connection: sa.Connection) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    head = scripts.get_current_head()
    found = MigrationContext.configure(connection).get_current_revision()
    if found != head and found in {each.revision for each in scripts.walk_revisions()}:
        _back_up(Path(str(connection.engine.url.database)), f"before-{head}")
    alembic.command.upgrade(config, "head")


def _back_up(path: Path, why: str) -> None:
    """`NAME.before-0004` beside the file: an older bot can go on with it."""
    copy, part = path.with_name(f"{path.name}.{why}"), path.with_name(f"{path.name}.{why}.part")
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(part)) as target,
    ):
        source.backup(target)
    part.replace(copy)
    log.info("the database is brought up to date; as it was: %s", copy)
