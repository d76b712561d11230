"""The database under the store: engine, transactions, schema, and what its errors mean.

SQLite runs with a write-ahead log and `synchronous=FULL`. On SQLite and PostgreSQL alike there is one
writer at a time, which takes a lock when it begins, so that what it read is still so when it writes;
readers see one state throughout and wait for nobody.
"""

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from data.errors import StoreError
from data.files import ensure_folder
from data.paths import database_file
from data.store.columns import as_times
from data.store.messages import EXAMPLE, NAMED, NOT_OURS, PATIENCE, place, sentences
from data.store.schema import SCHEMA

WRITER = 0x666C6F77
"""Key of the lock that PostgreSQL gives to one writer at a time."""
DIALECTS = ("sqlite", "postgresql")
KEEPALIVE = {
    **{"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10},
    **{"keepalives_count": 3, "tcp_user_timeout": 60_000},
}
"""How soon a server that vanished is noticed: seconds, the last one milliseconds."""


def default_url() -> sa.URL:
    """Returns the URL that `FLOWCAST_STORE` names, or of the SQLite database in the user's home.

    Raises:
        StoreError: it names no URL of SQLite or PostgreSQL.
    """
    if named := os.environ.get(NAMED):
        try:
            url = sa.make_url(named)
        except sa.exc.ArgumentError as error:
            raise StoreError(f"{NAMED} is no URL of a database; write it like {EXAMPLE}") from error
        if url.get_backend_name() not in DIALECTS:
            raise StoreError(
                f"{NAMED} names {url.get_backend_name()}; the store is SQLite or PostgreSQL, such as "
                f"{EXAMPLE}"
            )
        return url
    path = database_file()
    ensure_folder(path.parent)
    return sa.URL.create("sqlite", database=str(path))  # a path may hold "?" and "%"


def file_of(url: sa.URL) -> str:
    """Returns the identity of the file of a store, "" without a file."""
    if url.get_backend_name() != "sqlite" or not url.database:
        return ""
    try:
        stat = Path(url.database).stat()
    except OSError:
        return ""
    return f"{stat.st_dev}-{stat.st_ino}"


class Database:
    """The database at `url`, brought to the newest schema.

    Args:
        url: of SQLite or PostgreSQL.
        patience: seconds to wait for another process; None for `PATIENCE`.

    Raises:
        StoreError: it cannot be opened, is no database of ours, or a newer flowcast wrote it.
    """

    def __init__(self, url: str | sa.URL, patience: float | None = None) -> None:
        self.url = sa.make_url(url)
        self._patience = PATIENCE if patience is None else patience
        self._engine = _engine(self.url, self._patience)
        self._file = ""
        self._migrate()
        self._file = file_of(self.url)

    @property
    def is_local(self) -> bool:
        """Whether it is a file of this host."""
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Gives a connection that sees one state of the database throughout."""
        self._follow()
        with sentences(self.url, self._patience), self._engine.connect() as connection:
            if self.is_local:
                yield connection
            else:
                yield connection.execution_options(isolation_level="REPEATABLE READ")

    def table(self, query: "sa.Select[Any]", times: Sequence[str] = ()) -> pd.DataFrame:
        """Returns the rows of a query as a table; its columns `times` are times, UTC."""
        with self.read() as connection:
            rows = connection.execute(query).all()
        table = pd.DataFrame(rows, columns=query.selected_columns.keys())
        for name in times:
            table[name] = as_times(table[name].to_numpy(dtype=np.int64))
        return table

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Gives a connection whose changes are kept all together, or none if an error leaves it."""
        self._follow()
        with sentences(self.url, self._patience), self._engine.connect() as connection:
            writer = connection.execution_options(writes=True)
            with writer.begin():
                if not self.is_local:
                    writer.execute(sa.text(f"SET LOCAL lock_timeout = '{self._patience:g}s'"))
                    writer.execute(sa.select(sa.func.pg_advisory_xact_lock(WRITER)))
                yield writer

    def connect(self) -> sa.Connection:
        """Returns a connection of its own, without a transaction; to be closed by the caller."""
        with sentences(self.url, self._patience):
            return self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    def _follow(self) -> None:
        """Opens the file anew where it was replaced by another.

        Raises:
            StoreError: it is gone.
        """
        if not self._file or (found := file_of(self.url)) == self._file:
            return
        if not found:
            raise StoreError(
                f"the store {self.url.database} is gone; put it back, or begin anew: "
                f"forecast ingest --city CITY PATH"
            )
        self._engine.dispose()
        self._file = found
        self._migrate()

    def _migrate(self) -> None:
        """Brings the schema to `SCHEMA`; in one transaction, so that two that start together agree."""
        with self.read() as connection:
            if _revision(connection) == SCHEMA:
                return
        from data.store.migrations import upgrade  # Alembic is slow to import and seldom needed.

        with self.write() as connection:
            revision = _revision(connection)
            if revision is None and sa.inspect(connection).get_table_names():
                raise StoreError(f"{place(self.url)} {NOT_OURS}")
            upgrade(connection, revision)


class Repository:
    """What is kept in one or two tables of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database


def _engine(url: sa.URL, patience: float) -> sa.Engine:
    """Returns the engine of a database.

    Raises:
        StoreError: its driver is not installed.
    """
    if url.get_backend_name() != "sqlite":
        try:
            return sa.create_engine(url, pool_pre_ping=True, connect_args=KEEPALIVE)
        except ModuleNotFoundError as error:
            raise StoreError(
                f"the driver of {url.drivername} is not installed ({error.name}); "
                f"install it: pip install 'flowcast[postgresql]', and write {EXAMPLE}"
            ) from error
    engine = sa.create_engine(url, connect_args={"timeout": patience})
    sa.event.listen(engine, "connect", lambda made, _: _on_connect(made, patience))
    sa.event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(connection: Any, patience: float) -> None:
    connection.isolation_level = None  # We begin transactions ourselves.
    cursor = connection.cursor()
    _log_ahead(cursor, patience)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _log_ahead(cursor: Any, patience: float) -> None:
    """Sets the write-ahead log; SQLite itself does not wait where another process does so too."""
    end = time.monotonic() + patience
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


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
