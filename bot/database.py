"""An open database: brought to today's schema, and every write a transaction of its own.

SQLite serves one process, PostgreSQL as many as there are.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import alembic.command
import alembic.config
import alembic.util
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import make_url

from bot.errors import StoreError
from bot.postgres import Postgres, lock
from bot.sqlite import Sqlite, back_up
from bot.tables import ALONE

_LOCKED = 30.0  # seconds, for which another program may write
_MIGRATING = 0  # the key of the lock that processes share
_OURS = (sa.exc.IntegrityError, sa.exc.ProgrammingError, sa.exc.DataError)
_Answer = TypeVar("_Answer")
Write = sa.Insert | sa.Update | sa.Delete


class _Waiting(NamedTuple):
    statements: Sequence[Write]
    durable: bool
    changed: "asyncio.Future[int]"


class Database:
    """*shared*: other processes may use it too. *process*: what this one is called in its rows."""

    def __init__(self, engine: Sqlite | Postgres) -> None:
        self._engine = engine
        self._closed = False
        self._writing = asyncio.Lock()
        self._waiting: list[_Waiting] = []
        self._under_way: set[asyncio.Task[Any]] = set()
        self.shared = isinstance(engine, Postgres)
        self.process = str(uuid.uuid4()) if self.shared else ALONE

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator["Database"]:
        """*url* as in config.yaml. The file and its folder are made, the schema brought up."""
        engine = await asyncio.to_thread(_engine, url)
        try:
            try:
                await engine.transact(_upgrade)
            except alembic.util.CommandError as error:
                raise StoreError(
                    f"The database {engine} was written by a newer Comfycord. "
                    "Update the bot, or name another one."
                ) from error
            except (sa.exc.DBAPIError, OSError) as error:
                cause = _cause(error)
                raise StoreError(f"The database {engine} cannot be opened: {cause}.") from error
            database = cls(engine)
            try:
                yield database
            finally:
                database._closed = True
                await asyncio.gather(*database._under_way, return_exceptions=True)
        finally:
            await engine.close()

    async def execute(self, statement: sa.Executable) -> sa.Result[Any]:
        """Something that changes nothing."""
        work = self._patiently(
            lambda connection: connection.execute(statement).freeze(), single=True
        )
        return (await self._kept(work))()

    async def write(self, *statements: Write, durable: bool = True) -> int:
        """In one transaction; how many rows the first one changed.

        *durable*: it outlives a loss of power too, with all that was written before it. What does
        not have to is many times faster with SQLite. Of PostgreSQL everything is durable.
        """
        if self.shared:
            single = len(statements) == 1
            work = self._patiently(lambda connection: _written(connection, statements), single)
            return await self._kept(work)
        mine = _Waiting(statements, durable, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        try:
            async with self._writing:
                if mine in self._waiting:
                    lot, self._waiting = self._waiting, []
                    await self._kept(self._commit(lot))
        finally:  # whoever is cancelled before has written nothing
            if mine in self._waiting:
                self._waiting.remove(mine)
        return await mine.changed

    async def _commit(self, lot: list[_Waiting]) -> None:
        """Writers that waited for each other share one commit, which is what takes the time."""

        def commit(connection: sa.Connection) -> list[int | Exception]:
            done: list[int | Exception] = []
            for each in lot:
                try:
                    with connection.begin_nested() if len(lot) > 1 else contextlib.nullcontext():
                        done.append(_written(connection, each.statements))
                except _OURS as error:
                    if len(lot) == 1:
                        raise
                    done.append(error)
            return done

        answers: Sequence[int | Exception]
        try:
            durable = any(each.durable for each in lot)
            answers = await self._patiently(commit, durable=durable)
        except Exception as error:
            answers = [error] * len(lot)
        for (*_, future), answer in zip(lot, answers, strict=True):
            if future.done():  # its caller was cancelled
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
                future.exception()  # the caller may be gone a moment later
            else:
                future.set_result(answer)

    async def whole(self, act: Callable[[sa.Connection], _Answer]) -> _Answer:
        """In one transaction that a cancelled caller does not interrupt: it is whole or not at all,
        and its connection goes back to the pool."""
        return await self._kept(self._patiently(act))

    async def _kept(self, work: Coroutine[Any, Any, _Answer]) -> _Answer:
        if self._closed:
            work.close()
            raise StoreError("The database is closed: the bot stops.")
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _patiently(
        self,
        act: Callable[[sa.Connection], _Answer],
        single: bool = False,
        durable: bool = True,
    ) -> _Answer:
        """*single*: of one statement."""
        clock = asyncio.get_running_loop().time
        end = clock() + _LOCKED
        while True:
            try:
                with _worded():
                    return await self._engine.transact(act, single=single, durable=durable)
            except StoreError as error:
                if self._closed or "locked" not in str(error) or clock() > end:
                    raise

    async def checkpoint(self) -> None:
        """What was deleted leaves SQLite's log too."""
        if isinstance(self._engine, Sqlite):
            await self._engine.checkpoint()

    # Between processes

    async def alone(self, key: int, act: Callable[[sa.Connection], _Answer]) -> _Answer:
        """As `whole`, while nobody else with this key is inside, in no process."""

        def locked(connection: sa.Connection) -> _Answer:
            if self.shared:
                connection.execute(lock(key))
            return act(connection)

        async with self._writing:
            return await self.whole(locked)

    async def tell(self, what: str) -> None:
        """Everybody who listens, this process too. Lost where nobody does."""
        if isinstance(self._engine, Postgres):
            await self.execute(self._engine.message(what))

    async def listen(self, hear: Callable[[str], None]) -> None:
        """For ever; *hear* also gets "" after a time in which something may have been missed."""
        if isinstance(self._engine, Postgres):
            await self._engine.listen(hear)


def _written(connection: sa.Connection, statements: Sequence[Write]) -> int:
    counts = [connection.execute(each).rowcount for each in statements]
    return counts[0]


@contextmanager
def _worded() -> Iterator[None]:
    """Locked, full, gone: it may pass."""
    try:
        yield
    except _OURS:
        raise
    except (sa.exc.DBAPIError, sa.exc.TimeoutError, OSError, TimeoutError) as error:
        raise StoreError(f"The database does not work now: {_cause(error)}.") from error


def _cause(error: Exception) -> str:
    told = getattr(error, "orig", error)
    return str(told) or type(told).__name__  # a timeout says nothing


def _engine(url: str) -> Sqlite | Postgres:
    try:
        parsed = make_url(url.replace("postgres://", "postgresql://", 1))
    except sa.exc.ArgumentError as error:
        raise StoreError("`database` looks like sqlite:///data/comfycord.db.") from error
    if parsed.get_backend_name() == "postgresql" and parsed.database:
        return Postgres(parsed)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.host:
        raise StoreError(
            "`database` must be a SQLite file, such as sqlite:///data/comfycord.db, or "
            "postgresql://USER@HOST/DATABASE."
        )
    return Sqlite(parsed, Path(parsed.database))


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
