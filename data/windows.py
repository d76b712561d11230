"""Windows: which slots a forecast sees and which it is compared with; never across a gap.

A window belongs to one `init_time`, the newest slot that a forecast may see. Its past are the slots
that lie `lag` steps back (lag 0 is the slot of `init_time` itself), its future the slots that lie
1 to `horizon` steps ahead. A window is whole where each of those slots is there.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from data.clock import Clock
from data.flow import step

INCOMPLETE = "a window has slots that the flow lacks; take init_times from whole()"


def whole(flow: xr.DataArray, lags: Sequence[int], horizon: int) -> np.ndarray:
    """Returns the init_times whose windows have every slot of `lags` and of `horizon` leads.

    Of `flow` only the times count (see `Store.times`); memory grows with them alone.
    """
    time = flow["time"].values
    if len(time) == 0:
        return np.asarray(time)
    offsets = np.union1d(-np.asarray(lags, dtype=np.int64), np.arange(horizon + 1))
    number = Clock.of(flow).number(time, time[0]) - offsets[0]
    there = np.zeros(number[-1] + offsets[-1] + 1, dtype=bool)
    there[number] = True
    kept = np.ones(len(time), dtype=bool)
    for offset in offsets:
        kept &= there[number + offset]
    return np.asarray(time[kept])


def thin(flow: xr.DataArray, init_times: np.ndarray, most: int) -> np.ndarray:
    """Returns every n-th of `init_times`, at most `most`, of an n by which all times of day come in turn.

    Args:
        flow: for its step.
        init_times: UTC, rising.
        most: of those that are returned, 1 or more.
    """
    slots_per_day = int(np.timedelta64(1, "D") / step(flow))
    stride = max(1, -(-len(init_times) // most))
    while np.gcd(stride, slots_per_day) > 1:
        stride += 1
    return np.asarray(init_times[::stride])


def future(flow: xr.DataArray, init_times: np.ndarray, horizon: int) -> xr.DataArray:
    """Returns what came after each of `init_times`: dims `(init_time, lead_time, channel, y, x)`."""
    leads = np.arange(1, horizon + 1)
    found = positions(flow, init_times, leads)
    if (found < 0).any():
        raise ValueError(INCOMPLETE)
    stack = flow.isel(time=xr.DataArray(found, dims=("init_time", "lead_time"))).drop_vars("time")
    times = np.asarray(init_times, dtype="datetime64[s]")
    return stack.assign_coords(init_time=times, lead_time=leads * step(flow))


def missing(flow: xr.DataArray, init_time: np.datetime64, lags: Sequence[int]) -> np.ndarray:
    """Returns the times, oldest first, of the slots among `lags` that are not in `flow`."""
    offsets = np.sort(-np.asarray(lags, dtype=np.int64))
    found = positions(flow, np.asarray([init_time]), offsets)[0] >= 0
    return Clock.of(flow).time(np.asarray(init_time), offsets[~found])


def positions(flow: xr.DataArray, init_times: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Returns where in `flow` the slots `offsets` steps after `init_times` stand.

    Args:
        flow: dims `(time, ...)`.
        init_times: UTC, `(n,)`.
        offsets: in steps, `(k,)`, or `(n, k)` for other ones of each init_time.

    Returns:
        `(n, k)`, -1 where a slot is missing.
    """
    time = flow["time"].values
    if len(time) == 0:
        return np.full((len(init_times), np.shape(offsets)[-1]), -1)
    return _rows(time, Clock.of(flow).number(init_times, time[0])[:, None] + offsets, flow)


def rows(flow: xr.DataArray, times: np.ndarray) -> np.ndarray:
    """Returns where in `flow` the slots at UTC `times`, of any shape, stand; -1 where there is none."""
    time = flow["time"].values
    if len(time) == 0:
        return np.full(np.shape(times), -1)
    known = ~np.isnat(times)
    wanted = Clock.of(flow).number(np.where(known, times, time[0]), time[0])
    return np.where(known, _rows(time, wanted, flow), -1)


def _rows(time: np.ndarray, wanted: np.ndarray, flow: xr.DataArray) -> np.ndarray:
    """Returns where the slots of the numbers `wanted`, counted from the first one, stand."""
    stored = Clock.of(flow).number(time, time[0])
    at = np.searchsorted(stored, wanted).clip(max=len(stored) - 1)
    return np.where(stored[at] == wanted, at, -1)
