"""Past forecasts: those of recent days beside what was observed, cell by cell."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from data.city import City
from data.intervals import COVERAGES, intervals_of, without_intervals
from data.store.store import Store
from forecasting.forecaster import label_windows
from pipelines.forecast.slots import observed_after, stack_forecasts

DAYS = np.timedelta64(7, "D")
"""How far back forecasts are returned."""
MAX_VALUES = 2**24
"""Values of an array of forecasts at most; of larger ones fewer days are returned."""


@dataclass(frozen=True)
class PastForecasts:
    """Stored forecasts and what was observed.

    Attributes:
        forecast: dims `(init_time, lead_time, channel, y, x)`, vehicles per step, NaN where a
            forecast has fewer leads.
        observed: the same dims, NaN where nothing is observed yet.
        lower: of the 80 % prediction interval, the same dims, NaN where there is none.
        upper: of the 80 % prediction interval.
        coverage: fraction of the observed values within the prediction intervals, dims `(coverage,
            lead_time)`; NaN where nothing can be counted.
    """

    forecast: xr.DataArray
    observed: xr.DataArray
    lower: xr.DataArray
    upper: xr.DataArray
    coverage: xr.DataArray


def past_forecasts(store: Store, city: City, until: np.datetime64) -> PastForecasts | None:
    """Returns the forecasts of the days before `until`, None where none is stored.

    Of several forecasts with one init_time the newest counts.

    Args:
        store: with forecasts and flow.
        city: whose they are.
        until: UTC; of the newest forecast.
    """
    newest = store.forecasts.newest(city, until)
    if newest is None:
        return None
    horizon = newest.sizes["lead_time"]
    size = horizon * int(np.prod(newest.shape[2:]))
    days = min(DAYS, max(1, MAX_VALUES // size) * city.step)
    made = [*store.forecasts.between(city, until - days, until)]
    times = np.unique(np.array([one["init_time"].values[0] for one in made], "datetime64[s]"))
    values = stack_forecasts(made, city, times, horizon)
    observed = observed_after(store, city, times, horizon)
    lower, upper = np.full_like(values, np.nan), np.full_like(values, np.nan)
    within, count = (np.zeros((len(COVERAGES), horizon)) for _ in range(2))
    for one in {_init_time(one): one for one in made}.values():
        row = np.searchsorted(times, _init_time(one))
        steps = min(horizon, one.sizes["lead_time"])
        intervals = intervals_of(one)
        if intervals is None:
            continue
        edges = intervals.values[:, :, 0, :steps]
        lower[row, :steps], upper[row, :steps] = edges[COVERAGES.index(0.8)]
        flow = observed[row, :steps]
        inside = (edges[:, 0] <= flow) & (flow <= edges[:, 1])
        within[:, :steps] += inside.sum(axis=(2, 3, 4))
        count[:, :steps] += np.isfinite(flow).sum(axis=(1, 2, 3))
    like = without_intervals(newest)
    with np.errstate(invalid="ignore"):
        fraction = within / np.where(count > 0, count, np.nan)
    coverage = xr.DataArray(
        fraction,
        dims=("coverage", "lead_time"),
        coords={"coverage": list(COVERAGES), "lead_time": newest["lead_time"].values},
    )
    return PastForecasts(
        label_windows(values, like, times),
        label_windows(observed, like, times),
        label_windows(lower, like, times),
        label_windows(upper, like, times),
        coverage,
    )


def _init_time(forecast: xr.DataArray) -> np.datetime64:
    """Returns the init_time of a stored forecast."""
    return np.datetime64(forecast["init_time"].values[0], "s")
