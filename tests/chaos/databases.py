"""The database of a run: where the bots find it, and how it is read from outside."""

import asyncio
import sqlite3
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import asyncpg

KINDS = ("sqlite", "postgresql")
_MAKING = threading.Lock()


class Database(Protocol):
    url: str

    def rows(self, query: str) -> list[Any]:
        """Empty while there are no tables yet."""

    def close(self) -> None: ...


class Sqlite:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "data" / "jobs.db"
        self.url = f"sqlite:///{self._path}"

    def rows(self, query: str) -> list[Any]:
        if not self._path.exists():
            return []
        uri = f"file:{self._path}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=20)) as connection:
            connection.row_factory = sqlite3.Row
            try:
                return connection.execute(query).fetchall()
            except sqlite3.OperationalError:
                return []

    def close(self) -> None:
        pass


class Postgresql:
    """A new database of this process's server; `restart` is of the whole server."""

    def __init__(self) -> None:
        from tests.fakes.postgres import postgres  # it skips a test where there is no wheel

        with _MAKING:
            self._server = postgres()
            self.url = self._server.ready_database()
        self._thread = ThreadPoolExecutor(1)  # with a loop, as a running one cannot be waited for
        self._loop = asyncio.new_event_loop()
        self._reader: asyncpg.Connection | None = None

    def rows(self, query: str) -> list[Any]:
        return self._wait(self._fetch(query))

    async def restart(self, pause: float) -> None:
        """It breaks off whatever is under way, and is away for *pause* seconds."""
        self._hang_up()
        await asyncio.to_thread(self._server.stop)
        await asyncio.sleep(pause)
        await asyncio.to_thread(self._server.start)

    def close(self) -> None:
        self._hang_up()
        self._thread.shutdown()
        self._loop.close()
        self._server.drop(self.url)

    async def _fetch(self, query: str) -> list[Any]:
        if self._reader is None:
            self._reader = await asyncpg.connect(self.url)
        return list(await self._reader.fetch(query))

    def _hang_up(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            self._wait(reader.close())

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._thread.submit(self._loop.run_until_complete, work).result()


def database_of(kind: str, folder: Path) -> Database:
    return Sqlite(folder) if kind == "sqlite" else Postgresql()
