"""Calibration: the prediction intervals of a version, updated every day by the scores of its forecasts."""

import numpy as np
import xarray as xr
from safetensors import SafetensorError
from safetensors.numpy import load, save

from data import windows
from data.city import City
from data.clock import Clock, wall
from data.flow import CHANNELS
from data.paths import models_root
from data.store.store import Store
from forecasting.intervals.conformal import PredictionIntervals
from forecasting.registry.versions import load_intervals

Scores = tuple[xr.DataArray, xr.DataArray]
"""Forecasts and what was observed, dims `(init_time, lead_time, channel, y, x)`."""


def bands_at(
    store: Store, city: City, version: str, init_time: np.datetime64
) -> PredictionIntervals | None:
    """Returns the bands of a version for a forecast, None where it was never calibrated.

    With the first forecast of a day they learn from those stored forecasts of the version whose
    calibrated leads have all passed, and the store keeps them. A forecast of an earlier time than
    they know of gets them as they were calibrated.

    Args:
        store: with forecasts, flow, and how the bands stood last.
        city: whose they are.
        version: in the registry.
        init_time: start of the newest slot that the forecast sees, UTC.

    Raises:
        FlowcastError: the version cannot be read.
    """
    own = load_intervals(models_root(), city, version)
    if own is None:
        return None
    time, bands = _kept(store, city, version) or (None, own)
    if time is not None and time > init_time:
        return own
    if time is not None and _day(time, city) == _day(init_time, city):
        return bands
    scores = _due(store, city, version, bands, init_time)
    bands = bands if scores is None else bands.updated(*scores)
    store.calibrations.add(city, version, init_time, save(bands.to_tensors()))
    return bands


def _kept(
    store: Store, city: City, version: str
) -> tuple[np.datetime64, PredictionIntervals] | None:
    kept = store.calibrations.read(city, version)
    if kept is None:
        return None
    try:
        return kept[0], PredictionIntervals.from_tensors(load(kept[1]))
    except (SafetensorError, KeyError, ValueError):  # of a flowcast with other levels
        return None


def _due(
    store: Store, city: City, version: str, bands: PredictionIntervals, now: np.datetime64
) -> Scores | None:
    """Returns the scores that have become known and that the bands do not know; missing ones are NaN."""
    clock, leads = Clock(city.step, city.timezone), bands.horizon
    newest = np.datetime64(bands.newest, "s")
    known = {
        forecast["init_time"].values[0]: forecast.values[0, :leads]
        for forecast in store.forecasts.between(city, newest, clock.after(now, -leads))
        if forecast.attrs["model_version"] == version
    }
    if not known:
        return None
    init_times = np.array(list(known))
    valid = clock.time(init_times[:, None], np.arange(1, leads + 1))
    flow = store.flow.read(city, first=valid.min(), last=valid.max())
    shape = (*valid.shape, len(CHANNELS), *city.grid)
    forecast, observed = np.zeros(shape, np.float32), np.full(shape, np.nan, np.float32)
    row = windows.rows(flow, valid)
    observed[row >= 0] = flow.values[row[row >= 0]]
    for number, values in enumerate(known.values()):
        forecast[number, : len(values)] = values
        observed[number, len(values) :] = np.nan
    return _label(forecast, init_times, flow), _label(observed, init_times, flow)


def _label(values: np.ndarray, init_times: np.ndarray, flow: xr.DataArray) -> xr.DataArray:
    dims = ("init_time", "lead_time", "channel", "y", "x")
    return xr.DataArray(values, dims=dims, coords={"init_time": init_times}, attrs=flow.attrs)


def _day(time: np.datetime64, city: City) -> np.datetime64:
    """Returns the day in the city's time."""
    return np.datetime64(wall(time, city.timezone).item(), "D")
