"""The forecasts of recent days beside what was observed, cell by cell."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from data.city import City
from data.clock import Clock
from data.intervals import COVERAGES, intervals_of, without_intervals
from data.store.store import Store
from pipelines.forecast.slots import observed_after

DAYS = np.timedelta64(7, "D")
"""How far back the record reaches."""
MOST = 2**24
"""Values of a forecast array at most; where days have more, the record is of fewer of them."""


@dataclass(frozen=True)
class PastForecasts:
    """What was forecast, and what came.

    Attributes:
        forecast: dims `(init_time, lead_time, channel, y, x)`, vehicles per step, NaN where a
            forecast had fewer leads.
        observed: the same dims, NaN where nothing came yet.
        lower: of the band that promises 80 %, the same dims, NaN where there was none.
        upper: its other edge.
        coverage: fraction of the observed values within the prediction intervals, dims `(coverage,
            lead_time)`; NaN where nothing can be counted.
    """

    forecast: xr.DataArray
    observed: xr.DataArray
    lower: xr.DataArray
    upper: xr.DataArray
    coverage: xr.DataArray


def past_forecasts(store: Store, city: City, until: np.datetime64) -> PastForecasts | None:
    """Returns the record of the days before `until`, None where no forecast is stored.

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
    days = min(DAYS, max(1, MOST // size) * city.step)
    made = {
        one["init_time"].values[0]: one
        for one in store.forecasts.between(city, until - days, until)
    }
    times = np.array([*made], dtype="datetime64[s]")
    shape = (len(times), horizon, *newest.shape[2:])
    flow, lower, upper = (np.full(shape, np.nan, np.float32) for _ in range(3))
    observed = observed_after(store, city, times, horizon)
    held, count = np.zeros((len(COVERAGES), horizon)), np.zeros((len(COVERAGES), horizon))
    for place, one in enumerate(made.values()):
        steps = min(horizon, one.sizes["lead_time"])
        flow[place, :steps] = one.values[0, :steps]
        around = intervals_of(one)
        if around is None:
            continue
        edges = around.values[:, :, 0, :steps]
        lower[place, :steps], upper[place, :steps] = edges[COVERAGES.index(0.8)]
        came = observed[place, :steps]
        within = (edges[:, 0] <= came) & (came <= edges[:, 1])
        held[:, :steps] += within.sum(axis=(2, 3, 4))
        count[:, :steps] += np.isfinite(came).sum(axis=(1, 2, 3))
    leads = newest["lead_time"].values
    like = xr.DataArray(
        flow,
        dims=("init_time", "lead_time", "channel", "y", "x"),
        coords={
            "init_time": times,
            "lead_time": leads,
            "channel": newest["channel"].values,
            "valid_time": (
                ("init_time", "lead_time"),
                Clock(city.step, city.timezone).time(times[:, None], np.arange(1, horizon + 1)),
            ),
        },
        name="flow",
        attrs=without_intervals(newest).attrs,
    )
    with np.errstate(invalid="ignore"):
        share = held / np.where(count > 0, count, np.nan)
    return PastForecasts(
        like,
        like.copy(data=observed),
        like.copy(data=lower),
        like.copy(data=upper),
        xr.DataArray(
            share,
            dims=("coverage", "lead_time"),
            coords={"coverage": list(COVERAGES), "lead_time": leads},
        ),
    )
