"""Baselines: forecasters without a network, which every network must beat."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data.clock import Clock, utc, wall
from forecasting.covariates.climatology import Climatology
from forecasting.covariates.expected import Expected
from forecasting.forecaster import Forecaster, flow_of, label_forecast, past_times, valid_times

WEEK = 7 * 86_400


@dataclass(frozen=True)
class Persistence:
    """The newest slot, again and again."""

    name: str = "persistence"

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the newest slot alone."""
        return (0,)

    def memory(self, horizon: int) -> tuple[int, ...]:
        """Returns nothing."""
        return ()

    def __call__(self, past: xr.DataArray, horizon: int) -> xr.DataArray:
        """Returns the newest slot at every lead."""
        newest = past.sel(lag=[0]).values
        return label_forecast(np.repeat(newest, horizon, axis=1), past)


@dataclass(frozen=True)
class SameSlotLastWeek:
    """What was there at the same wall time a week before the time that is forecast.

    Attributes:
        step: seconds.
        shift: steps by which the city's clocks are ever moved, 0 where they are not.
    """

    step: int
    shift: int = 0
    name: str = "same slot last week"

    @classmethod
    def fit(cls, flow: xr.DataArray) -> "SameSlotLastWeek":
        """Returns the baseline for the step and the clocks of the city of `flow`, or of its times."""
        return cls(int(flow.attrs["step"]), Clock.of(flow).moves(flow["time"].values))

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the slots about a week before each lead, or as many weeks as lie in the past."""
        around = np.arange(-self.shift, self.shift + 1)
        lags = self._in_past(-np.arange(1, horizon + 1) % self._week[:, None] + around[:, None])
        return tuple(np.unique(lags)[::-1].tolist())

    def memory(self, horizon: int) -> tuple[int, ...]:
        """Returns nothing."""
        return ()

    def __call__(self, past: xr.DataArray, horizon: int) -> xr.DataArray:
        """Returns last week's flow at each lead."""
        clock, init_time = Clock.of(past), past["init_time"].values[:, None]
        weeks = -(-np.arange(1, horizon + 1) // self._week) * np.timedelta64(7, "D")
        shown = wall(valid_times(past, horizon), clock.timezone) - weeks
        wanted = self._in_past(-clock.number(utc(shown, clock.timezone), init_time))
        at = np.searchsorted(-past["lag"].values, -wanted)
        rows = np.arange(len(init_time))[:, None]
        return label_forecast(past.values[rows, at], past)

    @property
    def _week(self) -> np.ndarray:
        """Slots of a week, in an array of one."""
        return np.array([WEEK // self.step])

    def _in_past(self, lags: np.ndarray) -> np.ndarray:
        """Returns the lags, a week older where moved clocks put them after `init_time`."""
        return np.where(lags < 0, lags + self._week, lags)


@dataclass(frozen=True)
class HistoricalAverage:
    """The mean of the weekday and slot that is forecast."""

    climatology: Climatology
    name: str = "historical average"

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns nothing: it looks at the calendar alone."""
        return ()

    def memory(self, horizon: int) -> tuple[int, ...]:
        """Returns nothing."""
        return ()

    def __call__(self, past: xr.DataArray, horizon: int) -> xr.DataArray:
        """Returns the mean flow at each lead."""
        return label_forecast(self.climatology.expected(valid_times(past, horizon)), past)


@dataclass(frozen=True)
class AverageAndAnomaly:
    """The historical average plus a share of the newest slot's difference from it."""

    climatology: Climatology
    share: float = 0.8
    name: str = "historical average + last anomaly"

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the newest slot alone."""
        return (0,)

    def memory(self, horizon: int) -> tuple[int, ...]:
        """Returns nothing."""
        return ()

    def __call__(self, past: xr.DataArray, horizon: int) -> xr.DataArray:
        """Returns the mean flow at each lead plus `share` times the newest anomaly."""
        newest = past.sel(lag=[0])
        anomaly = newest.values - self.climatology.expected(past_times(newest))
        expected = self.climatology.expected(valid_times(past, horizon))
        return label_forecast(expected + self.share * anomaly, past)


@dataclass(frozen=True)
class Usual:
    """The expected flow of the step: a robust mean of the weekday and slot in the weeks before.

    It is the context's (see `expected`), holidays and all, which plain means are not.
    """

    expected: Expected
    name: str = "recent weeks"

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns nothing that it cannot do without."""
        return ()

    def memory(self, horizon: int) -> tuple[int, ...]:
        """Returns the slots of the weeks before."""
        found = self.expected.lags(np.arange(1, horizon + 1))
        return tuple(sorted(found, reverse=True))

    def __call__(self, past: xr.DataArray, horizon: int) -> xr.DataArray:
        """Returns the expected flow at each lead."""
        offsets = np.arange(1, horizon + 1)
        times, first = valid_times(past, horizon), self.expected.first(offsets)
        return label_forecast(self.expected.at(flow_of(past), times, first), past)


@dataclass(frozen=True)
class UsualAndAnomaly:
    """The expected flow plus a share of the newest slot's difference from it."""

    expected: Expected
    share: float = 0.8
    name: str = "recent weeks + last anomaly"

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the newest slot alone."""
        return (0,)

    def memory(self, horizon: int) -> tuple[int, ...]:
        """Returns the slots of the weeks before."""
        found = self.expected.lags(np.arange(horizon + 1))
        return tuple(sorted(found - {0}, reverse=True))

    def __call__(self, past: xr.DataArray, horizon: int) -> xr.DataArray:
        """Returns the expected flow at each lead plus `share` times the newest anomaly."""
        offsets = np.arange(horizon + 1)
        times = np.concatenate([past["init_time"].values[:, None], valid_times(past, horizon)], 1)
        expected = self.expected.at(flow_of(past), times, self.expected.first(offsets))
        anomaly = past.sel(lag=[0]).values - expected[:, :1]
        return label_forecast(expected[:, 1:] + self.share * anomaly, past)


BASELINES: dict[str, Callable[[xr.DataArray, Climatology], Forecaster]] = {
    "persistence": lambda known, climatology: Persistence(),
    "last-week": lambda known, climatology: SameSlotLastWeek.fit(known),
    "historical-average": lambda known, climatology: HistoricalAverage(climatology),
    "average-and-anomaly": lambda known, climatology: AverageAndAnomaly(climatology),
    "recent-weeks": lambda known, climatology: Usual(Expected.of(known, climatology)),
    "recent-and-anomaly": lambda known, climatology: UsualAndAnomaly(
        Expected.of(known, climatology)
    ),
}
"""How each baseline is made from the flow before the test span, or its times, and its climatology."""
