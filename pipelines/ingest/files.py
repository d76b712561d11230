"""Ingest: files -> checked flow or weather -> store, one file at a time, each whole or not at all."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.city import City
from data.clock import stamp
from data.errors import FlowcastError, NotNowError, StoreError
from data.files import sha256
from data.formats.reading import Reading
from data.formats.registry import input_files, read_file, reader_of
from data.store.ingests import Added, Source
from data.store.store import Store
from data.weather import WeatherReading
from pipelines import log
from pipelines.ingest.ambiguous_hour import told_apart

SKEW = np.timedelta64(300, "s")
"""By how much the clock of who sends files may be ahead of ours."""
SOON = np.timedelta64(2, "D")
"""By how much slots may lie ahead of a clock that is behind."""


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
        NotNowError: a file cannot be read at the moment, by no fault of its own.
        StoreError: the store cannot be written; the files yielded before are in it.
    """
    reader_of(city)  # a wrong TOML refuses no file
    for path in input_files(paths):
        yield ingest_file(store, city, path, replace=replace)


def ingest_file(store: Store, city: City, path: Path, *, replace: bool = False) -> Ingested:
    """Takes a file into the city's archive and returns what became of it; a refusal is recorded.

    Args:
        store: that takes it.
        city: whose reader, grid and rules hold; there is such a reader.
        path: of the file.
        replace: as in `ingest`.

    Raises:
        NotNowError: it cannot be read at the moment, by no fault of its own.
        StoreError: the store cannot be written.
    """
    source = Source(str(path), "")
    try:
        source = Source(str(path), _hash(path))
        return _stored(store, city, source, _read(path, city), replace=replace)
    except (StoreError, NotNowError):
        raise
    except FlowcastError as error:
        return refuse(store, city, source, str(error))


def refuse(store: Store, city: City, source: Source, reason: str) -> Ingested:
    """Records that a file is refused, and why."""
    store.ingests.add_refusal(city, source, reason)
    return Ingested(Path(source.path), "observed", Added(0, 0, 0), {}, reason)


def _read(path: Path, city: City) -> Reading | WeatherReading:
    """Returns what a file holds; one that leads a reader into a bug of ours is refused too."""
    try:
        return read_file(path, city)
    except (FlowcastError, MemoryError):
        raise
    except OSError as error:
        raise NotNowError(f"{path} cannot be read at the moment ({error}); try again") from error
    except Exception as error:
        log.fail(repr(error), traceback=True, city=city.name, path=str(path))
        raise FlowcastError(
            f"{path} holds something that no reader knows ({error!r}); get it anew from its source, or "
            f"report it as a bug of flowcast"
        ) from error


def _stored(
    store: Store, city: City, source: Source, reading: Reading | WeatherReading, *, replace: bool
) -> Ingested:
    """Stores what a file holds."""
    path = Path(source.path)
    if isinstance(reading, WeatherReading):
        added = store.weather.add(city, reading.weather, source=source, repairs=reading.repairs)
        variables = tuple(reading.weather["variable"].values.tolist())
        return Ingested(path, "weather", added, reading.repairs, variables=variables)
    try:
        _check_past(city, reading.flow["time"].values)
        flow = told_apart(store, city, reading) if reading.doubtful else reading.flow
    except StoreError:
        raise
    except FlowcastError as error:
        raise type(error)(f"{path}: {error}") from error
    added = store.flow.add(
        city,
        flow,
        source=source,
        series=reading.series,
        repairs=reading.repairs,
        replace=replace,
    )
    return Ingested(path, reading.series, added, reading.repairs)


def _check_past(city: City, times: np.ndarray) -> None:
    """Refuses slots that are still to come: they would be taken for the newest from then on.

    Raises:
        NotNowError: they come within days, so that the clock of this host may be behind.
        FlowcastError: they come later.
    """
    ahead = times[-1] - (np.datetime64(int(time.time()), "s") + SKEW)
    if ahead <= np.timedelta64(0, "s"):
        return
    text = f"its slot {stamp(times[-1], city.timezone)} is still to come"
    if ahead <= SOON:
        raise NotNowError(
            f"{text}; is the clock of this host right, and the timezone of {city.name}?"
        )
    raise FlowcastError(f"{text}; correct the dates, or get it anew")


def _hash(path: Path) -> str:
    try:
        return sha256(path)
    except FileNotFoundError as error:
        raise FlowcastError(f"{path} is gone; put it back, or name another") from error
    except OSError as error:
        raise NotNowError(
            f"{path} cannot be read ({error.strerror}); give this user the right to read it"
        ) from error
