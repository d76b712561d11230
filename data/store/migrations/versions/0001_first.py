"""The first schema: archive, ingest, flow, revision, forecast, promotion."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "archive",
        sa.Column("city", sa.String, primary_key=True),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("columns", sa.Integer, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("timezone", sa.String, nullable=False),
    )
    op.create_table(
        "ingest",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("city", sa.String, nullable=False, index=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("sha256", sa.String, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("added", sa.Integer, nullable=False),
        sa.Column("equal", sa.Integer, nullable=False),
        sa.Column("replaced", sa.Integer, nullable=False),
        sa.Column("repairs", sa.String, nullable=False),
        sa.Column("message", sa.String, nullable=False),
    )
    op.create_table(
        "flow",
        sa.Column("city", sa.String, primary_key=True),
        sa.Column("series", sa.String, primary_key=True),
        sa.Column("time", sa.BigInteger, primary_key=True),
        sa.Column("frame", sa.LargeBinary, nullable=False),
        sa.Column("ingest", sa.Integer, sa.ForeignKey("ingest.id"), nullable=False),
    )
    op.create_table(
        "revision",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("city", sa.String, nullable=False),
        sa.Column("series", sa.String, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("frame", sa.LargeBinary, nullable=False),
        sa.Column("ingest", sa.Integer, sa.ForeignKey("ingest.id"), nullable=False),
        sa.Column("replaced_by", sa.Integer, sa.ForeignKey("ingest.id"), nullable=False),
    )
    op.create_index("revision_slot", "revision", ["city", "series", "time"])
    op.create_table(
        "forecast",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("city", sa.String, nullable=False),
        sa.Column("init_time", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("horizon", sa.Integer, nullable=False),
        sa.Column("forecaster", sa.String, nullable=False),
        sa.Column("attributes", sa.String, nullable=False),
        sa.Column("frames", sa.LargeBinary, nullable=False),
    )
    op.create_index("forecast_init", "forecast", ["city", "init_time"])
    op.create_table(
        "promotion",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("city", sa.String, nullable=False, index=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("version", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
    )
