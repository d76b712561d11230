"""Errors of databases as sentences with a way out."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from data.errors import StoreError

PATIENCE = 30
"""Seconds to wait for another writer."""
NAMED = "FLOWCAST_STORE"
"""Environment variable with the URL of another database than that of the home."""
EXAMPLE = "postgresql+psycopg://USER@HOST/DATABASE"
NOT_OURS = "is not a flowcast database; move it away to start anew"

HELD = "another process has held {place} for {patience:g} s; run it again when it is done"
FULL = "no space is left for {place}; nothing was written; make room and run it again"
SILENT = "{place} does not answer; check that PostgreSQL is running"
ENDED = "{place} ended the connection; nothing was written; run it again"
OTHER = (
    "{place} does not fit this version of flowcast; a newer one may have changed it: start this "
    "program anew, with the newest"
)
SQLITE = {
    "no such table": OTHER,
    "no such column": OTHER,
    "has no column": OTHER,
    "full": FULL,
    "locked": HELD,
    "readonly": "{place} may not be written; give this user the right to write it",
    "unable to open": "{place} cannot be opened; check that its folder exists and may be written",
    "not a database": f"{{place}} {NOT_OURS}",
    "malformed": "{place} is damaged; restore it from a backup, or move it away to start anew",
    "disk i/o": "{place} could not be read or written (disk I/O error); nothing was changed; "
    "check the disk and run it again",
}
POSTGRESQL = {
    "no space left": FULL,
    "lock timeout": HELD,
    "connection refused": SILENT,
    "timeout expired": SILENT,
    "could not translate host": f"the host of {{place}} is not known; check {NAMED}",
    "failed to resolve host": f"the host of {{place}} is not known; check {NAMED}",
    "authentication failed": f"{{place}} refuses this user; check name and password in {NAMED}",
    "no password supplied": f"{{place}} asks for a password; give it in {NAMED} or in ~/.pgpass",
    'role "': f"{{place}} does not know this user; check {NAMED}",
    'database "': f"{{place}} does not exist; make it (createdb), or check {NAMED}",
    "permission denied": "{place} may not be written by this user; give it the right to",
    "terminating connection": ENDED,
    "server closed the connection": ENDED,
    "connection is lost": ENDED,
    "starting up": "{place} is starting; run it again in a moment",
    "shutting down": "{place} is being shut down; run it again once it is back",
    "recovery": "{place} recovers from a crash; run it again in a moment",
    "too many": "{place} has no connection left; run it again, or let it have more (max_connections)",
    "does not exist": OTHER,
}
"""The sentence for a part of the error's text."""
UNKNOWN = "{place} cannot be used at the moment ({reason}); nothing was written; see its log and run it again"
"""Any other error of operation, such as of connections, memory or disks."""


@contextmanager
def sentences(url: sa.URL, patience: float = PATIENCE) -> Iterator[None]:
    """Turns errors of the database at `url` into sentences with a way out.

    Raises:
        StoreError: the error is known, or a server cannot be used.
    """
    known = SQLITE if url.get_backend_name() == "sqlite" else POSTGRESQL
    try:
        yield
    except sa.exc.DatabaseError as error:
        text = str(error.orig).lower()
        for sign, sentence in known.items():
            if sign in text:
                raise StoreError(sentence.format(place=place(url), patience=patience)) from error
        if known is POSTGRESQL and isinstance(error, sa.exc.OperationalError):
            reason = " ".join(str(error.orig).split())
            raise StoreError(UNKNOWN.format(place=place(url), reason=reason)) from error
        raise


def place(url: sa.URL) -> str:
    """Returns where a database is, for people: a file, or a URL without its password."""
    if url.get_backend_name() == "sqlite" and url.database:
        return url.database
    return url.render_as_string(hide_password=True)
