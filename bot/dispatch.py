"""Waiting jobs go to servers with room: whose turn it is, and where it is done soonest."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from bot.estimates import Estimates
from bot.jobs import Job
from bot.placement import CHOICES, Hand, Waiting, choice, worth_it
from bot.servers import Server, Servers
from bot.store import Store
from bot.turns import InLine
from comfy.nodes import models_in

_AHEAD = 50  # waiting jobs that are looked at together


class Dispatch:
    def __init__(self, store: Store, servers: Servers, estimates: Estimates) -> None:
        self._store = store
        self._servers = servers
        self._estimates = estimates
        self._known: dict[str, Job] = {}  # of the first in line
        self._able: dict[str, tuple[object, list[Server]]] = {}  # for which state of the servers
        self._loads: dict[str, float] = {}  # of servers: what other processes sent them
        self._passed: dict[str, float] = {}  # jobs that others overtook, since when

    async def claimed(self) -> AsyncIterator[tuple[Job, Server | None]]:
        """Each job that leaves the line, and its server. None: no server can ever run it; it is
        still in the line."""
        passed = 0
        if any(not each.ours for each in self._servers.values()):
            self._loads = await self._store.loads()
        while self._servers.have_room:
            line = await self._store.line(_AHEAD, passed)
            await self._know(line, passed)
            impossible = [each for each in line if self._is_impossible(each)]
            for each in impossible:
                yield self._known[each.id], None
            possible = [each for each in line if each not in impossible and each.id in self._known]
            placed = False
            for server in self._soonest_first(possible):
                if (job := await self._claim_for(server, possible)) is not None:
                    placed = True
                    yield job, server
            if not placed:
                if len(line) < _AHEAD:
                    return
                passed += len(possible)

    async def _know(self, line: list[InLine], passed: int) -> None:
        ids = {each.id for each in line}
        if not passed:
            for memory in (self._known, self._able, self._passed):
                for gone in memory.keys() - ids:
                    del memory[gone]
        for job in await self._store.get_all(ids - self._known.keys()):
            self._known[job.id] = job

    def _is_impossible(self, waits: InLine) -> bool:
        job = self._known.get(waits.id)
        return job is not None and bool(self._servers.missing_everywhere(job.request.graph))

    def _able_for(self, job: Job) -> list[Server]:
        now = self._servers.abilities
        then, able = self._able.get(job.id, (None, []))
        if then != now:
            able = self._servers.able(job.request.graph, job.memory)
            self._able[job.id] = now, able
        return able

    def _soonest_first(self, line: list[InLine]) -> list[Server]:
        cost = line[0].cost if line else 0.0

        def done(server: Server) -> float:
            hand = self.hand(server)
            return hand.busy + cost * hand.pace

        return sorted(self._servers.with_room, key=done)

    def hand(self, server: Server) -> Hand:
        pace = self._estimates.pace(server.name)
        if not server.ours:
            return Hand(self._loads.get(server.name, 0.0) * pace, pace)
        return Hand(server.busy(pace), pace)

    async def _claim_for(self, server: Server, line: list[InLine]) -> Job | None:
        """Takes it out of *line*. What another process claims meanwhile is nothing for us."""
        waiting = sum(each.cost for each in line)
        able = [each for each in line if server in self._able_for(self._known[each.id])]
        while able:
            able = [each for each in able if each.relaxed == able[0].relaxed]
            place = self._choice(server, able[:CHOICES], waiting)
            if place is None:
                return None
            chosen = able.pop(place)
            if not self._is_worth_it(server, chosen, waiting):
                continue
            line.remove(chosen)
            prompt_id, now = str(uuid.uuid4()), datetime.now(UTC)
            job = await self._store.claim(chosen.id, server.name, prompt_id, now)
            known = self._known.pop(chosen.id)
            if job is not None:
                server.loaded = models_in(known.request.graph) or server.loaded
                return job
        return None

    def _choice(self, server: Server, line: list[InLine], cost: float) -> int | None:
        """*cost*: of all that waits."""
        now = asyncio.get_running_loop().time()
        waiting = [
            Waiting(
                models_in(self._known[each.id].request.graph),
                self._passed.get(each.id),
                each.user_id,
                each.turn,
            )
            for each in line
        ]
        takers = [
            other
            for other in self._able_for(self._known[line[0].id])
            if other is not server and other.has_room and not other.holding
        ]
        elsewhere = [o.loaded for o in takers if self._is_worth_it(o, line[0], cost)]
        place = choice(waiting, server.loaded, elsewhere, now)
        if place:
            self._passed.setdefault(line[0].id, now)
        return place

    def _is_worth_it(self, server: Server, chosen: InLine, waiting: float) -> bool:
        able = self._able_for(self._known[chosen.id])
        others = [self.hand(s) for s in able if s is not server and s.up and not s.paused]
        return worth_it(chosen.cost, self.hand(server), others, waiting)
