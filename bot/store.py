"""The only SQL. Every change of a job is a compare-and-set on its state, committed at once."""

import contextlib
import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from bot.audit import Change
from bot.database import Database
from bot.fairness import fair_turn
from bot.jobs import Job, JobState, Request
from bot.people import DEAD, People, Token, token_of
from bot.requests import Usage
from bot.tables import (
    audit,
    change_of,
    defaults,
    drafts,
    job_of,
    jobs,
    presets,
    progress_row,
    request_row,
    tokens,
)
from bot.wishes import Wish

log = logging.getLogger(__name__)

_DAY = timedelta(days=1)
_CAME_TO_NOTHING = (JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED)
_OPEN_STATES = [state for state in JobState if not state.final]
_FINAL_STATES = [state for state in JobState if state.final]
_is_pending = (jobs.c.state == JobState.PENDING) & jobs.c.message_id.is_not(None)
_IN_LINE = (jobs.c.turn.asc(), jobs.c.number.asc())
_was_sent = jobs.c.submitted_at.is_not(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """*guild_id*: only from this Discord server."""

    user_id: int
    guild_id: int | None = None
    workflow: str | None = None
    text: str | None = None


class Waiting(NamedTuple):
    """How many wait; *first_place*: of the person's next one, 0 if there is none."""

    everybody: int
    mine: int
    first_place: int


class Store(People):
    """Jobs in a database. Open one with `Store.open(url)`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._checkpoint = database.checkpoint

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator["Store"]:
        """*url* as in config.yaml. The file and its folder are made, the schema brought up."""
        async with Database.open(url) as database:
            yield cls(database)

    async def add(self, request: Request, cost: float = 1.0) -> bool:
        """A row for a request that is not acknowledged yet. False: this interaction is known.

        *cost*: the GPU seconds that it is expected to take, less for who may have more of them.
        """
        row = request_row(request) | progress_row(Job(request=request))
        turn = fair_turn(*await self._turns(request.user_id))
        try:
            await self._write(sa.insert(jobs).values(**row, turn=turn, cost=cost))
        except sa.exc.IntegrityError:
            return False
        return True

    async def _turns(self, user_id: int) -> tuple[float | None, float | None, float | None]:
        """Of the job that was sent last, of the next one, and where this person's last one ends."""
        sent = sa.select(jobs.c.turn).where(_was_sent).order_by(jobs.c.submitted_at.desc())
        waiting = sa.select(sa.func.min(jobs.c.turn)).where(_is_pending)
        # What was cancelled while it waited took nothing.
        counts = (jobs.c.user_id == user_id) & (jobs.c.state.not_in(_CAME_TO_NOTHING) | _was_sent)
        mine = sa.select(jobs.c.turn + jobs.c.cost).where(counts).order_by(jobs.c.number.desc())
        found = (sent.limit(1), waiting, mine.limit(1))
        row: Any = (await self._execute(sa.select(*(e.scalar_subquery() for e in found)))).one()
        return row[0], row[1], row[2]

    async def acknowledge(self, job_id: str, message_id: int) -> None:
        """Discord shows the placeholder: from here on the request is a job."""
        await self._write(sa.update(jobs).where(jobs.c.id == job_id).values(message_id=message_id))

    async def discard(self, job_id: str) -> None:
        """The person saw the command fail, so nothing may come of it."""
        await self.drop_token(job_id)
        await self._write(sa.delete(jobs).where(jobs.c.id == job_id, jobs.c.message_id.is_(None)))

    async def save(self, before: Job, after: Job) -> bool:
        """False: somebody moved the job in the meantime (a cancel), and nothing was written."""
        result = await self._write(
            sa.update(jobs)
            .where(jobs.c.id == before.id, jobs.c.state == before.state)
            .values(**progress_row(after))
        )
        return result == 1

    async def keep(self, before: Job, after: Job) -> Job:
        """The job as it then is: another hand (a cancel) may have been faster."""
        if await self.save(before, after):
            return after
        return await self.get(before.id) or after

    async def move(self, job: Job, state: JobState, **changes: Any) -> Job:
        """The same for a move to another state, which is logged."""
        moved = await self.keep(job, job.to(state, **changes))
        where = f" on {moved.server}" if moved.server else ""
        user = job.request.user_id
        log.info("job %s of user %s: %s%s", job.short_id, user, moved.state, where)
        return moved

    async def get(self, job_id: str) -> Job | None:
        return await self._one(jobs.c.id == job_id)

    async def find(self, prefix: str, user_id: int | None) -> Job | None:
        """By the first letters of the id, as people see it; the newest if several fit."""
        mine = sa.true() if user_id is None else jobs.c.user_id == user_id
        return await self._one(jobs.c.id.startswith(prefix, autoescape=True), mine)

    async def recent(self, user_id: int, limit: int) -> list[Job]:
        """Newest first."""
        return await self._many(jobs.c.user_id == user_id, order=jobs.c.number.desc(), limit=limit)

    async def search(self, search: Search, limit: int) -> list[Job]:
        """Those with a result, newest first; one that Discord did not let us post is one too."""
        unposted = (jobs.c.state == JobState.FAILED) & (jobs.c.outputs != "[]")
        where = [jobs.c.user_id == search.user_id, (jobs.c.state == JobState.POSTED) | unposted]
        if search.guild_id is not None:
            where += [jobs.c.guild_id == search.guild_id, sa.not_(jobs.c.by_token)]
        if search.workflow is not None:
            where.append(jobs.c.workflow == search.workflow)
        if search.text is not None:
            where.append(jobs.c.text.icontains(search.text, autoescape=True))
        return await self._many(*where, order=jobs.c.number.desc(), limit=limit)

    async def typical_seconds(self, workflow: str | None = None) -> float | None:
        """What the last fifty results took on a server, on average."""
        last = sa.select(jobs.c.seconds).where(
            jobs.c.state == JobState.POSTED, jobs.c.seconds.is_not(None)
        )
        if workflow is not None:
            last = last.where(jobs.c.workflow == workflow)
        last = last.order_by(jobs.c.number.desc()).limit(50)
        query = sa.select(sa.func.avg(last.subquery().c.seconds))
        found: float | None = (await self._execute(query)).scalar_one()
        return found

    async def waiting(self, user_id: int) -> Waiting:
        """Of our own queue."""
        count = sa.select(sa.func.count()).select_from(jobs).where(_is_pending)
        mine = count.where(jobs.c.user_id == user_id)
        query = sa.select(*(each.scalar_subquery() for each in (count, mine)))
        row: Any = (await self._execute(query)).one()
        is_mine = jobs.c.user_id == user_id
        first = await self._many(_is_pending, is_mine, order=_IN_LINE, limit=1)
        return Waiting(row[0], row[1], await self.place(first[0]) if first else 0)

    async def open_of(self, user_id: int) -> list[Job]:
        is_open = jobs.c.state.in_(_OPEN_STATES)
        return await self._many(jobs.c.user_id == user_id, is_open, order=jobs.c.number.asc())

    async def everything_of(self, user_id: int) -> list[dict[str, Any]]:
        """Every row about a person's requests, as it is stored."""
        return await self._rows_of(jobs, user_id)

    async def other_rows_of(self, user_id: int) -> dict[str, list[dict[str, Any]]]:
        """By kind: what a person keeps besides, and did as a moderator."""
        kinds = {"drafts": drafts, "presets": presets, "moderation": audit}
        return {kind: await self._rows_of(table, user_id) for kind, table in kinds.items()}

    async def _rows_of(self, table: sa.Table, user_id: int) -> list[dict[str, Any]]:
        query = sa.select(table).where(table.c.user_id == user_id)
        return [dict(row._mapping) for row in (await self._execute(query)).all()]

    async def forget(self, user_id: int) -> tuple[set[str], int]:
        """Deletes what ended; the files that nobody else uses, and how many requests it was.

        What still runs goes with `forget_over`. The audit log keeps what was done, not by whom.
        """
        mine = jobs.c.user_id == user_id
        await self._write(sa.update(jobs).where(mine).values(forgotten=True))
        for table in (drafts, presets):
            await self._write(sa.delete(table).where(table.c.user_id == user_id))
        await self._write(sa.update(audit).where(audit.c.user_id == user_id).values(user_id=0))
        for side in (audit.c.before, audit.c.after):  # of a ban, which itself stays
            nobody = sa.func.replace(side, f'"{user_id}"', '"0"')
            told = side.contains(f'"{user_id}"')
            await self._write(sa.update(audit).where(told).values({side: nobody}))
        deleted = await self._delete(mine & jobs.c.state.in_(_FINAL_STATES))
        await self._checkpoint()
        return deleted

    async def forget_over(self, job_id: str) -> set[str]:
        """Deletes a job that ended after its person was forgotten; the files nobody else uses."""
        where = (jobs.c.id == job_id) & jobs.c.forgotten & jobs.c.told
        if not await self._count(where & jobs.c.state.in_(_FINAL_STATES)):
            return set()
        files, _ = await self._delete(where)
        await self._checkpoint()
        return files

    async def _delete(self, where: sa.ColumnElement[bool]) -> tuple[set[str], int]:
        used = sa.select(jobs.c.uploads).where(jobs.c.uploads != "[]")
        files = _files_in(await self._execute(used.where(where)))
        ids = sa.select(jobs.c.id).where(where)
        await self._write(sa.delete(tokens).where(tokens.c.job_id.in_(ids)))
        number = await self._write(sa.delete(jobs).where(where))
        if not files:
            return files, number
        wishes = (await self._execute(sa.select(drafts.c.wish))).scalars().all()
        drafted = {n for each in wishes for n in Wish.from_json(json.loads(each)).files.values()}
        return files - _files_in(await self._execute(used)) - drafted, number

    async def pending(self, limit: int, offset: int = 0) -> list[Job]:
        """Those that wait in our queue, the next first."""
        return await self._many(_is_pending, order=_IN_LINE, limit=limit, offset=offset)

    async def pending_since(self, moment: datetime) -> list[Job]:
        """Those that were asked for before."""
        old = jobs.c.created_at < moment.timestamp()
        return await self._many(_is_pending, old, order=jobs.c.number.asc())

    async def in_flight(self) -> list[Job]:
        """Everything that left our queue and still needs a step, oldest first."""
        ended = jobs.c.state.in_(_FINAL_STATES)
        untold = ended & (sa.not_(jobs.c.told) | jobs.c.forgotten)
        moving = jobs.c.state.in_([s for s in _OPEN_STATES if s is not JobState.PENDING])
        acknowledged = jobs.c.message_id.is_not(None)
        return await self._many(acknowledged, moving | untold, order=jobs.c.number.asc())

    async def unacknowledged(self) -> list[Job]:
        """Requests of which a crash hid whether Discord showed the placeholder."""
        return await self._many(jobs.c.message_id.is_(None), order=jobs.c.number.asc())

    async def place(self, job: Job) -> int:
        """1 for the next to run, among those that wait in our queue."""
        own = sa.select(jobs.c.turn, jobs.c.number).where(jobs.c.id == job.id)
        row: Any = (await self._execute(own)).one()
        turn, number = row
        earlier = (jobs.c.turn == turn) & (jobs.c.number < number)
        return 1 + await self._count(_is_pending, (jobs.c.turn < turn) | earlier)

    async def usage(self, user_id: int, now: datetime) -> Usage:
        """Jobs that Discord has not shown yet count: ten commands at once are ten."""
        mine = jobs.c.user_id == user_id
        day = mine & (jobs.c.created_at > (now - _DAY).timestamp())
        count, spent = sa.func.count(), sa.func.coalesce(sa.func.sum(jobs.c.seconds), 0.0)
        query = sa.select(
            *(
                sa.select(each).select_from(jobs).where(where).scalar_subquery()
                for each, where in (
                    (count, mine & jobs.c.state.in_(_OPEN_STATES)),
                    (count, jobs.c.state == JobState.PENDING),
                    (count, day & jobs.c.state.not_in(_CAME_TO_NOTHING)),
                    (spent, day),
                )
            )
        )
        return Usage(*(await self._execute(query)).one())

    async def forget_before(self, moment: datetime) -> set[str]:
        """Deletes what ended before; the files that nobody else uses.

        Of a result that stands in a channel its buttons' needs stay, which is all but the graph.
        """
        ended = jobs.c.state.in_(_FINAL_STATES) & jobs.c.told
        old = ended & (jobs.c.created_at < moment.timestamp())
        shown = (jobs.c.state == JobState.POSTED) & sa.not_(jobs.c.by_token)
        await self._write(sa.update(jobs).where(old & shown).values(graph="{}", texts="[]"))
        files, _ = await self._delete(old & sa.not_(shown))
        return files

    # Answers that only a token reaches

    async def promises(self) -> dict[str, Token]:
        """Of interactions that were deferred, by their ids."""
        query = sa.select(tokens).where(tokens.c.job_id.not_in(sa.select(jobs.c.id)))
        return {row.job_id: token_of(row) for row in (await self._execute(query)).all()}

    async def came_of(self, interaction_id: int) -> Job | None:
        """A request that it made, acknowledged or not."""
        return await self._one(jobs.c.interaction_id == interaction_id)

    async def open_by_token(self) -> list[tuple[Job, datetime]]:
        """With the moment of the newest token."""
        moments = sa.select(tokens.c.job_id, tokens.c.at).where(tokens.c.at > DEAD.timestamp())
        ats = {row.job_id: row.at for row in (await self._execute(moments)).all()}
        untold = jobs.c.by_token & sa.not_(jobs.c.told) & jobs.c.id.in_(ats)
        found = await self._many(untold, order=jobs.c.number.asc())
        return [(job, datetime.fromtimestamp(ats[job.id], UTC)) for job in found]

    # What moderators did

    async def record(self, change: Change) -> None:
        row = {name: getattr(change, name) for name in Change.__slots__}
        row |= {
            "at": change.at.timestamp(),
            "before": json.dumps(change.before, ensure_ascii=False),
            "after": json.dumps(change.after, ensure_ascii=False),
        }
        await self._write(sa.insert(audit).values(**row))

    async def changes(
        self, workflow: str, limit: int, *, until: datetime | None = None
    ) -> list[Change]:
        """Newest first."""
        query = sa.select(audit).where(audit.c.workflow == workflow)
        if until is not None:
            query = query.where(audit.c.at < until.timestamp())
        rows = await self._execute(query.order_by(audit.c.number.desc()).limit(limit))
        return [change_of(row) for row in rows.all()]

    async def default_workflow(self, guild_id: int, channel_id: int | None) -> str | None:
        """Of this channel alone; None: of the whole Discord server."""
        here = (defaults.c.guild_id == guild_id) & (defaults.c.channel_id == (channel_id or 0))
        query = sa.select(defaults.c.workflow).where(here)
        return (await self._execute(query)).scalar_one_or_none()

    async def set_default(
        self, guild_id: int, channel_id: int | None, workflow: str | None
    ) -> None:
        channel = channel_id or 0
        here = (defaults.c.guild_id == guild_id) & (defaults.c.channel_id == channel)
        if workflow is None:
            await self._write(sa.delete(defaults).where(here))
        elif not await self._write(sa.update(defaults).where(here).values(workflow=workflow)):
            row = {"guild_id": guild_id, "channel_id": channel, "workflow": workflow}
            with contextlib.suppress(sa.exc.IntegrityError):  # two moderators at once: the first
                await self._write(sa.insert(defaults).values(**row))

    async def rename_workflow(self, name: str, new: str) -> None:
        """Where it is a default. Jobs and the audit log keep the name of their time."""
        where = defaults.c.workflow == name
        await self._write(sa.update(defaults).where(where).values(workflow=new))

    # Small steps

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


def _files_in(rows: sa.CursorResult[Any]) -> set[str]:
    return {name for (text,) in rows.all() for _, _, name in json.loads(text)}
