"""Score: stored forecasts, and the baselines beside them, against what came."""

import numpy as np
import pandas as pd

from data import windows
from data.city import City
from data.store.scores import SERVED
from data.store.store import Store
from forecasting.baselines import fit_baselines
from forecasting.forecaster import Forecaster
from forecasting.history import History
from pipelines.forecast.slots import observed_after, read_slots

LOOKBACK = np.timedelta64(28, "D")
"""How far back slots that come late, or are corrected, are looked for."""
WEEKS = np.timedelta64(8 * 7, "D")
"""What the baselines know, before the first forecast that is scored with them."""
MAX_FORECASTS = 512
"""Forecasts that are scored at a time."""


def score(store: Store, city: City, newest: np.datetime64) -> int:
    """Scores what has become known since, and returns how many leads of forecasts it was.

    A lead is scored when its slot has come, and anew when the slot is corrected or a newer forecast
    was made at the same time. Baselines are scored on the same leads; they know what was known when
    the first of these forecasts was made.

    Args:
        store: with forecasts, flow and scores.
        city: whose they are.
        newest: slot of the archive, UTC.
    """
    due = store.scores.due(city, newest - LOOKBACK)
    init_times = np.unique(due["init_time"].to_numpy())
    for start in range(0, len(init_times), MAX_FORECASTS):
        part = due[due["init_time"].isin(init_times[start : start + MAX_FORECASTS])]
        _score(store, city, part)
    return len(due)


def _score(store: Store, city: City, due: pd.DataFrame) -> None:
    """Scores the leads that are due, of served forecasts and of baselines."""
    init_times = np.unique(due["init_time"].to_numpy()).astype("datetime64[s]")
    horizon = int(due["lead"].max())
    row = np.searchsorted(init_times, due["init_time"].to_numpy())
    place = row, due["lead"].to_numpy() - 1
    observed = observed_after(store, city, init_times, horizon)
    tables = []
    for name, values in _forecasts(store, city, init_times, horizon).items():
        error = values[place].astype(np.float64) - observed[place]
        known = np.isfinite(error).all(axis=(1, 2, 3))
        flat = error[known].reshape(int(known.sum()), error[0].size)
        tables.append(
            due[known].assign(
                forecaster=name,
                count=flat.shape[1],
                squared=np.square(flat).sum(axis=1),
                absolute=np.abs(flat).sum(axis=1),
                difference=flat.sum(axis=1),
            )
        )
    store.scores.add(city, pd.concat(tables, ignore_index=True))


def _forecasts(
    store: Store, city: City, init_times: np.ndarray, horizon: int
) -> dict[str, np.ndarray]:
    """Returns what was served and what baselines say, `(n, horizon, c, y, x)`, NaN where nothing."""
    shape = (len(init_times), horizon, 2, *city.grid)
    served = np.full(shape, np.nan, np.float32)
    for made in store.forecasts.between(city, init_times[0] - city.step, init_times[-1]):
        at = np.searchsorted(init_times, made["init_time"].values[0])
        if at < len(init_times) and init_times[at] == made["init_time"].values[0]:
            steps = min(horizon, made.sizes["lead_time"])
            served[at, :steps] = made.values[0, :steps]
    return {SERVED: served} | {
        name: _run(store, city, baseline, init_times, horizon)
        for name, baseline in _baselines(store, city, init_times[0]).items()
    }


def _baselines(store: Store, city: City, first: np.datetime64) -> dict[str, Forecaster]:
    """Returns the baselines as they stood at the slot of `first`."""
    known = store.flow.read(city, first=first - WEEKS, last=first)
    if not known.sizes["time"]:
        return {}
    return fit_baselines(known)


def _run(
    store: Store, city: City, baseline: Forecaster, init_times: np.ndarray, horizon: int
) -> np.ndarray:
    """Returns the forecasts of a baseline, NaN where its input was not whole."""
    lags, optional = baseline.lags(horizon), baseline.optional_lags(horizon)
    every = np.array([0, *lags, *optional], dtype=np.int64)
    known = read_slots(store, city, init_times, -every)
    whole = (windows.positions(known, init_times, -np.asarray(lags, np.int64)) >= 0).all(axis=1)
    values = np.full((len(init_times), horizon, 2, *city.grid), np.nan, np.float32)
    if whole.any():
        values[whole] = baseline(History.of(known, init_times[whole]), horizon).values
    return values
