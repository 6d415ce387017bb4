"""The line: jobs that wait in our queue, in the order of their turns. SQL."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from bot.database import Database
from bot.fairness import Share, fair_turn
from bot.jobs import ON_SERVER, Job, JobState, Request
from bot.people import bans_of
from bot.requests import Usage
from bot.tables import in_queue, is_pending, is_unfinished, job_of, jobs, progress_row, request_row

_DAY = timedelta(days=1)
_ADDING = 1  # the key of the lock that processes share
_CAME_TO_NOTHING = (JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED)
OPEN_STATES = [state for state in JobState if not state.final]
_IN_LINE = (jobs.c.relaxed.asc(), jobs.c.turn.asc(), jobs.c.number.asc())
_this = jobs.alias()  # made once: its columns take longer than a query
_was_sent = jobs.c.submitted_at.is_not(None)
Decide = Callable[[bool, Usage], Share]
"""Whether somebody is banned, and what was asked for → the share; or an error for the person."""


def _anybody(banned: bool, usage: Usage) -> Share:
    return Share(1.0)


class Place(NamedTuple):
    """1 for the next to run; *ahead*: seconds that those before it take an average server."""

    number: int
    ahead: float


class InLine(NamedTuple):
    """*cost*, *relaxed*: see `Share`."""

    id: str
    user_id: int
    turn: float
    cost: float
    relaxed: bool


class Waiting(NamedTuple):
    """How many wait; *first_place*: of the person's next one, 0 if there is none."""

    everybody: int
    mine: int
    first_place: int


class Turns:
    def __init__(self, database: Database) -> None:
        self.database = database
        self._write, self._execute = database.write, database.execute
        self.on_move: list[Callable[[Job, Job], None]] = []

    def moved(self, before: Job, after: Job) -> None:
        """A job stands in another state than before."""
        for each in self.on_move:
            each(before, after)

    async def tell(self, job_id: str) -> None:
        """All processes, that it changed."""
        await self.database.tell(job_id)

    async def add(self, request: Request, decide: Decide = _anybody) -> Place | None:
        """A row for a request that is not acknowledged yet. None: this interaction is known.

        What *decide* is told stays true until the row is there, in all processes: else ten requests
        at once would each see a limit unreached. It runs in another thread.
        """
        row = request_row(request) | progress_row(Job(request=request))
        row |= {"process": self.database.process}

        def act(connection: sa.Connection) -> Place:
            ask = connection.execute
            banned = bool(ask(bans_of(request.user_id, request.guild_id)).scalar_one())
            usage: Any = ask(_usage(request.user_id, request.created_at)).one()
            share = decide(banned, Usage(*usage))
            turns: Any = ask(_turns(request.user_id, relaxed=share.relaxed)).one()
            turn = fair_turn(*turns)
            ask(sa.insert(jobs).values(**row, **share._asdict(), turn=turn))
            return _placed(ask(_places(request.id)).all())

        try:
            return await self.database.alone(_ADDING, act)
        except sa.exc.IntegrityError:
            return None

    async def settle(self, job: Job) -> None:
        """What it really took counts: the waiting jobs of its person move by the difference."""
        if job.seconds is None:
            return
        more = (job.seconds - _this.c.cost) / _this.c.weight
        moved = jobs.c.turn + sa.select(more).where(_this.c.id == job.id).scalar_subquery()
        lane = sa.select(_this.c.relaxed).where(_this.c.id == job.id).scalar_subquery()
        theirs = (jobs.c.user_id == job.request.user_id) & (jobs.c.relaxed == lane)
        await self._write(
            sa.update(jobs).where(is_pending, theirs).values(turn=moved),
            sa.update(jobs).where(jobs.c.id == job.id).values(cost=job.seconds),
        )

    async def acknowledge(self, job_id: str, message_id: int) -> None:
        """Discord shows the placeholder: from here on the request is a job."""
        await self._write(sa.update(jobs).where(jobs.c.id == job_id).values(message_id=message_id))
        await self.database.tell("")

    async def claim(self, job_id: str, server: str, prompt_id: str, now: datetime) -> Job | None:
        """For this process; None: it does not wait any more, or somebody else is about to."""
        free = sa.select(jobs.c.number).where(jobs.c.id == job_id, is_pending)
        claimed = {
            "state": str(JobState.SUBMITTING),
            "server": server,
            "prompt_id": prompt_id,
            "attempt": jobs.c.attempt + 1,
            "submitted_at": now.timestamp(),
            "process": self.database.process,
        }
        mine = jobs.c.number.in_(free.with_for_update(skip_locked=True))
        if not await self._write(sa.update(jobs).where(mine).values(**claimed)):
            return None
        job = await self._one(jobs.c.id == job_id)
        if job is not None:
            self.moved(replace(job, state=JobState.PENDING), job)
        return job

    async def line(self, limit: int, offset: int = 0) -> list[InLine]:
        """The next first."""
        what = (jobs.c.id, jobs.c.user_id, jobs.c.turn, jobs.c.cost, jobs.c.relaxed)
        query = sa.select(*what).where(is_pending)
        query = query.order_by(*_IN_LINE).limit(limit).offset(offset)
        rows: Any = (await self._execute(query)).all()
        return [InLine(*row) for row in rows]

    async def loads(self) -> dict[str, float]:
        """By server: seconds that the jobs on it take an average one."""
        on_server = is_unfinished & jobs.c.state.in_(ON_SERVER)
        query = sa.select(jobs.c.server, sa.func.sum(jobs.c.cost)).where(on_server)
        rows: Any = (await self._execute(query.group_by(jobs.c.server))).all()
        return {row[0]: row[1] for row in rows}

    async def pending(self, limit: int) -> list[Job]:
        """The same, whole."""
        return await self._many(is_pending, order=_IN_LINE, limit=limit)

    async def get_all(self, ids: Collection[str]) -> list[Job]:
        """In no order; those that are gone are left out."""
        return await self._many(jobs.c.id.in_(ids), order=jobs.c.number.asc()) if ids else []

    async def pending_since(self, moment: datetime) -> list[Job]:
        """Those that were asked for before."""
        old = jobs.c.created_at < moment.timestamp()
        return await self._many(is_pending, old, order=_IN_LINE)

    async def place(self, job: Job) -> Place:
        """Those count that Discord is about to show: of ten who ask at once each has its own."""
        rows: Any = (await self._execute(_places(job.id))).all()
        return _placed(rows)

    async def waiting(self, user_id: int) -> Waiting:
        """Of our own queue."""
        mine = jobs.c.user_id == user_id
        count = sa.select(sa.func.count(), sa.func.count().filter(mine)).select_from(jobs)
        row: Any = (await self._execute(count.where(is_pending))).one()
        first = await self._many(is_pending, mine, order=_IN_LINE, limit=1) if row[1] else []
        return Waiting(row[0], row[1], (await self.place(first[0])).number if first else 0)

    async def usage(self, user_id: int, now: datetime) -> Usage:
        """Jobs that Discord has not shown yet count: ten commands at once are ten."""
        return Usage(*(await self._execute(_usage(user_id, now))).one())

    async def most_used(
        self, guild_id: int, since: datetime, limit: int
    ) -> list[tuple[int, float]]:
        """Members of a Discord server with their GPU seconds, the most first."""
        used = sa.func.sum(jobs.c.seconds)
        here = (jobs.c.guild_id == guild_id) & (jobs.c.created_at > since.timestamp())
        query = sa.select(jobs.c.user_id, used).where(here, jobs.c.seconds.is_not(None))
        query = query.group_by(jobs.c.user_id).order_by(used.desc()).limit(limit)
        rows: Any = (await self._execute(query)).all()
        return [(row[0], row[1]) for row in rows]

    async def _one(self, *where: sa.ColumnElement[bool]) -> Job | None:
        found = await self._many(*where, order=jobs.c.number.desc(), limit=1)
        return found[0] if found else None

    async def _many(
        self,
        *where: sa.ColumnElement[bool],
        order: sa.ColumnElement[Any] | Sequence[sa.ColumnElement[Any]],
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Job]:
        columns = order if isinstance(order, Sequence) else [order]
        query = sa.select(jobs).where(*where).order_by(*columns).limit(limit).offset(offset)
        return [job_of(row) for row in (await self._execute(query)).all()]

    async def _count(self, *where: sa.ColumnElement[bool]) -> int:
        query = sa.select(sa.func.count()).select_from(jobs).where(*where)
        return int((await self._execute(query)).scalar_one())


