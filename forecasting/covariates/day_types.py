"""Days: which of a city's days are like others of their weekday, as its traffic sees them.

A day of traffic begins at dawn: the night before a holiday's morning still belongs to the day before.
"""

import numpy as np
import xarray as xr

from data.clock import wall
from data.holidays import HOLIDAY, ORDINARY, Holidays

BRIDGE = 3
"""A day between a holiday and a weekend, on which many are away."""
DAWN = np.timedelta64(5, "h")
DAY = np.timedelta64(1, "D")
EPOCH = 3
"""Weekday of 1 January 1970, Monday being 0."""


def days(flow: xr.DataArray, times: np.ndarray) -> np.ndarray:
    """Returns the day of traffic that UTC `times` belong to, `datetime64[D]` of the same shape.

    Args:
        flow: for its timezone and step.
        times: starts of slots; NaT stays it.
    """
    half = np.timedelta64(int(flow.attrs["step"]) // 2, "s")
    there = ~np.isnat(times)
    result = np.full(np.shape(times), np.datetime64("NaT"), dtype="datetime64[D]")
    shown = wall(times[there], str(flow.attrs["timezone"]))
    result[there] = (shown + half - DAWN).astype("datetime64[D]")
    return result


def day_types(flow: xr.DataArray, day: np.ndarray) -> np.ndarray:
    """Returns the kind of each day, one of `data.holidays` or `BRIDGE`; int8.

    Args:
        flow: for its country.
        day: `datetime64[D]`, any shape; NaT is ordinary.
    """
    found = np.full(day.shape, ORDINARY, dtype=np.int8)
    there = ~np.isnat(day)
    known = day[there]
    holidays = Holidays.of(flow)
    before, today, after = (holidays.day_types(known + shift * DAY) for shift in (-1, 0, 1))
    off = [np.isin(weekday(known + shift * DAY), holidays.weekend) for shift in (-1, 0, 1)]
    bridge = ((before == HOLIDAY) & off[2] | (after == HOLIDAY) & off[0]) & ~off[1]
    found[there] = np.where((today == ORDINARY) & bridge, BRIDGE, today)
    return found


def substitute_weekdays(flow: xr.DataArray) -> tuple[int, int]:
    """Returns the last day of the weekend and the first day after it, Monday being 0.

    Args:
        flow: for its country.
    """
    weekend = Holidays.of(flow).weekend
    last = max(day for day in weekend if (day + 1) % 7 not in weekend)
    return last, (last + 1) % 7


def weekday(day: np.ndarray) -> np.ndarray:
    """Returns the weekday of days, Monday being 0."""
    return np.asarray((day.astype("datetime64[D]").astype(np.int64) + EPOCH) % 7)
