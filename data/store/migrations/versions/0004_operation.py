"""Operation: runs, scores, drift, judgements of versions, and signs of life."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "run",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("job", sa.String, nullable=False),
        sa.Column("city", sa.String, nullable=False),
        sa.Column("scheduled_for", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger, nullable=True),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("message", sa.String, nullable=False),
        sa.Column("detail", sa.String, nullable=False),
        sa.UniqueConstraint("job", "city", "scheduled_for", name="run_once"),
    )
    op.create_table(
        "score",
        sa.Column("city", sa.String, primary_key=True),
        sa.Column("init_time", sa.BigInteger, primary_key=True),
        sa.Column("lead", sa.Integer, primary_key=True),
        sa.Column("forecaster", sa.String, primary_key=True),
        sa.Column("forecast", sa.Integer, sa.ForeignKey("forecast.id"), nullable=False),
        sa.Column("ingest", sa.Integer, sa.ForeignKey("ingest.id"), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("squared", sa.Float, nullable=False),
        sa.Column("absolute", sa.Float, nullable=False),
        sa.Column("difference", sa.Float, nullable=False),
    )
    op.create_table(
        "drift",
        sa.Column("city", sa.String, primary_key=True),
        sa.Column("time", sa.BigInteger, primary_key=True),
        sa.Column("total", sa.Float, nullable=False),
        sa.Column("usual_total", sa.Float, nullable=False),
        sa.Column("error", sa.Float, nullable=True),
        sa.Column("usual_error", sa.Float, nullable=True),
        sa.Column("flagged", sa.Boolean, nullable=False),
        sa.Column("message", sa.String, nullable=False),
    )
    op.create_table(
        "judgement",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("city", sa.String, nullable=False, index=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("version", sa.String, nullable=False),
        sa.Column("champion", sa.String, nullable=False),
        sa.Column("verdict", sa.String, nullable=False),
        sa.Column("gates", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
    )
    op.create_table(
        "heartbeat",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("detail", sa.String, nullable=False),
    )
