"""The processes that share one database: who lives, and which ComfyUI server is whose.

A process holds its place as long as it says so in time; one that does not is dead, and the others
take over its servers and jobs. One that cannot say so lets go of everything before they may.
"""

import asyncio
import logging
import socket
from collections.abc import Iterable
from typing import NamedTuple

import sqlalchemy as sa

from bot.database import Database
from bot.errors import ConfigError, StoreError
from bot.jobs import ON_SERVER
from bot.postgres import lock, now
from bot.runner import Runner
from bot.servers import Servers
from bot.tables import is_unfinished, jobs, processes, servers, tokens

log = logging.getLogger(__name__)

_CHANGING = 2  # the key of the lock that processes share
_LEASE = 9.0  # seconds after its last word until a process is dead
_EVERY = 2.0  # seconds between two words
_SAFE = 6.0  # seconds after its last word until a process lets go


class Duty(NamedTuple):
    """Names of servers. *surplus*: to be let go, as others have less than their part."""

    servers: frozenset[str]
    surplus: frozenset[str]


class Crew:
    def __init__(self, database: Database, shards: str) -> None:
        """*shards*: those of Discord's that this process serves, such as `0-1/4`."""
        self._database = database
        self._me = database.process
        self._shards = shards
        self._host = socket.gethostname()

    async def join(self) -> None:
        """`ConfigError` while another process serves one of the shards."""
        clock = asyncio.get_running_loop().time
        end = clock() + _LEASE + _EVERY
        while (rival := await self._database.whole(self._enter)) is not None:
            if clock() > end:
                raise ConfigError(
                    f"Another Comfycord on {rival} serves the shards {self._shards} with this "
                    "database. Stop it first, or give this one other shards."
                )
            await asyncio.sleep(_EVERY)

    def _enter(self, connection: sa.Connection) -> str | None:
        connection.execute(lock(_CHANGING))
        # A file on this machine, which we have locked, says that this one is over.
        former = (processes.c.host == self._host) & (processes.c.shards == self._shards)
        connection.execute(sa.update(processes).where(former).values(until=0))
        rivals = (processes.c.shards == self._shards) & (processes.c.until >= now())
        query = sa.select(processes.c.host).where(rivals)
        rival: str | None = (connection.execute(query)).scalars().first()
        if rival is None:
            row = {"id": self._me, "shards": self._shards, "host": self._host}
            connection.execute(sa.insert(processes).values(until=now() + _LEASE, **row))
        return rival

    async def keep(self, known: Servers, runner: Runner) -> None:
        """For ever: say that this process lives, and do what is its part."""
        clock = asyncio.get_running_loop().time
        spoke = clock()
        while True:
            began = clock()
            try:
                async with asyncio.timeout(_SAFE / 2):
                    duty = await self._speak(known)
                    if duty.surplus:
                        await runner.let_go(duty.surplus)
                        await self._release(duty.surplus)
                spoke = began
                ours = {name for name, each in known.items() if each.ours}
                if lost := ours - duty.servers:  # this process counted as dead for a moment
                    await runner.let_go(lost)
                if duty.servers - ours:
                    log.info("this process has the servers %s", ", ".join(sorted(duty.servers)))
                    runner.take(duty.servers)
            except (StoreError, TimeoutError) as error:
                log.warning("other processes cannot be told that this one lives: %s", error)
            if clock() - spoke > _SAFE:
                await runner.halt()
            await asyncio.sleep(_EVERY)

    async def leave(self) -> None:
        """The others take over at once."""
        row = sa.update(processes).where(processes.c.id == self._me).values(until=0)
        await self._database.write(row)

    async def _speak(self, known: Iterable[str]) -> Duty:
        names = set(known)

        def speak(connection: sa.Connection) -> Duty:
            connection.execute(lock(_CHANGING))
            mine = processes.c.id == self._me
            query = sa.select(processes.c.until >= now()).where(mine)
            lived = (connection.execute(query)).scalar_one_or_none()
            if lived is None:
                row = {"id": self._me, "shards": self._shards, "host": self._host}
                connection.execute(sa.insert(processes).values(until=now() + _LEASE, **row))
            else:
                alive = sa.update(processes).where(mine).values(until=now() + _LEASE)
                connection.execute(alive)
            if lived:  # or the database was away for all, and the others only come back
                self._bury(connection)
            return self._part(connection, names)

        return await self._database.whole(speak)

    def _bury(self, connection: sa.Connection) -> None:
        """What dead processes had is from now on ours, but for their servers."""
        gone = sa.delete(processes).where(processes.c.until < now()).returning(processes.c.id)
        dead = (connection.execute(gone)).scalars().all()
        if not dead:
            return
        log.warning("a process is gone: this one goes on with its jobs")
        of_them = jobs.c.process.in_(dead)
        open_jobs = is_unfinished | (jobs.c.state == "pending") | jobs.c.message_id.is_(None)
        connection.execute(sa.update(jobs).where(of_them, open_jobs).values(process=self._me))
        connection.execute(
            sa.update(tokens).where(tokens.c.process.in_(dead)).values(process=self._me)
        )
        connection.execute(
            sa.update(servers).where(servers.c.process.in_(dead)).values(process=None)
        )

    def _part(self, connection: sa.Connection, names: set[str]) -> Duty:
        """An equal part of the servers, and the jobs that are on them."""
        rows = (connection.execute(sa.select(servers.c.name, servers.c.process))).all()
        owner: dict[str, str | None] = {row.name: row.process for row in rows}
        for name in sorted(names - owner.keys()):
            connection.execute(sa.insert(servers).values(name=name))
        count = sa.select(sa.func.count()).select_from(processes)
        part = -(-len(names) // int((connection.execute(count)).scalar_one()))
        mine = sorted(name for name in names if owner.get(name) == self._me)
        free = sorted(name for name in names if owner.get(name) is None)
        taken = free[: max(0, part - len(mine))]
        where = servers.c.name.in_(taken)
        connection.execute(sa.update(servers).where(where).values(process=self._me))
        held = [*mine[:part], *taken]
        on_them = jobs.c.server.in_(held) & jobs.c.state.in_([str(each) for each in ON_SERVER])
        connection.execute(
            sa.update(jobs).where(on_them, jobs.c.process != self._me).values(process=self._me)
        )
        return Duty(frozenset(held), frozenset(mine[part:]))

    async def _release(self, names: Iterable[str]) -> None:
        mine = servers.c.name.in_(list(names)) & (servers.c.process == self._me)
        await self._database.write(sa.update(servers).where(mine).values(process=None))
