"""Baselines: forecasters without a network, which every network must beat."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data.clock import Clock, utc, wall
from forecasting.covariates.climatology import Climatology
from forecasting.covariates.expected import Expected
from forecasting.forecaster import Forecaster, label_forecast
from forecasting.history import History

WEEK = 7 * 86_400


@dataclass(frozen=True)
class Persistence:
    """The newest slot, again and again."""

    name: str = "persistence"

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the newest slot alone."""
        return (0,)

    def optional_lags(self, horizon: int) -> tuple[int, ...]:
        """Returns nothing."""
        return ()

    def __call__(self, history: History, horizon: int) -> xr.DataArray:
        """Returns the newest slot at every lead."""
        return label_forecast(np.repeat(history.past([0]), horizon, axis=1), history)


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

    def optional_lags(self, horizon: int) -> tuple[int, ...]:
        """Returns nothing."""
        return ()

    def __call__(self, history: History, horizon: int) -> xr.DataArray:
        """Returns last week's flow at each lead."""
        clock, leads = history.clock, np.arange(1, horizon + 1)
        weeks = -(-leads // self._week) * np.timedelta64(7, "D")
        shown = wall(history.times(leads), clock.timezone) - weeks
        ahead = clock.number(utc(shown, clock.timezone), history.init_times[:, None])
        return label_forecast(history.past(self._in_past(-ahead)), history)

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

    def optional_lags(self, horizon: int) -> tuple[int, ...]:
        """Returns nothing."""
        return ()

    def __call__(self, history: History, horizon: int) -> xr.DataArray:
        """Returns the mean flow at each lead."""
        times = history.times(np.arange(1, horizon + 1))
        return label_forecast(self.climatology.expected(times), history)


@dataclass(frozen=True)
class AverageAndAnomaly:
    """The historical average plus a share of the newest slot's difference from it."""

    climatology: Climatology
    share: float = 0.8
    name: str = "historical average + last anomaly"

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the newest slot alone."""
        return (0,)

    def optional_lags(self, horizon: int) -> tuple[int, ...]:
        """Returns nothing."""
        return ()

    def __call__(self, history: History, horizon: int) -> xr.DataArray:
        """Returns the mean flow at each lead plus `share` times the newest anomaly."""
        expected = self.climatology.expected(history.times(np.arange(horizon + 1)))
        anomaly = history.past([0]) - expected[:, :1]
        return label_forecast(expected[:, 1:] + self.share * anomaly, history)


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

    def optional_lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the slots of the weeks before."""
        found = self.expected.lags(np.arange(1, horizon + 1))
        return tuple(sorted(found, reverse=True))

    def __call__(self, history: History, horizon: int) -> xr.DataArray:
        """Returns the expected flow at each lead."""
        offsets = np.arange(1, horizon + 1)
        return label_forecast(self.expected.ahead(history, offsets), history)


@dataclass(frozen=True)
class UsualAndAnomaly:
    """The expected flow plus a share of the newest slot's difference from it."""

    expected: Expected
    share: float = 0.8
    name: str = "recent weeks + last anomaly"

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the newest slot alone."""
        return (0,)

    def optional_lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the slots of the weeks before."""
        found = self.expected.lags(np.arange(horizon + 1))
        return tuple(sorted(found - {0}, reverse=True))

    def __call__(self, history: History, horizon: int) -> xr.DataArray:
        """Returns the expected flow at each lead plus `share` times the newest anomaly."""
        expected = self.expected.ahead(history, np.arange(horizon + 1))
        anomaly = history.past([0]) - expected[:, :1]
        return label_forecast(expected[:, 1:] + self.share * anomaly, history)


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
