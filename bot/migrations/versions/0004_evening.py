"""Which messages show a result, the language of whoever asked, presets, several jobs at once."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_UNIQUE = {"uq": "uq_%(table_name)s_%(column_0_name)s"}


def upgrade() -> None:
    with op.batch_alter_table("jobs", naming_convention=_UNIQUE) as jobs:
        jobs.add_column(sa.Column("messages", sa.Text, nullable=False, server_default="[]"))
        jobs.add_column(sa.Column("nth", sa.Integer, nullable=False, server_default="0"))
        jobs.add_column(sa.Column("locale", sa.String(10), nullable=False, server_default="en-US"))
        jobs.add_column(sa.Column("spoiler", sa.Boolean, nullable=False, server_default=sa.false()))
        jobs.add_column(
            sa.Column("forgotten", sa.Boolean, nullable=False, server_default=sa.false())
        )
        jobs.drop_constraint("uq_jobs_interaction_id", type_="unique")
        jobs.create_unique_constraint("jobs_asked_once", ["interaction_id", "nth"])
    _convert()
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("parts")
    op.create_table(
        "presets",
        sa.Column("code", sa.String(16), primary_key=True),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("wish", sa.Text, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.UniqueConstraint("user_id", "name", name="presets_by_name"),
    )


def _convert() -> None:
    """A note remembers what it is made of, and a result its messages: the first one is known."""
    names = ("number", "note", "parts", "message_id", "messages")
    table = sa.table("jobs", *(sa.column(name) for name in names))
    connection = op.get_bind()
    for row in connection.execute(sa.select(table)).all():
        shown = [row.message_id] if row.parts and row.message_id else []
        values = {"note": json.dumps(row.note, ensure_ascii=False), "messages": json.dumps(shown)}
        connection.execute(sa.update(table).where(table.c.number == row.number).values(**values))