def _turns(user_id: int, *, relaxed: bool) -> sa.Select[Any]:
    """Of the job that was sent last, of the next one, and where this person's last one ends."""
    lane = jobs.c.relaxed == relaxed
    sent = sa.select(jobs.c.turn).where(_was_sent, lane).order_by(jobs.c.submitted_at.desc())
    waiting = sa.select(jobs.c.turn).where(is_pending, lane).order_by(*_IN_LINE)
    # What was cancelled while it waited took nothing.
    counts = (jobs.c.user_id == user_id) & (jobs.c.state.not_in(_CAME_TO_NOTHING) | _was_sent)
    end = jobs.c.turn + jobs.c.cost / jobs.c.weight
    mine = sa.select(end).where(counts, lane).order_by(jobs.c.number.desc())
    return sa.select(*(each.limit(1).scalar_subquery() for each in (sent, waiting, mine)))


def _places(job_id: str) -> sa.CompoundSelect[Any]:
    """Of what is before it: how many, and their cost."""
    lane, turn, number = (
        sa.select(each).where(_this.c.id == job_id).scalar_subquery()
        for each in (_this.c.relaxed, _this.c.turn, _this.c.number)
    )
    earlier = (  # stretches of the index: a comparison of all three columns reads each row
        jobs.c.relaxed < lane,
        (jobs.c.relaxed == lane) & (jobs.c.turn < turn),
        (jobs.c.relaxed == lane) & (jobs.c.turn == turn) & (jobs.c.number < number),
    )
    count, ahead = sa.func.count(), sa.func.coalesce(sa.func.sum(jobs.c.cost), 0.0)
    query = sa.select(count, ahead).select_from(jobs).where(in_queue)
    return sa.union_all(*map(query.where, earlier))


def _placed(rows: Sequence[Any]) -> Place:
    return Place(1 + sum(row[0] for row in rows), sum(row[1] for row in rows))


def _usage(user_id: int, now: datetime) -> sa.Select[Any]:
    mine = jobs.c.user_id == user_id
    day = mine & (jobs.c.created_at > (now - _DAY).timestamp())
    count, spent = sa.func.count(), sa.func.coalesce(sa.func.sum(jobs.c.seconds), 0.0)
    return sa.select(
        *(
            sa.select(each).select_from(jobs).where(where).scalar_subquery()
            for each, where in (
                (count, mine & jobs.c.state.in_(OPEN_STATES)),
                (count, in_queue),
                (count, day & jobs.c.state.not_in(_CAME_TO_NOTHING)),
                (spent, day),
            )
        )
    )
