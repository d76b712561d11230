"""Evaluate: the operator protocol on the test span, for the model and all baselines alike."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from data import windows
from data.city import City
from data.clock import Clock
from data.errors import FlowcastError
from data.flow import split
from data.store import Store
from forecasting.baselines import BASELINES
from forecasting.forecaster import Forecaster
from forecasting.metrics import errors
from forecasting.registry import load_version, models_root, read_manifest

HISTORY = 4
FLOOR = "floor (expected flow)"


@dataclass(frozen=True)
class Evaluation:
    """The errors of several forecasters on the same windows.

    Attributes:
        errors: as `forecasting.metrics.errors` returns them, with the further dim `forecaster`.
        windows: number of windows, the same for all.
        first: first slot that is forecast, UTC.
        last: last slot that is forecast, UTC.
        version: of the model, "" where there is none.
        left_out: names of the baselines whose input no window of the test span has.
    """

    errors: xr.Dataset
    windows: int
    first: np.datetime64
    last: np.datetime64
    version: str
    left_out: tuple[str, ...] = ()


def evaluate(store: Store, city: City, *, horizon: int = 4, model: str | None = None) -> Evaluation:
    """Returns the errors on the city's test days.

    The baselines are fitted on all flow before the test span; the model is the champion unless
    `model` names a version. All see the same windows: those whose every past slot, of any
    forecaster, and every future slot is there. Of a simulated city the errors of the expected flow
    itself stand last: nothing can be better.

    Raises:
        FlowcastError: too little flow, no whole window, or a model that knows the test span.
    """
    flow = store.flow(city)
    parts = split(flow, city)
    before = flow[flow["time"].values < parts.test["time"].values[0]]
    forecasters: list[Forecaster] = [fit(before) for fit in BASELINES.values()]
    version = model or store.champion(city) or ""
    if version:
        _check_unseen(city, version, parts.test)
        forecasters.append(load_version(models_root(), city, version))
    expected = store.flow(city, "expected")
    able = [one for one in forecasters if len(_init_times(flow, parts.test, [one], horizon))]
    init_times = _init_times(flow, parts.test, able, horizon)
    if expected.sizes["time"]:
        known = windows.whole(expected, (), horizon)
        init_times = np.intersect1d(init_times, known)
    if not len(init_times):
        raise FlowcastError(
            f"no {horizon} slots in a row of the test span of {city.name}, {parts.test.sizes['time']} slots, "
            f"have all that the forecasters need before them; ask for a shorter horizon or ingest the "
            f"missing slots (see: forecast check --city {city.name})"
        )
    observed = windows.future(flow, init_times, horizon)
    table = {
        forecaster.name: errors(
            forecaster(windows.past(flow, init_times, forecaster.lags(horizon)), horizon), observed
        )
        for forecaster in able
    }
    if expected.sizes["time"]:
        table[FLOOR] = errors(windows.future(expected, init_times, horizon), observed)
    names = pd.Index(table, name="forecaster")
    clock = Clock.of(flow)
    return Evaluation(
        xr.concat(table.values(), names),
        len(init_times),
        clock.after(init_times[0], 1),
        clock.after(init_times[-1], horizon),
        version,
        tuple(one.name for one in forecasters if one not in able),
    )


def _init_times(
    flow: xr.DataArray, test: xr.DataArray, forecasters: list[Forecaster], horizon: int
) -> np.ndarray:
    """Returns the init_times whose forecasts lie in the test span and that every forecaster can make."""
    lags = set(range(HISTORY)).union(*(forecaster.lags(horizon) for forecaster in forecasters))
    init_times = windows.whole(flow, sorted(lags), horizon)
    first = Clock.of(flow).time(init_times, np.asarray(1))
    return np.asarray(init_times[first >= test["time"].values[0]])


def _check_unseen(city: City, version: str, test: xr.DataArray) -> None:
    manifest = read_manifest(models_root(), city.name, version)
    seen = np.datetime64(manifest.climatology[1].removesuffix("Z"))
    if seen >= test["time"].values[0]:
        raise FlowcastError(
            f"version {version} knows the flow of {city.name} until {seen} UTC, but the test span begins "
            f"{test['time'].values[0]} UTC; train again, or name another version with --model"
        )
