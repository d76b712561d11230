"""Calibration: prediction intervals of a version, updated every day by the scores of its forecasts."""

import numpy as np
import xarray as xr
from safetensors import SafetensorError
from safetensors.numpy import load, save

from data.city import City
from data.clock import Clock, wall
from data.paths import models_root
from data.store.store import Store
from forecasting.intervals.conformal import PredictionIntervals
from forecasting.registry.versions import load_intervals
from pipelines.forecast.slots import observed_after, stack_forecasts


def intervals_at(
    store: Store, city: City, version: str, init_time: np.datetime64
) -> PredictionIntervals | None:
    """Returns the prediction intervals of a version for a forecast, None if it was never calibrated.

    At the first forecast of a day they are updated by those stored forecasts of the version whose
    calibrated leads are all over, and stored. A forecast of an earlier time than their newest update gets
    them as they were calibrated in training.

    Args:
        store: with forecasts, flow, and the intervals as they were updated last.
        city: whose they are.
        version: in the registry.
        init_time: start of the newest slot that the forecast uses, UTC.

    Raises:
        FlowcastError: the version cannot be read.
    """
    trained = load_intervals(models_root(), city, version)
    if trained is None:
        return None
    time, intervals = _stored(store, city, version) or (None, trained)
    if time is not None and time > init_time:
        return trained
    if time is not None and _day(time, city) == _day(init_time, city):
        return intervals
    scores = _new_scores(store, city, version, intervals, init_time)
    intervals = intervals if scores is None else intervals.updated(*scores)
    store.calibrations.add(city, version, init_time, save(intervals.to_tensors()))
    return intervals


def _stored(
    store: Store, city: City, version: str
) -> tuple[np.datetime64, PredictionIntervals] | None:
    stored = store.calibrations.read(city, version)
    if stored is None:
        return None
    try:
        return stored[0], PredictionIntervals.from_tensors(load(stored[1]))
    except (SafetensorError, KeyError, ValueError):  # of a flowcast with other levels
        return None


def _new_scores(
    store: Store, city: City, version: str, intervals: PredictionIntervals, now: np.datetime64
) -> tuple[xr.DataArray, xr.DataArray] | None:
    """Returns forecasts that are new to the intervals, and what was observed, NaN where missing."""
    clock, leads = Clock(city.step, city.timezone), intervals.horizon
    newest = np.datetime64(intervals.newest, "s")
    made = [
        forecast
        for forecast in store.forecasts.between(city, newest, clock.after(now, -leads))
        if forecast.attrs["model_version"] == version
    ]
    if not made:
        return None
    init_times = np.unique([forecast["init_time"].values[0] for forecast in made])
    forecast = stack_forecasts(made, city, init_times, leads)
    observed = observed_after(store, city, init_times, leads)
    observed[np.isnan(forecast)] = np.nan
    return _label(np.nan_to_num(forecast), init_times, city), _label(observed, init_times, city)


def _label(values: np.ndarray, init_times: np.ndarray, city: City) -> xr.DataArray:
    dims = ("init_time", "lead_time", "channel", "y", "x")
    attributes = {"timezone": city.timezone}
    return xr.DataArray(values, dims=dims, coords={"init_time": init_times}, attrs=attributes)


def _day(time: np.datetime64, city: City) -> np.datetime64:
    """Returns the day in the city's time."""
    return np.datetime64(wall(time, city.timezone).item(), "D")
