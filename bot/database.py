"""An open database: brought to today's schema, and every write a transaction of its own.

SQLite serves one process, PostgreSQL as many as there are.
"""

import asyncio
import contextlib
import sqlite3
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from pathlib import Path
from typing import Any, TypeVar

import alembic.command
import alembic.config
import alembic.util
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bot.errors import StoreError
from bot.postgres import CHANNEL, listen, lock, postgres_engine
from bot.sqlite import back_up, sqlite_engine
from bot.tables import ALONE

_LOCKED = 30.0  # seconds, for which another program may write
_MIGRATING = 0  # the key of the lock that processes share
_OURS = (sa.exc.IntegrityError, sa.exc.ProgrammingError, sa.exc.DataError)
_Answer = TypeVar("_Answer")
Write = sa.Insert | sa.Update | sa.Delete


class Database:
    """*shared*: other processes may use it too. *process*: what this one is called in its rows."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._closed = False
        self._writing = asyncio.Lock()
        self._under_way: set[asyncio.Task[Any]] = set()
        self.shared = engine.dialect.name != "sqlite"
        self.process = str(uuid.uuid4()) if self.shared else ALONE

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator["Database"]:
        """*url* as in config.yaml. The file and its folder are made, the schema brought up."""
        engine = _engine(url)
        shown = engine.url.render_as_string(hide_password=True).replace("+aiosqlite", "")
        shown = shown.replace("+asyncpg", "")
        try:
            try:
                async with engine.connect() as connection:
                    await connection.run_sync(_upgrade)
                    await connection.commit()
            except alembic.util.CommandError as error:
                raise StoreError(
                    f"The database {shown} was written by a newer Comfycord. "
                    "Update the bot, or name another one."
                ) from error
            except (sa.exc.DBAPIError, OSError) as error:
                cause = getattr(error, "orig", error)
                raise StoreError(f"The database {shown} cannot be opened: {cause}.") from error
            database = cls(engine)
            try:
                yield database
            finally:
                database._closed = True
                await asyncio.gather(*database._under_way, return_exceptions=True)
        finally:
            await engine.dispose()

    async def write(self, *statements: Write) -> int:
        """In one transaction; how many rows the first one changed."""

        async def execute(connection: AsyncConnection) -> int:
            done = [await connection.execute(each) for each in statements]
            return done[0].rowcount

        # One after the other: writers that meet in SQLite sleep before they try again.
        async with nullcontext() if self.shared else self._writing:
            return await self.whole(execute)

    async def execute(self, statement: sa.Executable) -> sa.CursorResult[Any]:
        return await self.whole(lambda connection: connection.execute(statement))

    async def checkpoint(self) -> None:
        """What was deleted leaves SQLite's log too."""
        if self.shared:
            return
        with contextlib.suppress(sa.exc.OperationalError, sqlite3.OperationalError):
            async with self._engine.connect() as connection:
                raw: Any = (await connection.get_raw_connection()).driver_connection
                await raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    # Between processes

    def locked(self, key: int) -> AbstractAsyncContextManager[object]:
        """Inside, no other process is inside."""
        return self._locked(key) if self.shared else nullcontext()

    @asynccontextmanager
    async def _locked(self, key: int) -> AsyncIterator[None]:
        with _worded():
            connection = await self._engine.connect()
        try:
            with _worded():
                await connection.execute(lock(key))
            yield
        finally:  # with its transaction, in which nothing was written
            with contextlib.suppress(sa.exc.DBAPIError, OSError):
                await connection.close()

    async def tell(self, what: str) -> None:
        """Everybody who listens, this process too. Lost where nobody does."""
        if self.shared:
            await self.execute(sa.select(sa.func.pg_notify(CHANNEL, what)))

    async def listen(self, hear: Callable[[str], None]) -> None:
        """For ever; *hear* also gets "" after a time in which something may have been missed."""
        if self.shared:
            await listen(self._engine, hear)

    async def whole(self, act: Callable[[AsyncConnection], Awaitable[_Answer]]) -> _Answer:
        """In one transaction that a cancelled caller does not interrupt: it is whole or not at all,
        and its connection goes back to the pool."""
        if self._closed:
            raise StoreError("The database is closed: the bot stops.")

        async def execute() -> _Answer:
            clock = asyncio.get_running_loop().time
            end = clock() + _LOCKED
            while True:
                try:
                    with _worded():
                        async with self._engine.begin() as connection:
                            return await act(connection)
                except StoreError as error:
                    if self._closed or "locked" not in str(error) or clock() > end:
                        raise

        task = asyncio.create_task(execute())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)


@contextmanager
def _worded() -> Iterator[None]:
    """Locked, full, gone: it may pass."""
    try:
        yield
    except _OURS:
        raise
    except (sa.exc.DBAPIError, sa.exc.TimeoutError, OSError, TimeoutError) as error:
        cause = getattr(error, "orig", error)
        raise StoreError(f"The database does not work now: {cause}.") from error


def _engine(url: str) -> AsyncEngine:
    try:
        parsed = make_url(url.replace("postgres://", "postgresql://", 1))
    except sa.exc.ArgumentError as error:
        raise StoreError("`database` looks like sqlite:///data/comfycord.db.") from error
    if parsed.get_backend_name() == "postgresql" and parsed.database:
        return postgres_engine(parsed)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.host:
        raise StoreError(
            "`database` must be a SQLite file, such as sqlite:///data/comfycord.db, or "
            "postgresql://USER@HOST/DATABASE."
        )
    return sqlite_engine(parsed, Path(parsed.database))


def _upgrade(connection: sa.Connection) -> None:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    sqlite = connection.dialect.name == "sqlite"
    if not sqlite:  # of several processes that start at once, one does it
        connection.execute(lock(_MIGRATING))
    scripts = ScriptDirectory.from_config(config)
    head = scripts.get_current_head()
    found = MigrationContext.configure(connection).get_current_revision()
    if sqlite and found != head and found in {each.revision for each in scripts.walk_revisions()}:
        back_up(Path(str(connection.engine.url.database)), f"before-{head}")
    alembic.command.upgrade(config, "head")
