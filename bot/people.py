"""What is kept besides jobs: how answers reach people, drafts, presets, and what moderators did."""

import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from bot.audit import Change
from bot.database import Database
from bot.tables import audit, bans, change_of, defaults, drafts, presets, servers, tokens
from bot.wishes import Wish

_DAY = timedelta(days=1)
PAUSED = "paused"  # what processes tell each other when a server is paused or resumed
DEAD = datetime.fromtimestamp(0, UTC)  # the moment of a token that Discord no longer takes


class Token(NamedTuple):
    """Of an interaction, and the message that it can change; None: its first answer."""

    token: str
    message_id: int | None
    at: datetime
    locale: str = "en-US"


class Preset(NamedTuple):
    name: str
    code: str
    wish: Wish


class People:
    def __init__(self, database: Database) -> None:
        self.database = database
        self._write, self._execute = database.write, database.execute

    # Who may not ask

    async def ban(self, guild_id: int, user_id: int, reason: str) -> None:
        await self.unban(guild_id, user_id)
        row = {"guild_id": guild_id, "user_id": user_id, "reason": reason}
        with contextlib.suppress(sa.exc.IntegrityError):  # two admins at once
            await self._write(sa.insert(bans).values(**row))

    async def unban(self, guild_id: int, user_id: int) -> bool:
        """False: there was no ban."""
        theirs = (bans.c.guild_id == guild_id) & (bans.c.user_id == user_id)
        return await self._write(sa.delete(bans).where(theirs)) > 0

    async def banned(self, user_id: int, guild_id: int | None) -> bool:
        """From this Discord server; outside of one, from any."""
        return bool((await self._execute(bans_of(user_id, guild_id))).scalar_one())

    # Tokens of interactions, by which alone some answers are reached

    async def keep_token(self, job_id: str, token: Token) -> None:
        """The newest counts; those that died go."""
        row = {**token._asdict(), "at": token.at.timestamp(), "process": self.database.process}
        mine = tokens.c.job_id == job_id
        if not await self._write(sa.update(tokens).where(mine).values(**row)):
            with contextlib.suppress(sa.exc.IntegrityError):  # another click was faster
                await self._write(sa.insert(tokens).values(job_id=job_id, **row))
        old = (token.at - _DAY).timestamp()
        await self._write(sa.delete(tokens).where(tokens.c.at < old))
        await self.database.tell(job_id)

    async def drop_token(self, job_id: str) -> None:
        """What is told needs none."""
        await self._write(sa.delete(tokens).where(tokens.c.job_id == job_id))

    async def expire_token(self, job_id: str, token: str) -> None:
        """Discord no longer takes it; a newer one is left as it is."""
        mine = (tokens.c.job_id == job_id) & (tokens.c.token == token)
        await self._write(sa.update(tokens).where(mine).values(at=DEAD.timestamp()))

    async def token(self, job_id: str) -> Token | None:
        query = sa.select(tokens).where(tokens.c.job_id == job_id)
        row = (await self._execute(query)).one_or_none()
        if row is None:
            return None
        return token_of(row)

    # What is being put together

    async def keep_draft(self, job_id: str, user_id: int, wish: Wish) -> None:
        """One for each job and person; yesterday's go."""
        now = datetime.now(UTC)
        text = json.dumps(wish.to_json(), ensure_ascii=False)
        row = {"created_at": now.timestamp(), "wish": text}
        mine = _draft_of(job_id, user_id)
        if not await self._write(sa.update(drafts).where(mine).values(**row)):
            with contextlib.suppress(sa.exc.IntegrityError):
                await self._write(sa.insert(drafts).values(job_id=job_id, user_id=user_id, **row))
        old = drafts.c.created_at < (now - _DAY).timestamp()
        await self._write(sa.delete(drafts).where(old))

    async def draft(self, job_id: str, user_id: int) -> Wish | None:
        query = sa.select(drafts.c.wish).where(_draft_of(job_id, user_id))
        found = (await self._execute(query)).scalar_one_or_none()
        return None if found is None else Wish.from_json(json.loads(found))

    async def take_draft(self, job_id: str, user_id: int) -> Wish | None:
        """The draft, which is then gone: of two that take it one gets it."""
        wish = await self.draft(job_id, user_id)
        gone = await self._write(sa.delete(drafts).where(_draft_of(job_id, user_id)))
        return wish if gone else None

    # Settings that people keep

    async def keep_preset(self, user_id: int, preset: Preset) -> Preset:
        """A name that is used already gets the new settings, and keeps its code."""
        text = json.dumps(preset.wish.to_json(), ensure_ascii=False)
        row = {"wish": text, "created_at": datetime.now(UTC).timestamp()}
        named = (presets.c.user_id == user_id) & (presets.c.name == preset.name)
        if not await self._write(sa.update(presets).where(named).values(**row)):
            new = {"user_id": user_id, "name": preset.name, "code": preset.code, **row}
            with contextlib.suppress(sa.exc.IntegrityError):  # twice at once
                await self._write(sa.insert(presets).values(**new))
        return next(each for each in await self.presets(user_id) if each.name == preset.name)

    async def presets(self, user_id: int) -> list[Preset]:
        """By name."""
        return await self._presets(presets.c.user_id == user_id)

    async def shared_preset(self, code: str) -> Preset | None:
        return next(iter(await self._presets(presets.c.code == code)), None)

    async def delete_preset(self, user_id: int, name: str) -> bool:
        named = (presets.c.user_id == user_id) & (presets.c.name == name)
        return await self._write(sa.delete(presets).where(named)) > 0

    async def _presets(self, where: sa.ColumnElement[bool]) -> list[Preset]:
        query = sa.select(presets).where(where).order_by(presets.c.name)
        rows = (await self._execute(query)).all()
        return [Preset(r.name, r.code, Wish.from_json(json.loads(r.wish))) for r in rows]

    # What moderators and admins did

    async def pause_server(self, name: str, *, paused: bool) -> None:
        this = servers.c.name == name
        if not await self._write(sa.update(servers).where(this).values(paused=paused)):
            with contextlib.suppress(sa.exc.IntegrityError):  # two admins at once
                await self._write(sa.insert(servers).values(name=name, paused=paused))
        await self.database.tell(PAUSED)

    async def paused_servers(self) -> set[str]:
        found = await self._execute(sa.select(servers.c.name).where(servers.c.paused))
        return set(found.scalars().all())

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


def bans_of(user_id: int, guild_id: int | None) -> sa.Select[int]:
    where = bans.c.user_id == user_id
    if guild_id is not None:
        where &= bans.c.guild_id == guild_id
    return sa.select(sa.func.count()).select_from(bans).where(where)


def token_of(row: sa.Row[Any]) -> Token:
    return Token(row.token, row.message_id, datetime.fromtimestamp(row.at, UTC), row.locale)


def _draft_of(job_id: str, user_id: int) -> sa.ColumnElement[bool]:
    return (drafts.c.job_id == job_id) & (drafts.c.user_id == user_id)
