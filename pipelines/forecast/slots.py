"""Slots: the one way to line forecasts up with the archive, which is read in parts."""

from collections.abc import Iterable

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
    # A query costs as much as reading about a MB.
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
    """Returns what was observed after each init_time, NaN where a slot is missing.

    Args:
        store: with the flow.
        city: whose it is.
        init_times: UTC, at least one.
        horizon: steps.

    Returns:
        float32 vehicles per step, dims `(init_time, lead_time, channel, y, x)`.
    """
    leads = np.arange(1, horizon + 1)
    flow = read_slots(store, city, init_times, leads)
    found = windows.positions(flow, init_times, leads)
    observed = np.full((*found.shape, len(CHANNELS), *city.grid), np.nan, np.float32)
    observed[found >= 0] = flow.values[found[found >= 0]]
    return observed


def stack_forecasts(
    forecasts: Iterable[xr.DataArray], city: City, init_times: np.ndarray, horizon: int
) -> np.ndarray:
    """Returns stored forecasts beside what `observed_after` returns, NaN where there is none.

    Args:
        forecasts: each with one init_time; of several with the same the last counts.
        city: whose they are.
        init_times: UTC, rising.
        horizon: steps; further ones are left out.

    Returns:
        float32 vehicles per step, dims `(init_time, lead_time, channel, y, x)`.
    """
    shape = (len(init_times), horizon, len(CHANNELS), *city.grid)
    stack = np.full(shape, np.nan, np.float32)
    for forecast in forecasts:
        row = np.searchsorted(init_times, forecast["init_time"].values[0])
        if row < len(init_times) and init_times[row] == forecast["init_time"].values[0]:
            steps = min(horizon, forecast.sizes["lead_time"])
            stack[row, :steps] = forecast.values[0, :steps]
    return stack


def frame_bytes(city: City) -> int:
    """Returns the bytes of a slot of a city in float32."""
    return 4 * len(CHANNELS) * city.grid[0] * city.grid[1]
