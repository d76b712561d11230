"""The manifest of what was judged, so that one that is changed afterwards serves no more."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds the column; of former judgements it is not known."""
    op.add_column(
        "judgement",
        sa.Column("manifest_sha256", sa.String, nullable=False, server_default=""),
    )
