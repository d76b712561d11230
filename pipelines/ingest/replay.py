"""Replay: an archive, or files, played back as if live, slot by slot, into the inbox of a city."""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from data.city import NAME, City, city_files, load_city
from data.clock import Clock, stamp, wall
from data.errors import FlowcastError
from data.files import atomic_write
from data.flow import no_flow, split
from data.formats.reading import Reading
from data.formats.registry import input_files, read_file
from data.formats.tables import write_flow_csv
from data.formats.taxibj import write_taxibj
from data.formats.taxibj_dates import utc_of_wall
from data.paths import city_file
from data.store.ingests import Source
from data.store.store import Store
from pipelines.ingest.inbox import open_inbox


def target_city(city: City, name: str) -> City:
    """Returns the city that a flow is played into; its TOML is made where it does not exist.

    Raises:
        FlowcastError: it is the city itself, or has another grid, step or timezone.
    """
    if name == city.name:
        raise FlowcastError(
            f"{name} cannot be played into itself; name another city, such as --into {name}-live"
        )
    files = city_files()
    if not NAME.fullmatch(name):
        load_city(name)  # it says what names may be
    if name not in files:
        with atomic_write(city_file(name)) as temporary:
            shutil.copyfile(files[city.name], temporary)
    other = load_city(name)
    if (other.grid, other.step, other.timezone) != (city.grid, city.step, city.timezone):
        raise FlowcastError(
            f"{name} has another grid, step or timezone than {city.name}; name a city that does not "
            f"exist yet, and it is made"
        )
    return other


def from_archive(store: Store, city: City, first: np.datetime64 | None) -> xr.DataArray:
    """Returns the flow of an archive from `first`, UTC, on; by default from its first test day on.

    Raises:
        FlowcastError: there is no flow.
    """
    times = store.flow.times(city)
    if not times.size:
        raise no_flow(city)
    return store.flow.read(
        city, first=split(times, city).test.values[0] if first is None else first
    )


def from_files(paths: Iterable[Path], city: City, first: np.datetime64 | None) -> xr.DataArray:
    """Returns the flow of files from `first`, UTC, on; of a slot that several hold, the last one's.

    Raises:
        FlowcastError: a file is refused, or none holds any flow from `first` on.
    """
    parts = []
    for path in input_files(paths):
        reading = read_file(path, city)
        if isinstance(reading, Reading) and reading.series == "observed":
            parts.append(reading.flow)
    if not parts:
        raise FlowcastError("these files hold no observed flow to play; name others")
    flow = xr.concat(parts, "time").drop_duplicates("time", keep="last").sortby("time")
    played = flow if first is None else flow[flow["time"].values >= first]
    if not played.size:
        last = stamp(flow["time"].values[-1], city.timezone)
        raise FlowcastError(f"the flow of these files ends {last}; let --from be no later")
    return played


def store_past(
    store: Store, city: City, into: City, flow: xr.DataArray
) -> tuple[int, xr.DataArray]:
    """Stores what lies before the first slot that is played; returns what is left to play.

    Args:
        store: with the archive of the city, if any.
        city: whose flow it is.
        into: city that it is played into; slots up to the newest that it has are not played.
        flow: dims `(time, channel, y, x)`, of `from_archive` or `from_files`.

    Returns:
        number of slots stored, and the flow to play.
    """
    before = store.flow.read(city, last=flow["time"].values[0] - np.timedelta64(1, "s"))
    span = store.flow.span(into)
    stored = 0
    if before.sizes["time"] and (span is None or span[1] < before["time"].values[-1]):
        before.attrs["city"] = into.name
        stored = store.flow.add(into, before, source=Source(f"replay of {city.name}", "")).added
        span = store.flow.span(into)
    return stored, flow if span is None else flow[flow["time"].values > span[1]]


def play(flow: xr.DataArray, into: City) -> Iterator[np.datetime64]:
    """Writes slot after slot into the inbox and yields when each is over, UTC.

    Raises:
        FlowcastError: the inbox cannot be written.
    """
    clock, folder = Clock(into.step, into.timezone), open_inbox(into)
    for at, time in enumerate(flow["time"].values):
        slot = flow[at : at + 1]
        path = folder / f"{into.name}-{pd.Timestamp(time):%Y%m%dT%H%MZ}.h5"
        if _is_ambiguous(time, into):  # the TaxiBJ layout would name the other slot too
            write_flow_csv(path.with_suffix(".csv"), slot)
        else:
            write_taxibj(path, slot.values, slot["time"].values, into)
        yield clock.after(time, 1)


def _is_ambiguous(time: np.datetime64, city: City) -> bool:
    first, second = utc_of_wall(wall(np.array([time]), city.timezone), city.timezone)
    return bool(first[0] != second[0])
