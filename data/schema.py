"""The tables of the store; `data/migrations` makes them."""

import sqlalchemy as sa

SCHEMA = "0003"
"""The newest revision in `data/migrations/versions`."""

METADATA = sa.MetaData()
ARCHIVE = sa.Table(
    "archive",
    METADATA,
    sa.Column("city", sa.String, primary_key=True),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("columns", sa.Integer, nullable=False),
    sa.Column("step", sa.Integer, nullable=False),
    sa.Column("timezone", sa.String, nullable=False),
)
INGEST = sa.Table(
    "ingest",
    METADATA,
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
FLOW = sa.Table(
    "flow",
    METADATA,
    sa.Column("city", sa.String, primary_key=True),
    sa.Column("series", sa.String, primary_key=True),
    sa.Column("time", sa.BigInteger, primary_key=True),
    sa.Column("frame", sa.LargeBinary, nullable=False),
    sa.Column("ingest", sa.Integer, sa.ForeignKey("ingest.id"), nullable=False),
)
REVISION = sa.Table(
    "revision",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("city", sa.String, nullable=False),
    sa.Column("series", sa.String, nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("frame", sa.LargeBinary, nullable=False),
    sa.Column("ingest", sa.Integer, sa.ForeignKey("ingest.id"), nullable=False),
    sa.Column("replaced_by", sa.Integer, sa.ForeignKey("ingest.id"), nullable=False),
    sa.Index("revision_slot", "city", "series", "time"),
)
FORECAST = sa.Table(
    "forecast",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("city", sa.String, nullable=False),
    sa.Column("init_time", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("horizon", sa.Integer, nullable=False),
    sa.Column("forecaster", sa.String, nullable=False),
    sa.Column("attributes", sa.String, nullable=False),
    sa.Column("frames", sa.LargeBinary, nullable=False),
    sa.Column("band", sa.LargeBinary, nullable=True),
    sa.Index("forecast_init", "city", "init_time"),
)
CALIBRATION = sa.Table(
    "calibration",
    METADATA,
    sa.Column("city", sa.String, primary_key=True),
    sa.Column("version", sa.String, primary_key=True),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
)
PROMOTION = sa.Table(
    "promotion",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("city", sa.String, nullable=False, index=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("version", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
)
WEATHER = sa.Table(
    "weather",
    METADATA,
    sa.Column("city", sa.String, primary_key=True),
    sa.Column("time", sa.BigInteger, primary_key=True),
    sa.Column("variable", sa.String, primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
    sa.Column("ingest", sa.Integer, sa.ForeignKey("ingest.id"), nullable=False),
    sqlite_with_rowid=False,  # half the size, as the key is most of a row
)
WEATHER_REVISION = sa.Table(
    "weather_revision",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("city", sa.String, nullable=False, index=True),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("variable", sa.String, nullable=False),
    sa.Column("value", sa.Float, nullable=False),
    sa.Column("ingest", sa.Integer, sa.ForeignKey("ingest.id"), nullable=False),
    sa.Column("replaced_by", sa.Integer, sa.ForeignKey("ingest.id"), nullable=False),
)
