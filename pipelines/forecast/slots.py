"""Slots: what forecasts look at of an archive, read run by run and not as a whole."""

import numpy as np
import xarray as xr

from data import windows
from data.city import City
from data.clock import Clock
from data.flow import CHANNELS
from data.store.store import Store


def read_slots(
    store: Store,
    city: City,
    init_times: np.ndarray,
    offsets: np.ndarray,
    series: str = "observed",
) -> xr.DataArray:
    """Returns the slots that lie `offsets` steps after any of `init_times`, and some between.

    Args:
        store: with the flow.
        city: whose it is.
        init_times: UTC, at least one.
        offsets: steps; without any the flow has no slots.
        series: `observed` or `expected`.
    """
    clock = Clock(city.step, city.timezone)
    origin = init_times[0]
    number = np.unique(clock.number(init_times, origin)[:, None] + np.asarray(offsets, dtype=int))
    if not number.size:
        return store.flow.read(city, series, first=origin, last=origin - city.step)
    # A query costs as much as the reading of about a MB.
    near = 2**20 // frame_bytes(city)
    runs = np.split(number, np.flatnonzero(np.diff(number) > 1 + near) + 1)
    parts = [
        store.flow.read(
            city, series, first=clock.after(origin, run[0]), last=clock.after(origin, run[-1])
        )
        for run in runs
    ]
    return xr.concat(parts, "time") if len(parts) > 1 else parts[0]


def observed_after(store: Store, city: City, init_times: np.ndarray, horizon: int) -> np.ndarray:
    """Returns what came after each init_time, NaN where nothing has.

    Args:
        store: with the flow.
        city: whose it is.
        init_times: UTC, at least one.
        horizon: steps.

    Returns:
        float32 vehicles per step, dims `(init_time, lead_time, channel, y, x)`.
    """
    leads = np.arange(1, horizon + 1)
    came = read_slots(store, city, init_times, leads)
    valid = Clock(city.step, city.timezone).time(init_times[:, None], leads)
    found = windows.rows(came, valid)
    observed = np.full((*found.shape, len(CHANNELS), *city.grid), np.nan, np.float32)
    observed[found >= 0] = came.values[found[found >= 0]]
    return observed


def frame_bytes(city: City) -> int:
    """Returns the bytes of a slot of a city in float32."""
    return 4 * len(CHANNELS) * city.grid[0] * city.grid[1]
