"""What was typed, the files that go with it, and what a job descends from."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("wish", sa.Text, nullable=False, server_default="{}"))
    op.add_column("jobs", sa.Column("uploads", sa.Text, nullable=False, server_default="[]"))
    op.create_table(
        "drafts",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("wish", sa.Text, nullable=False),
    )
