"""The database under the store: engine, transactions, schema, and what its errors mean.

SQLite runs with a write-ahead log and `synchronous=FULL`; a writer takes the lock when it begins, so
that what it read is still so when it writes.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from data.errors import StoreError
from data.files import make_folder
from data.home import home
from data.schema import SCHEMA

PATIENCE = 30
"""Seconds to wait for another writer."""
NOT_OURS = "is not a flowcast database; move it away to start anew"


def default_url() -> sa.URL:
    """Returns the URL of the SQLite database in the user's home for flowcast; makes the folder."""
    path = home() / "flowcast.db"
    make_folder(path.parent)
    return sa.URL.create("sqlite", database=str(path))  # a path may hold "?" and "%"


class Database:
    """The database at `url`, brought to the newest schema.

    Raises:
        StoreError: it cannot be opened, is no database of ours, or a newer flowcast wrote it.
    """

    def __init__(self, url: str | sa.URL) -> None:
        self._url = sa.make_url(url)
        self._engine = sa.create_engine(url, connect_args={"timeout": PATIENCE})
        sa.event.listen(self._engine, "connect", _on_connect)
        sa.event.listen(self._engine, "begin", _on_begin)
        self._migrate()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Gives a connection that sees one state of the database throughout."""
        with _sentences(self._url), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Gives a connection whose changes are kept all together, or none if an error leaves it."""
        with _sentences(self._url), self._engine.connect() as connection:
            writer = connection.execution_options(writes=True)
            with writer.begin():
                yield writer

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    def _migrate(self) -> None:
        """Brings the schema to `SCHEMA`; in one transaction, so that two that start together agree."""
        with self.read() as connection:
            if _revision(connection) == SCHEMA:
                return
        from data.migrations import upgrade  # Alembic is slow to import and seldom needed.

        with self.write() as connection:
            revision = _revision(connection)
            if revision is None and sa.inspect(connection).get_table_names():
                raise StoreError(f"{self._url.database} {NOT_OURS}")
            upgrade(connection, revision)


def _on_connect(connection: Any, record: object) -> None:
    connection.isolation_level = None  # We begin transactions ourselves.
    cursor = connection.cursor()
    _log_ahead(cursor)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _log_ahead(cursor: Any) -> None:
    """Sets the write-ahead log; SQLite itself does not wait where another process does so too."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


def _on_begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _sentences(url: sa.URL) -> Iterator[None]:
    """Turns what the database says into a sentence with a way out."""
    place = url.database or url.render_as_string()
    try:
        yield
    except sa.exc.DatabaseError as error:
        text = str(error.orig).lower()
        known = {
            "full": f"no space is left for {place}; nothing was written; make room and run it again",
            "locked": f"another process has held {place} for {PATIENCE} s; run it again when it is done",
            "readonly": f"{place} may not be written; give this user the right to write it",
            "unable to open": f"{place} cannot be opened; does its folder exist, and may it be written?",
            "not a database": f"{place} {NOT_OURS}",
            "malformed": f"{place} is damaged; restore it from a backup, or move it away to start anew",
            "disk i/o": f"{place} could not be read or written ({text}); nothing was changed; "
            f"check the disk and run it again",
        }
        for sign, sentence in known.items():
            if sign in text:
                raise StoreError(sentence) from error
        raise


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
