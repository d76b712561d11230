"""Typical flow: the same weekday and slot in the weeks before, for people to compare with."""

import numpy as np
import xarray as xr

from data.city import City
from data.clock import utc, wall
from data.flow import CHANNELS
from data.store.store import Store

WEEKS = 52
"""Weeks before a time that are read."""
MIN_WEEKS = 4
"""Weeks that are needed."""
HIGH = 0.95
"""Quantile of the weeks that `high` is."""


def typical(store: Store, city: City, times: np.ndarray, before: np.datetime64) -> xr.Dataset:
    """Returns the typical flow at the weekday and slot of each time, by the wall clock of the city.

    Args:
        store: with the archive.
        city: whose it is.
        times: UTC, strictly rising.
        before: UTC; slots that begin at it or later are left out.

    Returns:
        `mean` and `high`, the 95th percentile (linear between weeks, as `numpy.quantile`), vehicles
        per step, dims `(time, channel, y, x)`, NaN where there are fewer than `MIN_WEEKS` weeks; and
        `weeks`, their number, dim `time`.
    """
    shown = wall(times, city.timezone)
    frames = np.full((WEEKS, len(times), len(CHANNELS), *city.grid), np.nan, np.float32)
    for week in range(1, WEEKS + 1):
        same = utc(shown - np.timedelta64(7 * week, "D"), city.timezone)
        if not (same < before).any():
            continue
        flow = store.flow.read(city, first=same[0], last=min(same[-1], before - 1))
        row = np.searchsorted(flow["time"].values, same)
        there = row < flow.sizes["time"]
        there[there] = flow["time"].values[row[there]] == same[there]
        frames[week - 1, there] = flow.values[row[there]]
    count = np.isfinite(frames[:, :, 0, 0, 0]).sum(axis=0)
    shape = (len(times), len(CHANNELS), *city.grid)
    mean, high = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    for place in np.flatnonzero(count >= MIN_WEEKS):
        known = frames[np.isfinite(frames[:, place, 0, 0, 0]), place]
        mean[place] = known.mean(axis=0, dtype=np.float64)
        high[place] = np.quantile(known, HIGH, axis=0)
    dims = ("time", "channel", "y", "x")
    return xr.Dataset(
        {"mean": (dims, mean), "high": (dims, high), "weeks": ("time", count)},
        {"time": times, "channel": list(CHANNELS)},
    )
