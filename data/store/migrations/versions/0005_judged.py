"""What was judged, by its manifest, and which forecasts were there already when a version was promoted."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds the columns; of former judgements and promotions it is not known."""
    op.add_column(
        "judgement",
        sa.Column("manifest_sha256", sa.String, nullable=False, server_default=""),
    )
    op.add_column(
        "promotion", sa.Column("forecast", sa.Integer, nullable=False, server_default="0")
    )
