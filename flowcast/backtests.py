"""Backtest: how far forecasts of the past were from what was observed, by lead time."""

from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from data import windows
from data.clock import Clock, stamp
from data.errors import FlowcastError
from flowcast.flows import as_flow, check_count, moment
from flowcast.models import Model
from flowcast.own_packages import own_packages
from forecasting import baselines
from forecasting.backtest import backtest as run
from forecasting.covariates.climatology import Climatology
from forecasting.forecaster import Forecaster
from forecasting.metrics import errors_of, sums

BASELINES = tuple(baselines.BASELINES)
"""Names of the baselines."""
TESTED = 0.2
"""Part of the flow, at its end, that is forecast where no start is named."""


@own_packages()
def backtest(
    forecasters: Any,
    flow: Any,
    *,
    start: Any = None,
    end: Any = None,
    horizon: int = 4,
    stride: int = 1,
    times: Any = None,
) -> xr.Dataset:
    """Returns the errors of models and baselines on the same windows of a span, by lead time.

    Baselines are fitted on the flow before the span. All see the same windows: those whose every
    slot, of any forecaster, is there.

    Args:
        forecasters: a model, a name in `flowcast.BASELINES`, an object of one's own with the interface
            of `forecasting.forecaster.Forecaster`, or a list of these.
        flow: dims `(time, channel, y, x)`, vehicles per step: a DataArray, or an array with `times`.
        start: first slot that is forecast, with its zone or of the flow's own axis. None: what the
            models do not know, or the last fifth of the flow.
        end: only slots that begin before it are forecast. None: the end of the flow.
        horizon: number of steps ahead.
        stride: slots from one forecast to the next; 1 for every slot.
        times: start of each slot with its zone, where `flow` is a bare array.

    Returns:
        `rmse` and `mae` in vehicles per step, and over cells with more than 10 vehicles `rmse_busy`,
        `mae_busy` and `mape_busy` (percent); dims `(forecaster, lead_time, channel)`, where `channel`
        has the further value `both` and `lead_time` the further value NaT for all leads together.
        The attributes hold the number of `windows`, and the `first` and `last` slot forecast.

    Raises:
        FlowcastError: the flow is wrong, a name is unknown, a model knows the span, or no window is
            whole.
    """
    leads, every = check_count("horizon", horizon, "steps"), check_count("stride", stride, "slots")
    one = isinstance(forecasters, str | Model) or callable(forecasters)
    asked = [forecasters] if one else list(forecasters)
    if not asked:
        raise FlowcastError("there is nothing to backtest; name a model or one of the baselines")
    models = [each for each in asked if isinstance(each, Model)]
    known = as_flow(flow, times, models[0].city if models else None)
    begin, stop = _span(known, models, start, end)
    before = known[known["time"].values < begin]
    fitted = [_forecaster(each, before) for each in asked]
    init_times = _init_times(known, fitted, leads, begin, stop)
    kept = Clock.of(known).number(init_times, init_times[0]) % every == 0
    return _errors(
        known, dict(zip(_names(asked, fitted), fitted, strict=True)), init_times[kept], leads
    )


def _errors(
    flow: xr.DataArray, forecasters: dict[str, Forecaster], init_times: np.ndarray, horizon: int
) -> xr.Dataset:
    totals = {
        name: reduce(add, (sums(*piece) for piece in run(forecaster, flow, init_times, horizon)))
        for name, forecaster in forecasters.items()
    }
    errors = [errors_of(total) for total in totals.values()]
    result = xr.concat(errors, pd.Index(totals, name="forecaster"))
    clock = Clock.of(flow)
    ends = clock.after(init_times[0], 1), clock.after(init_times[-1], horizon)
    return result.assign_attrs(windows=len(init_times), first=f"{ends[0]}Z", last=f"{ends[1]}Z")


def _span(
    flow: xr.DataArray, models: list[Model], start: Any, end: Any
) -> tuple[np.datetime64, np.datetime64]:
    """Returns from when to when slots are forecast; no model knows any of them."""
    time, zone, clock = flow["time"].values, str(flow.attrs["timezone"]), Clock.of(flow)
    stop = clock.after(time[-1], 1) if end is None else moment(end, "end")
    if start is not None:
        begin = moment(start, "start")
    elif models:
        begin = max(clock.after(model.trained_until, 1) for model in models)
    else:
        begin = time[min(int(len(time) * (1 - TESTED)), len(time) - 1)]
    for model in models:
        if model.trained_until >= begin:
            raise FlowcastError(
                f"model {model.name} knows the flow until {stamp(model.trained_until, zone)}, but the "
                f"span begins {stamp(begin, zone)} ({zone}); start later, or leave out start="
            )
    if begin <= time[0]:
        raise FlowcastError(
            f"there is no flow before {stamp(begin, zone)} to fit baselines on; the first slot is "
            f"{stamp(time[0], zone)} ({zone}); start later"
        )
    if not begin < stop or begin > time[-1]:
        raise FlowcastError(
            f"no slot of the flow lies between {stamp(begin, zone)} and {stamp(stop, zone)}; its last "
            f"one is {stamp(time[-1], zone)} ({zone})"
        )
    return begin, stop


def _forecaster(asked: Any, before: xr.DataArray) -> Forecaster:
    """Returns the forecaster that was asked for, a baseline fitted on the flow before the span."""
    if isinstance(asked, Model):
        return asked.forecaster
    if not isinstance(asked, str):
        forecaster: Forecaster = asked
        return forecaster
    if asked not in baselines.BASELINES:
        raise FlowcastError(
            f"there is no baseline {asked!r}; there is {', '.join(BASELINES)}, or a model by "
            f"flowcast.load or flowcast.train"
        )
    return baselines.BASELINES[asked].fit(before, Climatology.fit(before))


def _names(asked: list[Any], fitted: list[Forecaster]) -> list[str]:
    """Returns a name for each forecaster, a number added where two are the same."""
    found: list[str] = []
    for one, forecaster in zip(asked, fitted, strict=True):
        name = (
            one if isinstance(one, str) else one.name if isinstance(one, Model) else forecaster.name
        )
        found.append(f"{name} ({found.count(name) + 1})" if name in found else name)
    return found


def _init_times(
    flow: xr.DataArray,
    forecasters: list[Forecaster],
    horizon: int,
    begin: np.datetime64,
    end: np.datetime64,
) -> np.ndarray:
    """Returns the init_times whose forecasts lie in the span and that every forecaster can make."""
    lags = sorted({0}.union(*(one.lags(horizon) for one in forecasters)))
    found = windows.whole(flow, lags, horizon)
    first, last = (Clock.of(flow).time(found, np.asarray(lead)) for lead in (1, horizon))
    found = found[(first >= begin) & (last < end)]
    if not len(found):
        zone = str(flow.attrs["timezone"])
        raise FlowcastError(
            f"no {horizon} slots in a row from {stamp(begin, zone)} to {stamp(end, zone)} ({zone}) have "
            f"the {len(lags)} slots before them that the forecasters need; take a shorter horizon or a "
            f"longer span"
        )
    return np.asarray(found)
