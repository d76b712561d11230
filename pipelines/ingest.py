"""Ingest: files -> checked flow or weather -> store, one file at a time, each whole or not at all."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data.city import City
from data.errors import FlowcastError, StoreError
from data.files import sha256
from data.readers import input_files, read_file, reader_of
from data.store import Added, Source, Store
from data.weather import WeatherReading


@dataclass(frozen=True)
class Ingested:
    """What became of one file.

    Attributes:
        path: as given.
        series: `observed`, `expected` or `weather`.
        added: slots, or records of the weather, that were new, stored already, replaced.
        repairs: count by key in `REPAIRS`.
        refused: why nothing of it was stored, "" where it was taken.
        variables: of the weather.
    """

    path: Path
    series: str
    added: Added
    repairs: dict[str, int]
    refused: str = ""
    variables: tuple[str, ...] = ()


def ingest(
    store: Store, city: City, paths: Iterable[Path], *, replace: bool = False
) -> Iterator[Ingested]:
    """Takes files and folders into the city's archive and yields what became of each file.

    A refused file is recorded and yielded; those after it are taken all the same.

    Args:
        store: that takes them.
        city: whose reader, grid and rules hold.
        paths: files, or folders whose files are taken in the order of their names.
        replace: whether slots that are stored with another value take the new one; weather always
            does.

    Raises:
        FlowcastError: a path is missing, or the city names a reader that there is not.
        StoreError: the store cannot be written; the files yielded before are in it.
    """
    reader_of(city)  # a wrong TOML refuses no file
    for path in input_files(paths):
        source = Source(str(path), "")
        try:
            source = Source(str(path), _hash(path))
            taken = _take(store, city, source, path, replace=replace)
        except StoreError:
            raise
        except FlowcastError as error:
            store.add_refusal(city, source, str(error))
            yield Ingested(path, "observed", Added(0, 0, 0), {}, str(error))
        else:
            yield taken


def _take(store: Store, city: City, source: Source, path: Path, *, replace: bool) -> Ingested:
    """Stores what a file holds."""
    reading = read_file(path, city)
    if isinstance(reading, WeatherReading):
        added = store.add_weather(city, reading.weather, source=source, repairs=reading.repairs)
        variables = tuple(reading.weather["variable"].values.tolist())
        return Ingested(path, "weather", added, reading.repairs, variables=variables)
    added = store.add_flow(
        city,
        reading.flow,
        source=source,
        series=reading.series,
        repairs=reading.repairs,
        replace=replace,
    )
    return Ingested(path, reading.series, added, reading.repairs)


def _hash(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise FlowcastError(
            f"{path} cannot be read ({error.strerror}); is it there, and may this user read it?"
        ) from error
