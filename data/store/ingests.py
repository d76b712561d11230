"""The ledger of ingests: which file brought what to the store, and which was refused."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import sqlalchemy as sa

from data.city import City
from data.store.columns import key_of, now, storable
from data.store.database import Repository
from data.store.schema import INGEST


@dataclass(frozen=True)
class Source:
    """Where slots come from: a file's path as given, and the SHA-256 of its content."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Added:
    """How many slots of a file were new, stored already with equal values, or replaced others."""

    added: int
    equal: int
    replaced: int


class Ingests(Repository):
    """The ledger in `database`."""

    def add_refusal(self, city: City, source: Source, message: str) -> None:
        """Writes that a file was refused, and why."""
        with self._database.write() as connection:
            add_ingest(connection, city, source, Added(0, 0, 0), {}, message)

    def table(self, city: City) -> pd.DataFrame:
        """Returns the entries, oldest first: the columns of the table; `repairs` are dicts."""
        query = sa.select(INGEST).where(INGEST.c.city == city.name).order_by(INGEST.c.id)
        table = self._database.table(query, times=["at"])
        table["repairs"] = [json.loads(text) for text in table["repairs"]]
        return table


def add_ingest(
    connection: sa.Connection,
    city: City,
    source: Source,
    added: Added,
    repairs: Mapping[str, int],
    refusal: str = "",
) -> int:
    """Writes what became of a file and returns the number of its entry.

    Args:
        connection: in whose transaction it is written.
        city: whose file it is.
        source: the file.
        added: what it brought.
        repairs: what the reader repaired.
        refusal: why it was refused; "" where it was stored.
    """
    result = connection.execute(
        sa.insert(INGEST).values(
            city=city.name,
            at=now(),
            source=storable(source.path),
            sha256=source.sha256,
            outcome="refused" if refusal else "stored",
            added=added.added,
            equal=added.equal,
            replaced=added.replaced,
            repairs=json.dumps(dict(repairs)),
            message=storable(refusal),
        )
    )
    return key_of(result)
