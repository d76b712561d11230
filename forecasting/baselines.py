"""Baselines: forecasters without a network, which every network must beat."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

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
        """Returns nothing: it needs the calendar alone."""
        return ()

    def optional_lags(self, horizon: int) -> tuple[int, ...]:
        """Returns nothing."""
        return ()

    def mean(self, history: History, offsets: np.ndarray) -> np.ndarray:
        """Returns the mean flow `offsets` steps after each init_time, `(n, k, channel, y, x)`."""
        return self.climatology.expected(history.times(offsets))

    def __call__(self, history: History, horizon: int) -> xr.DataArray:
        """Returns the mean flow at each lead."""
        return label_forecast(self.mean(history, np.arange(1, horizon + 1)), history)


@dataclass(frozen=True)
class RecentWeeks:
    """The expected flow: a robust mean of the weekday and slot in the weeks before.

    It is that of the covariates (see `expected`), with its rules for holidays, which plain means lack.
    """

    expected: Expected
    name: str = "recent weeks"

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns nothing: the climatology stands in for missing weeks."""
        return ()

    def optional_lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the slots of the weeks before, oldest first."""
        return tuple(sorted(self.expected.lags(np.arange(1, horizon + 1)), reverse=True))

    def mean(self, history: History, offsets: np.ndarray) -> np.ndarray:
        """Returns the expected flow `offsets` steps after each init_time, `(n, k, channel, y, x)`."""
        return self.expected.ahead(history, offsets)

    def __call__(self, history: History, horizon: int) -> xr.DataArray:
        """Returns the expected flow at each lead."""
        return label_forecast(self.mean(history, np.arange(1, horizon + 1)), history)


@dataclass(frozen=True)
class PlusAnomaly:
    """A mean plus a part of the newest slot's difference from it.

    Attributes:
        average: that gives the mean.
        weight: of the difference, 0 to 1.
    """

    average: HistoricalAverage | RecentWeeks
    weight: float = 0.8

    @property
    def name(self) -> str:
        """Name for tables and for the store."""
        return f"{self.average.name} + last anomaly"

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the newest slot alone."""
        return (0,)

    def optional_lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the slots that the mean is made of, oldest first."""
        if isinstance(self.average, HistoricalAverage):
            return ()
        found = self.average.expected.lags(np.arange(horizon + 1))
        return tuple(sorted(found - {0}, reverse=True))

    def __call__(self, history: History, horizon: int) -> xr.DataArray:
        """Returns the mean at each lead plus `weight` times the newest anomaly."""
        mean = self.average.mean(history, np.arange(horizon + 1))
        anomaly = history.past([0]) - mean[:, :1]
        return label_forecast(mean[:, 1:] + self.weight * anomaly, history)


class Baseline(NamedTuple):
    """A baseline as the registry holds it.

    Attributes:
        title: for people, in a sentence.
        fit: makes it from the flow that may be known, or its times, and the flow's climatology.
    """

    title: str
    fit: Callable[[xr.DataArray, Climatology], Forecaster]


BASELINES: dict[str, Baseline] = {
    "persistence": Baseline(
        "persistence (the newest value)", lambda flow, climatology: Persistence()
    ),
    "last-week": Baseline(
        "seasonal naive (the same slot last week)",
        lambda flow, climatology: SameSlotLastWeek.fit(flow),
    ),
    "historical-average": Baseline(
        "the historical average", lambda flow, climatology: HistoricalAverage(climatology)
    ),
    "average-and-anomaly": Baseline(
        "the historical average plus the last anomaly",
        lambda flow, climatology: PlusAnomaly(HistoricalAverage(climatology)),
    ),
    "recent-weeks": Baseline(
        "the mean of recent weeks",
        lambda flow, climatology: RecentWeeks(Expected.of(flow, climatology)),
    ),
    "recent-and-anomaly": Baseline(
        "the mean of recent weeks plus the last anomaly",
        lambda flow, climatology: PlusAnomaly(RecentWeeks(Expected.of(flow, climatology))),
    ),
}
"""All baselines; their keys stand in tables of scores and in manifests."""


def fit_baselines(
    flow: xr.DataArray, climatology: Climatology | None = None
) -> dict[str, Forecaster]:
    """Returns all baselines by their key.

    Args:
        flow: that they may know, or its times alone.
        climatology: of that flow; fitted on it if None.
    """
    known = climatology or Climatology.fit(flow)
    return {key: baseline.fit(flow, known) for key, baseline in BASELINES.items()}
