"""Migrations: how the schema of the store came to be, one revision a file, run by Alembic."""

from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory

from data.errors import StoreError


def scripts() -> ScriptDirectory:
    """Returns the revisions in `versions/`."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def upgrade(connection: sa.Connection, revision: str | None) -> None:
    """Brings the schema from `revision` (None: an empty database) to the newest.

    It runs inside the caller's transaction.

    Raises:
        StoreError: `revision` is none that this version of flowcast knows.
    """
    known = scripts()
    if revision is not None and revision not in {
        script.revision for script in known.walk_revisions()
    }:
        raise StoreError(
            f"the database has schema {revision}, which this version of flowcast does not know; "
            f"use the version that wrote it or a newer one"
        )
    environment = EnvironmentContext(Config(), known)
    environment.configure(
        connection=connection,
        fn=lambda current, context: known._upgrade_revs("head", current),
        transactional_ddl=False,
    )
    environment.run_migrations()
