"""Weather: observed values and those that they replaced."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "weather",
        sa.Column("city", sa.String, primary_key=True),
        sa.Column("time", sa.BigInteger, primary_key=True),
        sa.Column("variable", sa.String, primary_key=True),
        sa.Column("value", sa.Float, nullable=False),
        sa.Column("ingest", sa.Integer, sa.ForeignKey("ingest.id"), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "weather_revision",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("city", sa.String, nullable=False, index=True),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("variable", sa.String, nullable=False),
        sa.Column("value", sa.Float, nullable=False),
        sa.Column("ingest", sa.Integer, sa.ForeignKey("ingest.id"), nullable=False),
        sa.Column("replaced_by", sa.Integer, sa.ForeignKey("ingest.id"), nullable=False),
    )
