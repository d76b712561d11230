"""Stand-in: the baseline that serves where no model can, the best of all on recent slots.

Baselines are compared by their stored scores, or where these are too few by a small backtest on the newest
slots of the archive. Where that is too short as well, the historical average serves.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
import xarray as xr

from data import windows
from data.city import City
from data.clock import Clock
from data.store.store import Store
from forecasting.backtest import backtest
from forecasting.baselines import HistoricalAverage, fit_baselines
from forecasting.covariates.climatology import Climatology
from forecasting.forecaster import Forecaster
from forecasting.metrics import sums
from pipelines.forecast.slots import read_slots

FITTED_ON = np.timedelta64(8 * 7, "D")
"""Newest flow that baselines are fitted on."""
COMPARED_ON = np.timedelta64(7, "D")
"""Newest flow that baselines are compared on; at least `2 * MIN_FORECASTS` steps."""
MIN_FORECASTS = 24
"""Forecasts that are needed to compare baselines."""
MAX_FORECASTS = 64
"""Forecasts of a backtest."""


@dataclass(frozen=True)
class StandIn:
    """A baseline, and how it was chosen.

    Attributes:
        forecaster: the baseline.
        reason: why it is this one, for people.
    """

    forecaster: Forecaster
    reason: str


@dataclass(frozen=True)
class _Comparison:
    """The RMSE of baselines, by their keys in `BASELINES`, on the same forecasts."""

    rmse: Mapping[str, float]
    forecasts: int
    source: str


def best_baseline(store: Store, city: City, init_time: np.datetime64, horizon: int) -> StandIn:
    """Returns the baseline with the lowest RMSE on recent slots, of those whose input is complete.

    Nothing that is observed after `init_time` is used. Beyond a day the leads of the first day count.

    Args:
        store: with flow, at least one slot of it, and scores.
        city: that is forecast.
        init_time: UTC; start of the slot from which is forecast, which may be missing.
        horizon: steps ahead.
    """
    baselines = {
        name: one
        for name, one in fitted_baselines(store, city, init_time).items()
        if _is_able(store, city, one, init_time, horizon)
    }
    leads = min(horizon, city.slots_per_day)
    found = _scored(store, city, init_time, leads, baselines)
    if found.forecasts < MIN_FORECASTS:
        found = _backtested(store, city, init_time, leads, baselines)
    if found.forecasts < MIN_FORECASTS:
        climatology = Climatology.fit_pieces(store.flow.chunks(city, last=init_time))
        reason = (
            f"baselines cannot be compared yet: {found.forecasts} of {MIN_FORECASTS} recent "
            f"forecasts can be judged"
        )
        return StandIn(HistoricalAverage(climatology), reason)
    best = min(found.rmse, key=lambda name: found.rmse[name])
    reason = (
        f"of {len(found.rmse)} baselines it has the lowest RMSE, {found.rmse[best]:.2f} vehicles per "
        f"step, on {found.forecasts} {found.source}"
    )
    return StandIn(baselines[best], reason)


def fitted_baselines(store: Store, city: City, last: np.datetime64) -> dict[str, Forecaster]:
    """Returns all baselines, fitted on the newest eight weeks of flow until `last`, UTC; {} without."""
    span = store.flow.span(city, last=last)
    if span is None:
        return {}
    return fit_baselines(store.flow.read(city, first=span[1] - FITTED_ON, last=span[1]))


def _is_able(
    store: Store, city: City, baseline: Forecaster, init_time: np.datetime64, horizon: int
) -> bool:
    lags = baseline.lags(horizon)
    flow = read_slots(store, city, np.asarray([init_time]), -np.asarray(lags, dtype=np.int64))
    return not len(windows.missing(flow, init_time, lags))


def _start(city: City, newest: np.datetime64) -> np.datetime64:
    """Returns after which init_time baselines are compared."""
    return newest - max(COMPARED_ON, 2 * MIN_FORECASTS * city.step)


def _scored(
    store: Store,
    city: City,
    init_time: np.datetime64,
    leads: int,
    baselines: Mapping[str, Forecaster],
) -> _Comparison:
    """Returns the comparison by stored scores, on those forecasts whose leads are all scored."""
    table = store.scores.sums(city, _start(city, init_time), init_time)
    made, lead = table["init_time"].to_numpy(), table["lead"].to_numpy(dtype=np.int64)
    observed = Clock(city.step, city.timezone).time(made, lead) <= init_time
    table = table[observed & (lead <= leads) & table["forecaster"].isin([*baselines])]
    if table.empty:
        return _Comparison({}, 0, "")
    sums_of = table.groupby(["forecaster", "init_time"])[["squared", "count"]].agg(["sum", "size"])
    complete = sums_of[sums_of["squared", "size"] == leads].xs("sum", axis=1, level=1)
    enough = complete.groupby("forecaster").filter(lambda one: len(one) >= MIN_FORECASTS)
    names = enough.index.unique("forecaster")
    shared = enough.groupby("init_time").filter(lambda one: len(one) == len(names))
    total = shared.groupby("forecaster").sum()
    rmse = (total["squared"] / total["count"]) ** 0.5
    forecasts = len(shared) // max(1, len(names))
    by_name = {str(name): float(value) for name, value in rmse.items()}
    return _Comparison(by_name, forecasts, "scored forecasts")


def _backtested(
    store: Store,
    city: City,
    init_time: np.datetime64,
    leads: int,
    baselines: Mapping[str, Forecaster],
) -> _Comparison:
    """Returns the comparison by a backtest on the newest slots, fitted on those before them."""
    first, newest = store.flow.span(city, last=init_time) or (init_time, init_time)
    start = max(_start(city, newest), first + (newest - first) // 2)
    flow = store.flow.read(city, first=start - FITTED_ON, last=newest)
    known = flow[flow["time"].values <= start]
    fitted, init_times = {}, {}
    for name, one in fit_baselines(known).items() if len(known) else ():
        complete = windows.whole(flow, sorted({0, *one.lags(leads)}), leads)
        complete = complete[complete >= start]
        if name in baselines and len(complete) >= MIN_FORECASTS:
            fitted[name], init_times[name] = one, complete
    shared = reduce(np.intersect1d, init_times.values(), flow["time"].values)
    shared = windows.thin(flow, shared, MAX_FORECASTS)
    rmse = {name: _rmse(backtest(one, flow, shared, leads)) for name, one in fitted.items()}
    return _Comparison(rmse, len(shared) if fitted else 0, "forecasts of a backtest")


def _rmse(pairs: Iterable[tuple[xr.DataArray, xr.DataArray]]) -> float:
    parts = [sums(forecast, observed).sum() for forecast, observed in pairs]
    squared, count = (sum(float(part[name]) for part in parts) for name in ("squared", "count"))
    return (squared / count) ** 0.5 if count else float("nan")
