"""The tables of the database, and what a row is. Only `bot/store.py` uses them."""

import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from bot.audit import Change
from bot.jobs import Job, JobState, Request
from bot.wishes import Wish
from comfy.graph import InputRef
from comfy.models import OutputFile
from comfy.phrases import read, written

ALONE = "alone"  # the process that has a database for itself
metadata = sa.MetaData()
jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(36), nullable=False),
    sa.Column("interaction_id", sa.BigInteger, nullable=False),
    sa.Column("guild_id", sa.BigInteger),
    sa.Column("channel_id", sa.BigInteger, nullable=False),
    sa.Column("user_id", sa.BigInteger, nullable=False),
    sa.Column("workflow", sa.String(100), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("settings", sa.Text, nullable=False),
    sa.Column("graph", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("message_id", sa.BigInteger),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("prompt_id", sa.String(36)),
    sa.Column("server", sa.String(32)),
    sa.Column("outputs", sa.Text, nullable=False),
    sa.Column("texts", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("seconds", sa.Float),
    sa.Column("told", sa.Boolean, nullable=False),
    sa.Column("submitted_at", sa.Float),
    sa.Column("finished_at", sa.Float),
    sa.Column("wish", sa.Text, nullable=False, server_default="{}"),
    sa.Column("uploads", sa.Text, nullable=False, server_default="[]"),
    sa.Column("keep_metadata", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("by_token", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("messages", sa.Text, nullable=False, server_default="[]"),
    sa.Column("nth", sa.Integer, nullable=False, server_default="0"),
    sa.Column("locale", sa.String(10), nullable=False, server_default="en-US"),
    sa.Column("spoiler", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("forgotten", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("nsfw", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("deaths", sa.Integer, nullable=False, server_default="0"),
    sa.Column("memory", sa.BigInteger),
    sa.Column("work", sa.Float, nullable=False, server_default="1"),
    sa.Column("relaxed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("turn", sa.Float, nullable=False, server_default="0"),
    sa.Column("cost", sa.Float, nullable=False, server_default="0"),
    sa.Column("weight", sa.Float, nullable=False, server_default="1"),
    sa.Column("process", sa.String(36), nullable=False, server_default=ALONE),
    sa.UniqueConstraint("id", name="uq_jobs_id"),
    sa.UniqueConstraint("interaction_id", "nth", name="jobs_asked_once"),
    sa.Index("jobs_by_submission", "relaxed", "submitted_at"),
    sa.Index("jobs_by_user", "user_id", "number"),
)
# Written out, as SQLite takes an index of some rows only where the query says just the same.
in_queue: sa.ColumnElement[bool] = sa.literal_column("(state = 'pending')")
is_pending = sa.and_(in_queue, jobs.c.message_id.is_not(None))  # and Discord has shown it
is_unfinished: sa.ColumnElement[bool] = sa.literal_column(
    "(state <> 'pending' AND (NOT told OR forgotten))"
)
for name, columns, where in (
    (
        "jobs_in_line",
        ("relaxed", "turn", "number", "cost", "user_id", "message_id", "state"),
        in_queue,
    ),
    ("jobs_unfinished", ("process", "number"), is_unfinished),
    ("jobs_unacknowledged", ("process",), jobs.c.message_id.is_(None)),
):
    sa.Index(name, *(jobs.c[each] for each in columns), sqlite_where=where, postgresql_where=where)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("guild_id", sa.BigInteger, nullable=False),
    sa.Column("user_id", sa.BigInteger, nullable=False),
    sa.Column("workflow", sa.String(100), nullable=False),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("before", sa.Text, nullable=False),
    sa.Column("after", sa.Text, nullable=False),
    sa.Index("audit_by_workflow", "workflow", "number"),
)
defaults = sa.Table(
    "defaults",
    metadata,
    sa.Column("guild_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("channel_id", sa.BigInteger, primary_key=True, autoincrement=False),  # 0: everywhere
    sa.Column("workflow", sa.String(100), nullable=False),
)

drafts = sa.Table(
    "drafts",
    metadata,
    sa.Column("job_id", sa.String(36), primary_key=True),
    sa.Column("user_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("wish", sa.Text, nullable=False),
)
presets = sa.Table(
    "presets",
    metadata,
    sa.Column("code", sa.String(16), primary_key=True),
    sa.Column("user_id", sa.BigInteger, nullable=False),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("wish", sa.Text, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.UniqueConstraint("user_id", "name", name="presets_by_name"),
)
bans = sa.Table(
    "bans",
    metadata,
    sa.Column("guild_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("user_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("reason", sa.Text, nullable=False),
)
tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("job_id", sa.String(36), primary_key=True),
    sa.Column("token", sa.Text, nullable=False),
    sa.Column("message_id", sa.BigInteger),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("locale", sa.String(10), nullable=False, server_default="en-US"),
    sa.Column("process", sa.String(36), nullable=False, server_default=ALONE),
)

processes = sa.Table(
    "processes",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("shards", sa.Text, nullable=False),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("until", sa.Float, nullable=False),
)
servers = sa.Table(
    "servers",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("process", sa.String(36)),
    sa.Column("paused", sa.Boolean, nullable=False, server_default=sa.false()),
)


def request_row(request: Request) -> dict[str, Any]:
    row = {name: getattr(request, name) for name in Request.__slots__}
    return row | {
        "settings": json.dumps(dict(request.settings), ensure_ascii=False),
        "graph": json.dumps(request.graph, ensure_ascii=False),
        "created_at": request.created_at.timestamp(),
        "wish": json.dumps(request.wish.to_json(), ensure_ascii=False),
        "uploads": json.dumps([[*ref, name] for ref, name in request.uploads.items()]),
    }


def progress_row(job: Job) -> dict[str, Any]:
    row = {name: getattr(job, name) for name in Job.__slots__ if name != "request"}
    return row | {
        "state": str(job.state),
        "outputs": json.dumps([each.to_json() for each in job.outputs], ensure_ascii=False),
        "texts": json.dumps(job.texts, ensure_ascii=False),
        "note": json.dumps(written(job.note), ensure_ascii=False),
        "messages": json.dumps(job.messages),
        "submitted_at": job.submitted_at.timestamp() if job.submitted_at else None,
        "finished_at": job.finished_at.timestamp() if job.finished_at else None,
    }


_OF_THE_STORE = ("number", "forgotten", "relaxed", "turn", "cost", "weight", "process")


def job_of(row: sa.Row[Any]) -> Job:
    data = row._asdict()
    for each in _OF_THE_STORE:
        del data[each]
    request = {name: data.pop(name) for name in Request.__slots__}
    request["settings"] = json.loads(request["settings"])
    request["graph"] = json.loads(request["graph"])
    request["created_at"] = moment(request["created_at"])
    wish = {"workflow": request["workflow"], **json.loads(request["wish"])}
    request["wish"] = Wish.from_json(wish)
    request["uploads"] = {InputRef(n, i): name for n, i, name in json.loads(request["uploads"])}
    data["state"] = JobState(data["state"])
    data["outputs"] = tuple(OutputFile(**each) for each in json.loads(data["outputs"]))
    data["texts"] = tuple(json.loads(data["texts"]))
    data["note"] = read(json.loads(data["note"]))
    data["messages"] = tuple(json.loads(data["messages"]))
    data["submitted_at"] = moment(data["submitted_at"])
    data["finished_at"] = moment(data["finished_at"])
    return Job(request=Request(**request), **data)


def change_of(row: sa.Row[Any]) -> Change:
    data = row._asdict()
    data.pop("number")
    data["at"] = datetime.fromtimestamp(data["at"], UTC)
    data["before"], data["after"] = json.loads(data["before"]), json.loads(data["after"])
    return Change(**data)


def moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
