"""The tables of the store; `data/store/migrations` makes them."""

import sqlalchemy as sa

SCHEMA = "0005"
"""The newest revision in `data/store/migrations/versions`."""

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
    sa.Column("forecast", sa.Integer, nullable=False, server_default="0"),
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
RUN = sa.Table(
    "run",
    METADATA,
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
SCORE = sa.Table(
    "score",
    METADATA,
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
DRIFT = sa.Table(
    "drift",
    METADATA,
    sa.Column("city", sa.String, primary_key=True),
    sa.Column("time", sa.BigInteger, primary_key=True),
    sa.Column("total", sa.Float, nullable=False),
    sa.Column("usual_total", sa.Float, nullable=False),
    sa.Column("error", sa.Float, nullable=True),
    sa.Column("usual_error", sa.Float, nullable=True),
    sa.Column("flagged", sa.Boolean, nullable=False),
    sa.Column("message", sa.String, nullable=False),
)
JUDGEMENT = sa.Table(
    "judgement",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("city", sa.String, nullable=False, index=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("version", sa.String, nullable=False),
    sa.Column("champion", sa.String, nullable=False),
    sa.Column("verdict", sa.String, nullable=False),
    sa.Column("gates", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("manifest_sha256", sa.String, nullable=False, server_default=""),
)
HEARTBEAT = sa.Table(
    "heartbeat",
    METADATA,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("host", sa.String, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("detail", sa.String, nullable=False),
)
