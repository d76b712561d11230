"""Ingest: files -> checked flow -> store, one file at a time, each whole or not at all."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data.city import City
from data.errors import FlowcastError, StoreError
from data.files import sha256
from data.readers import flow_files, reader_of
from data.store import Added, Source, Store


@dataclass(frozen=True)
class Ingested:
    """What became of one file.

    Attributes:
        path: as given.
        series: `observed` or `expected`.
        added: slots that were new, stored already, replaced.
        repairs: count by key in `REPAIRS`.
        refused: why nothing of it was stored, "" where it was taken.
    """

    path: Path
    series: str
    added: Added
    repairs: dict[str, int]
    refused: str = ""


def ingest(
    store: Store, city: City, paths: Iterable[Path], *, replace: bool = False
) -> Iterator[Ingested]:
    """Takes files and folders into the city's archive and yields what became of each file.

    A refused file is recorded and yielded; those after it are taken all the same.

    Args:
        store: that takes them.
        city: whose reader, grid and rules hold.
        paths: files, or folders whose files are taken in the order of their names.
        replace: whether slots that are stored with another value take the new one.

    Raises:
        FlowcastError: a path is missing, or the city names a reader that there is not.
        StoreError: the store cannot be written; the files yielded before are in it.
    """
    read = reader_of(city)
    for path in flow_files(paths):
        source = Source(str(path), "")
        try:
            source = Source(str(path), _hash(path))
            reading = read(path, city)
            added = store.add_flow(
                city,
                reading.flow,
                source=source,
                series=reading.series,
                repairs=reading.repairs,
                replace=replace,
            )
        except StoreError:
            raise
        except FlowcastError as error:
            store.add_refusal(city, source, str(error))
            yield Ingested(path, "observed", Added(0, 0, 0), {}, str(error))
        else:
            yield Ingested(path, reading.series, added, reading.repairs)


def _hash(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise FlowcastError(
            f"{path} cannot be read ({error.strerror}); is it there, and may this user read it?"
        ) from error
