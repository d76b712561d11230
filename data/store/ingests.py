"""The ledger of ingests: which file brought what to the store, and what times are there.

Times are whole seconds since 1970 UTC.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from data.city import City
from data.store.columns import key_of, now, storable
from data.store.schema import INGEST


@dataclass(frozen=True)
class Source:
    """Where slots come from: a file's path as given, and the SHA-256 of its content."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Added:
    """How many slots an ingest brought that were new, stored already, or replaced another value."""

    added: int
    equal: int
    replaced: int


def record(
    connection: sa.Connection,
    city: City,
    source: Source,
    added: Added,
    repairs: Mapping[str, int],
    outcome: str,
    message: str,
) -> int:
    """Writes what became of a file and returns the number of its entry.

    Args:
        connection: in whose transaction it is written.
        city: whose file it is.
        source: the file.
        added: what it brought.
        repairs: what the reader repaired.
        outcome: `stored` or `refused`.
        message: why it was refused, else "".
    """
    result = connection.execute(
        sa.insert(INGEST).values(
            city=city.name,
            at=now(),
            source=storable(source.path),
            sha256=source.sha256,
            outcome=outcome,
            added=added.added,
            equal=added.equal,
            replaced=added.replaced,
            repairs=json.dumps(dict(repairs)),
            message=storable(message),
        )
    )
    return key_of(result)
