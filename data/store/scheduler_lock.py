"""The lock of the one scheduler of a store; a process that dies lets go of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from data.errors import StoreError
from data.store.database import Database
from data.store.messages import sentences

SCHEDULER = 0x666C6F78
"""Key of the lock on PostgreSQL."""


class HeldLock:
    """A lock that this process holds."""

    def __init__(self, connection: sa.Connection | None) -> None:
        self._connection = connection

    def is_held(self) -> bool:
        """Returns whether it is still held: PostgreSQL gives it away when the connection is lost."""
        if self._connection is None:
            return True
        try:
            self._connection.execute(sa.text("SELECT 1"))
        except sa.exc.DatabaseError:
            return False
        return True


@contextmanager
def scheduler_lock(database: Database) -> Iterator[HeldLock | None]:
    """Gives the lock of the store's scheduler while it lasts, None where another process holds it.

    On SQLite it is a file beside the database, which the operating system frees; on PostgreSQL a lock
    of a connection, which the server frees, also where the host dies.
    """
    with _on_file(database) if database.is_local else _on_server(database) as held:
        yield held


@contextmanager
def _on_file(database: Database) -> Iterator[HeldLock | None]:
    import filelock  # nothing else of a forecast needs it

    if not database.url.database:
        raise StoreError("a store in memory has no scheduler; name a file or a server")
    lock = filelock.FileLock(Path(database.url.database).with_suffix(".scheduler.lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        yield None
        return
    try:
        yield HeldLock(None)
    finally:
        lock.release()


@contextmanager
def _on_server(database: Database) -> Iterator[HeldLock | None]:
    connection = database.connect()
    try:
        with sentences(database.url):
            # The lock of a host that is gone without a word must end in a minute, not in two hours.
            for name, seconds in (("idle", 30), ("interval", 10), ("count", 3)):
                connection.execute(sa.text(f"SET tcp_keepalives_{name} = {seconds}"))
            taken = connection.execute(sa.select(sa.func.pg_try_advisory_lock(SCHEDULER))).scalar()
        yield HeldLock(connection) if taken else None
    finally:
        # The lock must end with this block, not with the pool's next use of the connection.
        connection.invalidate()
        connection.close()
