"""What was typed, the files that go with it, and what a job descends from."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("wish", sa.Text, nullable=False, server_default="{}"))
    op.add_column("jobs", sa.Column("uploads", sa.Text, nullable=False, server_default="[]"))
    op.add_column(
        "jobs",
        sa.Column("keep_metadata", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.add_column(
        "jobs", sa.Column("by_token", sa.Boolean, nullable=False, server_default=sa.false())
    )
    op.create_table(
        "tokens",
        sa.Column("job_id", sa.String(36), primary_key=True),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("message_id", sa.BigInteger),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_table(
        "drafts",
        sa.Column("job_id", sa.String(36), primary_key=True),
        sa.Column("user_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("wish", sa.Text, nullable=False),
    )
