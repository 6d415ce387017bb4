"""The only SQL. Every change of a job is a compare-and-set on its state, committed at once."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from bot.database import Database
from bot.estimates import Run
from bot.jobs import Job, JobState
from bot.people import DEAD, People, Token, token_of
from bot.tables import audit, drafts, is_pending, is_unfinished, jobs, presets, progress_row, tokens
from bot.turns import OPEN_STATES, Turns
from bot.wishes import Wish

_FINAL_STATES = [state for state in JobState if state.final]
_TOLD_AGAIN = (JobState.RUNNING, JobState.EXECUTED)  # by the server, or its files
_RUNS = 2000  # of the latest ends, from which is learned how long jobs take


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """*guild_id*: only from this Discord server."""

    user_id: int
    guild_id: int | None = None
    workflow: str | None = None
    text: str | None = None


class Store(Turns, People):
    """Jobs in a database. Open one with `Store.open(url)`."""

    def __init__(self, database: Database) -> None:
        Turns.__init__(self, database)
        People.__init__(self, database)
        self._checkpoint = database.checkpoint
        self._is_mine = jobs.c.process == database.process

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str) -> AsyncIterator["Store"]:
        """*url* as in config.yaml. The file and its folder are made, the schema brought up."""
        async with Database.open(url) as database:
            yield cls(database)

    async def discard(self, job_id: str) -> None:
        """The person saw the command fail, so nothing may come of it."""
        await self.drop_token(job_id)
        await self._write(sa.delete(jobs).where(jobs.c.id == job_id, jobs.c.message_id.is_(None)))

    async def save(self, before: Job, after: Job) -> bool:
        """False: somebody moved the job in the meantime (a cancel), and nothing was written.

        A job that leaves our queue is from then on this process's to follow. What the server tells
        again after a loss of power is not waited for until it is on the disk.
        """
        row = progress_row(after)
        if before.state is JobState.PENDING:
            row["process"] = self.database.process
        result = await self._write(
            sa.update(jobs)
            .where(jobs.c.id == before.id, jobs.c.state == before.state)
            .values(**row),
            durable=after.state not in _TOLD_AGAIN or len(after.messages) > 1,
        )
        if result == 1 and after.state is not before.state:
            self.moved(before, after)
        return result == 1

    async def keep(self, before: Job, after: Job) -> Job:
        """The job as it then is: another hand (a cancel) may have been faster."""
        if await self.save(before, after):
            return after
        return await self.get(before.id) or after

    async def move(self, job: Job, state: JobState, **changes: Any) -> Job:
        """The same for a move to another state."""
        return await self.keep(job, job.to(state, **changes))

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

    async def open_of(self, user_id: int) -> list[Job]:
        is_open = jobs.c.state.in_(OPEN_STATES)
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

    async def runs(self) -> list[Run]:
        """The latest that ended well, the oldest first."""
        ended = jobs.c.state.in_([JobState.EXECUTED, JobState.POSTED])
        told = jobs.c.seconds.is_not(None) & jobs.c.server.is_not(None)
        query = sa.select(jobs.c.workflow, jobs.c.work, jobs.c.server, jobs.c.seconds)
        query = query.where(ended, told).order_by(jobs.c.number.desc()).limit(_RUNS)
        return [Run(*row) for row in reversed((await self._execute(query)).all())]

    async def in_flight(self) -> list[Job]:
        """Everything that left our queue and still needs a step of this process, oldest first."""
        return await self._many(
            is_unfinished, self._is_mine, jobs.c.message_id.is_not(None),
            order=jobs.c.number.asc(),
        )  # fmt: skip

    async def on_servers(self) -> list[Job]:
        """Of all processes, each one's oldest first."""
        open_jobs = jobs.c.state.in_([s for s in OPEN_STATES if s is not JobState.PENDING])
        order = (jobs.c.process.asc(), jobs.c.number.asc())
        return await self._many(is_unfinished, open_jobs, order=order)

    async def numbers(self) -> dict[str, int]:
        """How many have not ended, by state; of all processes."""
        pending = sa.literal(str(JobState.PENDING))
        waiting = sa.select(pending, sa.func.count()).select_from(jobs).where(is_pending)
        sent = sa.select(jobs.c.state, sa.func.count()).where(is_unfinished)
        sent = sent.where(jobs.c.state.in_(OPEN_STATES)).group_by(jobs.c.state)
        rows: Any = (await self._execute(sa.union_all(waiting, sent))).all()
        return {row[0]: row[1] for row in rows}

    async def unacknowledged(self) -> list[Job]:
        """Requests of which a crash hid whether Discord showed the placeholder."""
        unknown = jobs.c.message_id.is_(None)
        return await self._many(unknown, self._is_mine, order=jobs.c.number.asc())

    async def forget_before(self, moment: datetime) -> set[str]:
        """Deletes what ended before; the files that nobody else uses.

        Of a result that stands in a channel its buttons' needs stay, which is all but the graph.
        """
        ended = jobs.c.state.in_(_FINAL_STATES) & jobs.c.told
        old = ended & (jobs.c.created_at < moment.timestamp())
        shown = (jobs.c.state == JobState.POSTED) & sa.not_(jobs.c.by_token) & (jobs.c.user_id > 0)
        await self._write(sa.update(jobs).where(old & shown).values(graph="{}", texts="[]"))
        files, _ = await self._delete(old & sa.not_(shown))
        return files

    # Answers that only a token reaches

    async def promises(self) -> dict[str, Token]:
        """Of interactions that were deferred, by their ids."""
        mine = tokens.c.process == self.database.process
        query = sa.select(tokens).where(mine, tokens.c.job_id.not_in(sa.select(jobs.c.id)))
        return {row.job_id: token_of(row) for row in (await self._execute(query)).all()}

    async def came_of(self, interaction_id: int) -> Job | None:
        """A request that it made, acknowledged or not."""
        return await self._one(jobs.c.interaction_id == interaction_id)

    async def open_by_token(self) -> list[tuple[Job, datetime]]:
        """With the moment of the newest token."""
        moments = sa.select(tokens.c.job_id, tokens.c.at).where(tokens.c.at > DEAD.timestamp())
        ats = {row.job_id: row.at for row in (await self._execute(moments)).all()}
        untold = jobs.c.by_token & sa.not_(jobs.c.told) & jobs.c.id.in_(ats) & self._is_mine
        found = await self._many(untold, order=jobs.c.number.asc())
        return [(job, datetime.fromtimestamp(ats[job.id], UTC)) for job in found]


def _files_in(rows: sa.Result[Any]) -> set[str]:
    return {name for (text,) in rows.all() for _, _, name in json.loads(text)}
