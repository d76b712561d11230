"""The ledger of ingests: which file brought what to the store, and what times are there.

Times are whole seconds since 1970 UTC.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from data.city import City
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


def storable(text: str) -> str:
    """Returns a text that every database takes: names of files may hold bytes that are no text."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", r"\x00")


def key_of(result: sa.CursorResult[Any]) -> int:
    """Returns the key of the one row that was inserted."""
    if result.inserted_primary_key is None:
        raise AssertionError("an insert of one row has a key")
    return int(result.inserted_primary_key[0])


def as_seconds(time: np.ndarray) -> np.ndarray:
    """Returns times as the store writes them."""
    return time.astype("datetime64[s]").astype(np.int64)


def as_second(time: np.datetime64) -> int:
    """Returns one time as the store writes it."""
    return int(as_seconds(np.asarray(time)))


def as_times(stored: Any) -> np.ndarray:
    """Returns the times, `datetime64[s]`, that the store wrote as seconds."""
    return np.asarray(stored, dtype=np.int64).astype("datetime64[s]")


def now() -> int:
    """Returns the seconds of this moment."""
    return int(pd.Timestamp.now("UTC").timestamp())
