"""PostgreSQL: an engine, locks that processes share, and what they tell each other."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from bot.errors import StoreError

_Answer = TypeVar("_Answer")
log = logging.getLogger(__name__)

CHANNEL = "comfycord"
_LOCKS = 0x436F6D66  # with a key behind it: no other program's locks are ours
_CONNECT, _ANSWER = 10.0, 30.0  # seconds
_LOOK_EVERY, _AGAIN = 20.0, 1.0  # seconds: a connection that hears nothing may be dead


class Postgres:
    def __init__(self, url: sa.URL) -> None:
        mode = url.query.get("sslmode")  # as other programs call what asyncpg calls ssl
        if mode is not None:
            url = url.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
        self._url = url
        try:
            self.engine = create_async_engine(
                url.set(drivername="postgresql+asyncpg"),
                pool_size=10,
                pool_timeout=_CONNECT,
                connect_args={"timeout": _CONNECT, "command_timeout": _ANSWER},
            )
        except ModuleNotFoundError as error:
            raise StoreError("For PostgreSQL install Comfycord as comfycord[postgres].") from error
        sa.event.listen(self.engine.sync_engine, "checkout", _check_open)
        self._autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    def __str__(self) -> str:
        return self._url.render_as_string(hide_password=True)

    async def transact(
        self, act: Callable[[sa.Connection], _Answer], *, single: bool = False, durable: bool = True
    ) -> _Answer:
        """*single*: of one statement, which needs no BEGIN and COMMIT, so one trip. All are
        *durable*, as the server's `synchronous_commit` has it: not to be takes a trip more."""
        if single:
            async with self._autocommit.connect() as connection:
                return await connection.run_sync(act)
        async with self.engine.begin() as connection:
            return await connection.run_sync(act)

    async def close(self) -> None:
        await self.engine.dispose()

    def message(self, what: str) -> sa.Executable:
        return sa.select(sa.func.pg_notify(CHANNEL, what))

    async def listen(self, hear: Callable[[str], None]) -> None:
        """For ever: what others tell, and "" after each gap."""
        while True:
            try:
                async with self.engine.connect() as connection:
                    raw: Any = (await connection.get_raw_connection()).driver_connection
                    await raw.add_listener(CHANNEL, lambda *told: hear(told[-1]))
                    hear("")
                    try:
                        while True:
                            await asyncio.sleep(_LOOK_EVERY)
                            await raw.execute("SELECT 1", timeout=_CONNECT)
                    finally:
                        await connection.invalidate()  # a listener does not go back to the pool
            except asyncio.CancelledError:
                raise
            except Exception as error:  # asyncpg's own are of no common kind
                log.warning("other processes are not heard: %s", error)
            await asyncio.sleep(_AGAIN)


def _check_open(connection: Any, _record: object, _proxy: object) -> None:
    """After a restart of PostgreSQL no statement fails for it. To ask it would be three trips."""
    if connection.driver_connection.is_closed():
        raise sa.exc.DisconnectionError


def lock(key: int) -> sa.Executable:
    """Until the end of the transaction."""
    return sa.select(sa.func.pg_advisory_xact_lock(_LOCKS, key))


def now() -> sa.ColumnElement[float]:
    """Seconds since 1970, by the one clock that processes share."""
    return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Float)
