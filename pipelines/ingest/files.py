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
from data.formats.reading import Reading, WeatherReading
from data.formats.registry import check_reader, input_files, read_file
from data.store.ingests import Added, Source
from data.store.store import Store
from pipelines import log
from pipelines.ingest.ambiguous_hour import resolve_ambiguous

CLOCK_SKEW = np.timedelta64(300, "s")
"""How far the clock of a sender may be ahead of ours."""
RETRIED_AHEAD = np.timedelta64(2, "D")
"""Slots up to this far ahead are retried: the clock of this host may be behind."""


@dataclass(frozen=True)
class Ingested:
    """What became of one file.

    Attributes:
        path: as given.
        series: `observed`, `expected` or `weather`.
        added: slots, or records of the weather, that were new, stored already, replaced.
        repairs: count by key in `REPAIRS`.
        refused: why nothing of it was stored, "" where it was stored.
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
    """Ingests files and folders into the city's archive and yields what became of each file.

    A refused file is recorded and yielded; those after it are ingested all the same.

    Args:
        store: that they go to.
        city: whose reader, grid and rules hold.
        paths: files, or folders, whose files are ingested in the order of their names.
        replace: whether slots that are stored with another value take the new one, as weather always
            does.

    Raises:
        FlowcastError: a path is missing, or the city names a reader that does not exist.
        NotNowError: a file cannot be read at the moment, by no fault of its own.
        StoreError: the store cannot be written; the files yielded before are in it.
    """
    check_reader(city)  # a wrong TOML refuses no file
    for path in input_files(paths):
        yield ingest_file(store, city, path, replace=replace)


def ingest_file(store: Store, city: City, path: Path, *, replace: bool = False) -> Ingested:
    """Ingests a file into the city's archive and returns what became of it; a refusal is recorded.

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
    """Returns what a file holds; a file that shows a bug in a reader is refused too."""
    try:
        return read_file(path, city)
    except (FlowcastError, MemoryError):
        raise
    except OSError as error:
        raise NotNowError(f"{path} cannot be read at the moment ({error}); try again") from error
    except Exception as error:
        log.fail(repr(error), traceback=True, city=city.name, path=str(path))
        raise FlowcastError(
            f"{path} cannot be read ({error!r}); get it anew from its source, or report it as a bug of "
            f"flowcast"
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
        flow = resolve_ambiguous(store, city, reading) if reading.ambiguous else reading.flow
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
    """Refuses slots in the future: they would count as the newest from then on.

    Raises:
        NotNowError: they lie a few days ahead, so that the clock of this host may be behind.
        FlowcastError: they lie further ahead.
    """
    ahead = times[-1] - (np.datetime64(int(time.time()), "s") + CLOCK_SKEW)
    if ahead <= np.timedelta64(0, "s"):
        return
    text = f"its slot {stamp(times[-1], city.timezone)} lies in the future"
    if ahead <= RETRIED_AHEAD:
        raise NotNowError(f"{text}; check the clock of this host, and the timezone of {city.name}")
    raise FlowcastError(f"{text}; correct the dates, or get it anew")


def _hash(path: Path) -> str:
    try:
        return sha256(path)
    except FileNotFoundError as error:
        raise FlowcastError(
            f"{path} does not exist any more; put it back, or name another file"
        ) from error
    except OSError as error:
        raise NotNowError(
            f"{path} cannot be read ({error.strerror}); give this user the right to read it"
        ) from error
