"""Replay: an archive played back as if it were live, slot by slot, into the inbox of a city."""

import shutil
from collections.abc import Iterator

import numpy as np
import pandas as pd

from data.city import City, city_files, load_city
from data.clock import Clock, stamp, wall
from data.errors import FlowcastError
from data.files import write_whole
from data.flow import no_flow, split
from data.flow_table import write_flow_csv
from data.home import home
from data.store import Source, Store
from data.taxibj import write_taxibj
from data.taxibj_dates import shown
from pipelines.inbox import inbox


def town(city: City, name: str) -> City:
    """Returns the city that an archive is played into, and makes its TOML where there is none.

    Raises:
        FlowcastError: it is the city itself, or another kind of city.
    """
    if name == city.name:
        raise FlowcastError(
            f"{name} cannot be played into itself; name another city, such as --into {name}-live"
        )
    files = city_files()
    if name not in files:
        with write_whole(home() / "cities" / f"{name}.toml") as temporary:
            shutil.copyfile(files[city.name], temporary)
    other = load_city(name)
    if (other.grid, other.step, other.timezone) != (city.grid, city.step, city.timezone):
        raise FlowcastError(
            f"{name} has another grid, step or timezone than {city.name}; name a city that is not there "
            f"yet, and it is made"
        )
    return other


def begin(
    store: Store, city: City, into: City, first: np.datetime64 | None
) -> tuple[int, np.ndarray]:
    """Stores what lies before the first slot that is played, and returns its slots and those to play.

    Args:
        store: with the archive that is played.
        city: whose archive it is.
        into: city that it is played into.
        first: UTC; None for the first of the city's test days. Slots that are there are not played.

    Returns:
        number of slots stored, and the times of those to play, UTC.
    """
    times = store.times(city)
    if not times.size:
        raise no_flow(city)
    start = split(times, city).test.values[0] if first is None else first
    before = store.flow(city, last=start - np.timedelta64(1, "s"))
    span = store.span(into)
    stored = 0
    if before.sizes["time"] and (span is None or span[1] < before["time"].values[-1]):
        before.attrs["city"] = into.name
        stored = store.add_flow(into, before, source=Source(f"replay of {city.name}", "")).added
        span = store.span(into)
    played = times.values[times.values >= start]
    return stored, played if span is None else played[played > span[1]]


def play(store: Store, city: City, into: City, times: np.ndarray) -> Iterator[np.datetime64]:
    """Writes slot after slot into the inbox and yields when each is over, UTC.

    Args:
        store: with the archive that is played.
        city: whose archive it is.
        into: city that it is played into.
        times: of the slots, UTC.

    Raises:
        FlowcastError: the inbox cannot be written.
    """
    clock, folder = Clock(city.step, city.timezone), inbox(into)
    for time in times:
        slot = store.flow(city, first=time, last=time)
        path = folder / f"{into.name}-{pd.Timestamp(time):%Y%m%dT%H%MZ}.h5"
        if _shown_twice(time, into):  # the TaxiBJ layout names it as another one
            write_flow_csv(path.with_suffix(".csv"), slot)
        else:
            write_taxibj(path, slot.values, slot["time"].values, into)
        yield clock.after(time, 1)


def _shown_twice(time: np.datetime64, city: City) -> bool:
    first, second = shown(wall(np.array([time]), city.timezone), city.timezone)
    return bool(first[0] != second[0])


def told(time: np.datetime64, city: City) -> str:
    """Returns a time for people."""
    return stamp(time, city.timezone)
