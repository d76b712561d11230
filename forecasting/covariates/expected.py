"""Expected flow: what is usual at a time, from the same weekday and slot of the weeks before it.

It follows the city as weeks pass and never sees what comes after: of a time it knows the weeks that
lie before the slot from which it is forecast. It is robust, for a storm of one week must not move
what is expected of the next ones: values far from the middle of the weeks are drawn in (winsorised,
after Huber: Robust Statistics, 1981, section 1.1). Holidays are no weekdays like others: they are left
out of what is expected of ordinary days, and are themselves expected to lie halfway between their
weekday and a Sunday, or whatever day ends the weekend of the country, as are the days between them and a
weekend; weekend days that are worked lie halfway to a Monday.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data import windows
from data.clock import Clock, utc, wall
from data.holidays import ORDINARY, WORKED
from forecasting.covariates.climatology import Climatology, calendar
from forecasting.covariates.day_types import day_types, days, substitute_weekdays
from forecasting.covariates.day_types import weekday as weekday_of
from forecasting.history import History

WEEK = np.timedelta64(7, "D")
DAY = np.timedelta64(1, "D")
WEEKS = 8
"""Weeks that are looked back on."""
HALF_LIFE = 6.0
"""Weeks after which a week counts half."""
LEAST = 4
"""Weeks that are asked for: where there are fewer, the usual mean stands in for those that lack."""
FRAMES_AT_ONCE = 2**24
"""Numbers that are sorted at a time, to bound the memory."""


@dataclass(frozen=True)
class Expected:
    """What is usual in a city.

    Attributes:
        climatology: mean flow by weekday and slot of the ordinary days that the forecaster was fitted on.
            It stands in where weeks are missing, and for the Sundays of holidays.
        shift: slots by which clocks are ever moved.
    """

    climatology: Climatology
    shift: int = 0

    @classmethod
    def fit(cls, flow: xr.DataArray) -> "Expected":
        """Returns what is usual at the end of `flow`, which holds at least one slot.

        Args:
            flow: dims `(time, channel, y, x)`; its last weeks count.
        """
        time = flow["time"].values
        recent = time > time[-1] - WEEKS * WEEK
        there = recent & (day_types(flow, days(flow, time)) == ORDINARY)
        chosen = there if there.any() else recent
        return cls.of(flow, Climatology.fit(flow[chosen]))

    @classmethod
    def of(cls, flow: xr.DataArray, usual: Climatology) -> "Expected":
        """Returns what is usual by a climatology and the clocks of the city of `flow`, or its times."""
        return cls(usual, Clock.of(flow).moves(flow["time"].values))

    def lags(self, offsets: np.ndarray) -> set[int]:
        """Returns the slots that `at` looks for, in steps back from the slot of a forecast.

        Args:
            offsets: of the times that are asked for, in steps after that slot, of any sign.
        """
        first = self.first(offsets)
        around = np.arange(-self.shift, self.shift + 1)
        weeks = first[:, None] + np.arange(WEEKS)
        lags = (weeks * self._week - np.asarray(offsets)[:, None])[..., None] + around
        return {int(lag) for lag in lags.ravel() if lag >= 0}

    def first(self, offsets: np.ndarray) -> np.ndarray:
        """Returns how many weeks before a time the newest week lies that a forecast knows.

        Args:
            offsets: of the times, in steps after the slot of the forecast.
        """
        # Where clocks are moved, a week before may lie some slots later than a week's slots before.
        return np.asarray(np.maximum(1, -(-(np.asarray(offsets) + self.shift) // self._week)))

    def ahead(self, history: History, offsets: np.ndarray) -> np.ndarray:
        """Returns the expected flow `offsets` steps after each init_time, as `at` does."""
        return self.at(history, history.times(offsets), self.first(offsets))

    def at(self, history: History, times: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Returns the expected flow at times.

        Args:
            history: with the slots that `lags` names, where they are there.
            times: UTC, `(n, k)`, of each init_time.
            first: weeks before each of them from which on back it is known, as `first` says; of a
                shape that broadcasts to that of `times`.

        Returns:
            float32 `(n, k, channel, y, x)`, vehicles per step.
        """
        asked = np.broadcast_to(first, times.shape)
        # Neighboring forecasts share most of their times; each is computed once, from what the
        # earliest of them has.
        pairs = np.stack([times.astype("datetime64[s]").astype(np.int64), asked], axis=-1)
        unique, inverse = np.unique(pairs.reshape(-1, 2), axis=0, return_inverse=True)
        where = inverse.ravel()
        newest = np.full(len(unique), np.iinfo(np.int64).max)
        np.minimum.at(newest, where, np.repeat(history.init_times.astype(np.int64), times.shape[1]))
        moments = unique[:, 0].astype("datetime64[s]")
        weeks = _weeks_before(moments, history.clock, unique[:, 1, None] + np.arange(WEEKS))
        found = history.rows(ordinary(history.flow, weeks), newest.astype("datetime64[s]"))
        age = np.abs((moments[:, None] - weeks) / WEEK)
        values = self._means(
            history.flow, moments, found, age, lambda part: self.climatology.expected(moments[part])
        )
        return values[where].reshape(*times.shape, *values.shape[1:])

    def series(self, flow: xr.DataArray) -> np.ndarray:
        """Returns the expected flow of each slot of `flow` as days to come will have it.

        The first weeks have too few before them: there the weeks after stand in. A slot itself is
        never in what is expected of it, or training would see its target.

        Args:
            flow: dims `(time, channel, y, x)`, as are those of the result.
        """
        time, clock = flow["time"].values.astype("datetime64[s]"), Clock.of(flow)
        back = np.broadcast_to(np.arange(1, WEEKS + 1), (len(time), WEEKS))
        ahead = np.broadcast_to(-np.arange(1, LEAST + 1), (len(time), LEAST))
        weeks = _weeks_before(time, clock, np.concatenate([back, ahead], axis=1))
        found = windows.rows(flow, ordinary(flow, weeks))
        found[:, WEEKS:][np.cumsum(found >= 0, axis=1)[:, WEEKS:] > LEAST] = -1
        age = np.abs((time[:, None] - weeks) / WEEK)
        return self._means(flow, time, found, age, _mean_of_other_days(flow))

    @property
    def _week(self) -> int:
        """Slots of a week."""
        return int(WEEK // np.timedelta64(self.climatology.step, "s"))

    def _means(
        self,
        flow: xr.DataArray,
        times: np.ndarray,
        found: np.ndarray,
        age: np.ndarray,
        usual: Callable[[slice], np.ndarray],
    ) -> np.ndarray:
        """Returns the robust means of the rows `found` `(n, k)` of `flow` for `times` `(n,)`."""
        means = np.empty((len(times), *flow.shape[1:]), dtype=np.float32)
        # Where nothing is known there is still a frame to take, which no mean counts.
        frames = flow.values if len(flow) else np.zeros((1, *flow.shape[1:]), dtype=np.float32)
        size = max(1, FRAMES_AT_ONCE // (found.shape[1] * int(np.prod(flow.shape[1:]))))
        for start in range(0, len(times), size):
            part = slice(start, start + size)
            means[part] = _robust(frames, found[part], age[part], usual(part))
        return self._on_holidays(flow, times, means)

    def _on_holidays(self, flow: xr.DataArray, times: np.ndarray, means: np.ndarray) -> np.ndarray:
        """Returns the means, on holidays and worked days halfway to their kin."""
        day = days(flow, times)
        kind = day_types(flow, day)
        special = np.flatnonzero(kind != ORDINARY)
        if len(special):
            weekday, slot = calendar(
                times[special], self.climatology.timezone, self.climatology.step
            )
            # After midnight the kin's slot is on the day after it.
            late = (weekday - weekday_of(day[special])) % 7
            rest, work = substitute_weekdays(flow)
            like = np.where(kind[special] == WORKED, work, rest)
            means[special] = (means[special] + self.climatology.mean[(like + late) % 7, slot]) / 2
        return means


def _robust(
    frames: np.ndarray, found: np.ndarray, age: np.ndarray, usual: np.ndarray
) -> np.ndarray:
    """Returns winsorised means, younger weeks counting more.

    Args:
        frames: `(t, c, y, x)`.
        found: `(n, k)` rows of `frames`, -1 where there is none.
        age: `(n, k)` weeks.
        usual: `(n, c, y, x)` stands in for weeks that lack to `LEAST`.
    """
    there = found >= 0
    values = frames[np.maximum(found, 0)].astype(np.float32)
    wide = (..., None, None, None)
    values[~there] = np.inf
    ordered = np.sort(values, axis=1)
    count = there.sum(axis=1)
    middle = _median(ordered, count)
    far = np.abs(values - middle[:, None])
    # 1.4826 makes the median deviation a standard deviation; counts vary by their root at least.
    spread = 1.4826 * _median(np.sort(far, axis=1), count) + np.sqrt(middle + 1)
    drawn = np.clip(values, (middle - spread)[:, None], (middle + spread)[:, None])
    weight = np.where(there, 0.5 ** (np.nan_to_num(age) / HALF_LIFE), 0)
    lacking = np.maximum(LEAST - count, 0)
    total = np.einsum("nk,nkcyx->ncyx", weight, np.where(there[wide], drawn, 0))
    whole = weight.sum(axis=1) + lacking
    return np.asarray((total + lacking[wide] * usual) / whole[wide], dtype=np.float32)


def _median(ordered: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Returns the medians of the first `count` `(n,)` of `ordered` `(n, k, c, y, x)`, 0 of none."""
    rows = np.arange(len(ordered))
    low, high = np.maximum(count - 1, 0) // 2, np.maximum(count, 1) // 2
    middle = (ordered[rows, low] + ordered[rows, high]) / 2
    return np.asarray(np.where((count > 0)[:, None, None, None], middle, 0))


def _weeks_before(times: np.ndarray, clock: Clock, weeks: np.ndarray) -> np.ndarray:
    """Returns when clocks showed the same `weeks` `(n, k)` weeks before `times` `(n,)`, UTC."""
    shown = wall(times, clock.timezone)[:, None] - weeks * WEEK
    return utc(shown, clock.timezone)


def ordinary(flow: xr.DataArray, times: np.ndarray) -> np.ndarray:
    """Returns UTC `times`, NaT for those on holidays and worked weekends of the city of `flow`."""
    chosen = day_types(flow, days(flow, times)) == ORDINARY
    return np.asarray(np.where(chosen, times, np.datetime64("NaT")))


def _mean_of_other_days(flow: xr.DataArray) -> Callable[[slice], np.ndarray]:
    """Returns what gives, for some of the slots of `flow`, their mean over all other days."""
    _, slot = calendar(flow["time"].values, str(flow.attrs["timezone"]), int(flow.attrs["step"]))
    total = np.zeros((slot.max() + 1, *flow.shape[1:]))
    for place, frame in zip(slot, flow.values, strict=True):
        total[place] += frame
    days = np.bincount(slot)
    overall = total.sum(axis=0)

    def mean(part: slice) -> np.ndarray:
        count = days[slot[part]][:, None, None, None]
        other = (total[slot[part]] - flow.values[part]) / np.maximum(count - 1, 1)
        rest = (overall - flow.values[part]) / max(len(slot) - 1, 1)
        return np.asarray(np.where(count > 1, other, rest), dtype=np.float32)

    return mean
