"""Whose turn it is, and what a job is expected to take."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("turn", sa.Float, nullable=False, server_default="0"))
        jobs.add_column(sa.Column("cost", sa.Float, nullable=False, server_default="0"))
        jobs.create_index("jobs_by_turn", ["state", "turn", "number"])
        jobs.create_index("jobs_by_submission", ["submitted_at"])
