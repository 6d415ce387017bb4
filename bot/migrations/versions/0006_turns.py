"""Whose turn it is, what a job is expected to take, and which process follows it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_IN_LINE = sa.text("(state = 'pending')")
_UNFINISHED = sa.text("(state <> 'pending' AND (NOT told OR forgotten))")
_UNACKNOWLEDGED = sa.text("message_id IS NULL")


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("work", sa.Float, nullable=False, server_default="1"))
        jobs.add_column(sa.Column("relaxed", sa.Boolean, nullable=False, server_default=sa.false()))
        jobs.add_column(sa.Column("turn", sa.Float, nullable=False, server_default="0"))
        jobs.add_column(sa.Column("cost", sa.Float, nullable=False, server_default="0"))
        jobs.add_column(sa.Column("weight", sa.Float, nullable=False, server_default="1"))
        jobs.add_column(sa.Column("process", sa.String(36), nullable=False, server_default="alone"))
        jobs.drop_index("jobs_by_state")  # SQLite would take it where the others are better
        jobs.create_index("jobs_by_submission", ["relaxed", "submitted_at"])
    for name, columns, where in (
        (
            "jobs_in_line",
            ["relaxed", "turn", "number", "cost", "user_id", "message_id", "state"],
            _IN_LINE,
        ),
        ("jobs_unfinished", ["process", "number"], _UNFINISHED),
        ("jobs_unacknowledged", ["process"], _UNACKNOWLEDGED),
    ):
        op.create_index(name, "jobs", columns, sqlite_where=where, postgresql_where=where)
    with op.batch_alter_table("tokens") as tokens:
        tokens.add_column(
            sa.Column("process", sa.String(36), nullable=False, server_default="alone")
        )
    op.create_table(
        "processes",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("shards", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )
    op.create_table(
        "servers",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("process", sa.String(36)),
        sa.Column("paused", sa.Boolean, nullable=False, server_default=sa.false()),
    )
