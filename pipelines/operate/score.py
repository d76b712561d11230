"""Score: the errors of stored forecasts, and of all baselines on the same leads."""

import numpy as np
import pandas as pd

from data import windows
from data.city import City
from data.store.scores import SERVED
from data.store.store import Store
from forecasting.forecaster import Forecaster
from forecasting.history import History
from pipelines.forecast.slots import observed_after, read_slots, stack_forecasts
from pipelines.forecast.stand_in import fitted_baselines

LOOKBACK = np.timedelta64(28, "D")
"""How far back slots that arrive late, or are corrected, are scored."""
MAX_FORECASTS = 512
"""Forecasts that are scored at a time."""


def score(store: Store, city: City, newest: np.datetime64) -> int:
    """Scores what is observed since the last time, and returns the number of leads of forecasts.

    A lead is scored when its slot is observed, and again when the slot is corrected or a newer forecast
    is made at the same time. Baselines are scored on the same leads, fitted on what was known when the
    first of these forecasts was made; so the best of them can stand in (see `stand_in`).

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
    """Scores the leads that are due, of stored forecasts and of baselines."""
    init_times = np.unique(due["init_time"].to_numpy()).astype("datetime64[s]")
    horizon = int(due["lead"].max())
    place = np.searchsorted(init_times, due["init_time"].to_numpy()), due["lead"].to_numpy() - 1
    observed = observed_after(store, city, init_times, horizon)[place]
    made = store.forecasts.between(city, init_times[0] - city.step, init_times[-1])
    forecasts = {SERVED: stack_forecasts(made, city, init_times, horizon)}
    for name, baseline in fitted_baselines(store, city, init_times[0]).items():
        forecasts[name] = _run(store, city, baseline, init_times, horizon)
    tables = []
    for name, values in forecasts.items():
        error = values[place].astype(np.float64) - observed
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


def _run(
    store: Store, city: City, baseline: Forecaster, init_times: np.ndarray, horizon: int
) -> np.ndarray:
    """Returns the forecasts of a baseline, NaN where its input is incomplete."""
    lags = np.asarray(baseline.lags(horizon), dtype=np.int64)
    optional = np.asarray(baseline.optional_lags(horizon), dtype=np.int64)
    known = read_slots(store, city, init_times, -np.unique([0, *lags, *optional]))
    complete = (windows.positions(known, init_times, -lags) >= 0).all(axis=1)
    values = np.full((len(init_times), horizon, *known.shape[1:]), np.nan, np.float32)
    if complete.any():
        values[complete] = baseline(History.of(known, init_times[complete]), horizon).values
    return values
