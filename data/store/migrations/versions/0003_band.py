"""Prediction intervals: those of each forecast, and how those of each version stand."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Adds a column, empty for the forecasts that are there, and a table."""
    op.add_column("forecast", sa.Column("band", sa.LargeBinary, nullable=True))
    op.create_table(
        "calibration",
        sa.Column("city", sa.String, primary_key=True),
        sa.Column("version", sa.String, primary_key=True),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
