"""The file of SQLite: opened and checked, set up for every connection, copied before a change."""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from bot.errors import StoreError

log = logging.getLogger(__name__)

_PATIENCE = 1  # of SQLite itself, which holds up the end of the bot for as long
_NETWORK = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "beegfs",
    "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone",
}  # fmt: skip
_Answer = TypeVar("_Answer")
_CACHE = 512  # KiB of one connection; the system has its own cache of the file


_THREADS = 3  # one that writes, and reads beside it


class Sqlite:
    """*path*: its folder is made. `StoreError` where the file is damaged or cannot be worked on.

    Every transaction is one trip to a thread: an asynchronous driver makes one for every call.
    """

    def __init__(self, url: sa.URL, path: Path) -> None:
        self._url = url
        _check(path)
        self.engine = sa.create_engine(
            url, connect_args={"timeout": _PATIENCE, "check_same_thread": False}
        )
        sa.event.listen(self.engine, "connect", _configure)
        sa.event.listen(self.engine, "begin", _begin)
        self._threads = ThreadPoolExecutor(_THREADS, "database")

    def __str__(self) -> str:
        return str(self._url)

    async def transact(
        self, act: Callable[[sa.Connection], _Answer], *, single: bool = False, durable: bool = True
    ) -> _Answer:
        """*durable* False: the death of the process takes nothing from it, that of the machine may
        take the last ones, as a whole. https://sqlite.org/pragma.html#pragma_synchronous"""

        def work() -> _Answer:
            with self.engine.connect() as connection:
                connection.execution_options(durable=durable)
                with connection.begin():
                    return act(connection)

        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def checkpoint(self) -> None:
        def work() -> None:
            with contextlib.suppress(sa.exc.OperationalError), self.engine.connect() as connection:
                raw: Any = connection.connection.driver_connection
                raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")

        await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        self.engine.dispose()


def _check(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"The folder of {path} cannot be made: {error}.") from error
    if (kind := _network_file_system(path)) is not None:
        raise StoreError(
            f"{path} lies on a network drive ({kind}), where SQLite loses data. "
            "Put `database` on a disk of this machine."
        )
    shown = f"sqlite:///{path}"
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise StoreError(f"The database {shown} cannot be opened: {error}.") from error
    if state != "ok":
        raise StoreError(
            f"The database {shown} is damaged. Put a copy of it in its place, or move it away to "
            "begin with an empty one."
        )


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


def _configure(connection: Any, _record: object) -> None:
    # The driver's own transactions begin at the first write, too late for reads before it.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA secure_delete=ON")
    cursor.execute(f"PRAGMA cache_size=-{_CACHE}")
    cursor.close()
    # SQLite's own knows the letters of ASCII only.
    connection.create_function("lower", 1, lambda text: text and text.lower())


def _begin(connection: sa.Connection) -> None:
    durable = connection.get_execution_options().get("durable", True)
    connection.exec_driver_sql(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
    connection.exec_driver_sql("BEGIN")


def back_up(path: Path, why: str) -> None:
    """`NAME.before-0004` beside the file: an older bot can go on with it."""
    copy, part = path.with_name(f"{path.name}.{why}"), path.with_name(f"{path.name}.{why}.part")
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(part)) as target,
    ):
        source.backup(target)
    part.replace(copy)
    log.info("the database is brought up to date; as it was: %s", copy)
