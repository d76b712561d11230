"""Clock: how the slots of a city follow one another, and its wall time.

Slots of an hour or less follow one another in UTC: a day on which clocks are set has more or fewer of
them. Longer ones follow the wall clock: every day has the same number, of different lengths.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

Times = np.ndarray | np.datetime64
HOUR = np.timedelta64(3600, "s")


@dataclass(frozen=True)
class Clock:
    """The slots of a city, numbered from any of them.

    Attributes:
        step: time between two slots.
        timezone: IANA name.
    """

    step: np.timedelta64
    timezone: str

    @classmethod
    def of(cls, array: xr.DataArray) -> "Clock":
        """Returns the clock of a flow or a forecast, by its attributes."""
        return cls(np.timedelta64(int(array.attrs["step"]), "s"), str(array.attrs["timezone"]))

    def number(self, time: Times, origin: Times) -> np.ndarray:
        """Returns how many slots after `origin` each UTC `time` lies; shapes that broadcast."""
        if self.step > HOUR:
            time, origin = wall(time, self.timezone), wall(origin, self.timezone)
        seconds = (np.asarray(time) - np.asarray(origin)).astype("timedelta64[s]").astype(np.int64)
        width = self.step.astype("timedelta64[s]").astype(np.int64)
        return np.asarray((2 * seconds + width) // (2 * width))

    def time(self, origin: Times, number: np.ndarray) -> np.ndarray:
        """Returns the UTC time of the slot that lies `number` slots after `origin`."""
        if self.step <= HOUR:
            return np.asarray(origin, "datetime64[s]") + np.asarray(number) * self.step
        moved = wall(origin, self.timezone) + np.asarray(number) * self.step
        return utc(moved, self.timezone)

    def moves(self, times: np.ndarray) -> int:
        """Returns by how many steps clocks are set in the years of `times`, 0 for long steps."""
        if self.step > HOUR:
            return 0
        years = pd.to_datetime(np.asarray(times)[[0, -1]]).year
        months = np.array([f"{y}-{m:02}" for y in years for m in range(1, 13)], "datetime64[s]")
        return round(float(np.ptp(wall(months, self.timezone) - months) / self.step))

    def after(self, time: np.datetime64, steps: int) -> np.datetime64:
        """Returns the UTC time of the slot that lies `steps` slots after that of `time`."""
        return np.datetime64(self.time(time, np.asarray(steps)).item(), "s")


def local(time: Times, timezone: str) -> pd.DatetimeIndex:
    """Returns UTC `time`, flattened, in local time."""
    return pd.DatetimeIndex(np.ravel(time)).tz_localize("UTC").tz_convert(timezone)


def wall(time: Times, timezone: str) -> np.ndarray:
    """Returns the wall time at UTC `time`, of the same shape."""
    times = local(time, timezone).tz_localize(None).to_numpy()
    return times.astype("datetime64[s]").reshape(np.shape(time))


def utc(wall_time: np.ndarray, timezone: str) -> np.ndarray:
    """Returns wall times in UTC, of the same shape.

    An ambiguous one is the first of its two times, a nonexistent one the first moment after.
    """
    flat = pd.DatetimeIndex(np.ravel(wall_time))
    first = np.ones(len(flat), dtype=bool)
    zoned = flat.tz_localize(timezone, nonexistent="shift_forward", ambiguous=first)
    times = zoned.tz_convert("UTC").tz_localize(None).to_numpy()
    return times.astype("datetime64[s]").reshape(np.shape(wall_time))


def stamp(time: np.datetime64, timezone: str) -> str:
    """Returns the wall time at UTC `time` for people: `2016-03-20 08:00`."""
    return f"{local(time, timezone)[0]:%Y-%m-%d %H:%M}"


def duration(seconds: float) -> str:
    """Returns seconds as `3 days`, `1 h 02 min`, `3 min 20 s` or `12 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} days"
    if hours:
        return f"{hours} h {minutes_left:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
