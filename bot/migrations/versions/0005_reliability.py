"""What a job went through on its servers, pictures for adults, who may not ask, promises."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(sa.Column("nsfw", sa.Boolean, nullable=False, server_default=sa.false()))
        jobs.add_column(sa.Column("deaths", sa.Integer, nullable=False, server_default="0"))
        jobs.add_column(sa.Column("memory", sa.BigInteger))
    with op.batch_alter_table("tokens") as tokens:
        tokens.add_column(
            sa.Column("locale", sa.String(10), nullable=False, server_default="en-US")
        )
    op.create_table(
        "bans",
        sa.Column("guild_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("user_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
