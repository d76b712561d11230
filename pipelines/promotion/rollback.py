"""Rollback: a champion whose live errors are far above what was expected gives way to the one before."""

import numpy as np
import pandas as pd

from data.city import City
from data.errors import FlowcastError
from data.paths import models_root
from data.store.promotions import ROLLED_BACK
from data.store.scores import SERVED
from data.store.store import Store
from forecasting.metrics import rmse
from forecasting.registry.manifest import read_manifest
from pipelines import log
from pipelines.forecast.champion import problems

INTERVALS = 6
"""Newest scored forecasts that must all be far off."""
FAR = 1.5
"""Times the expected RMSE, and the best baseline's of the same forecasts."""


def roll_back(store: Store, city: City, newest: np.datetime64, now: np.datetime64) -> str:
    """Goes back to the champion before, once, where the live errors ask for it.

    They do where each of the newest forecasts was far worse than expected from the version's own
    days of judgement, and than the best baseline: a storm makes all worse, a broken model itself alone.

    Args:
        store: with scores and judgements.
        city: whose champion it is.
        newest: slot of the archive, UTC; forecasts made in the three days before it count.
        now: UTC, for the history.

    Returns:
        what was done and why, "" for nothing.
    """
    champion, previous = store.promotions.champion(city), store.promotions.previous(city)
    if champion is None or _came_back(store, city):
        return ""
    if not (reason := _far_off(store, city, champion, newest)):
        return ""
    if previous is None or problems(store, city, previous):
        way = f"to train one: forecast train --city {city.name}"
        log.warn(f"{reason}; there is no sound version to go back to; {way}", city=city.name)
        return ""
    store.promotions.decide(city, previous, ROLLED_BACK, reason, now)
    return f"went back to version {previous}: {reason}"


def _far_off(store: Store, city: City, champion: str, newest: np.datetime64) -> str:
    """Returns how far the newest forecasts of the champion are off, "" where that is not far."""
    expected = _expected(city, champion)
    scores = store.scores.table(city, newest - np.timedelta64(3, "D"), newest)
    # What it forecast before it was promoted again is what somebody has judged since.
    later = scores["forecast"] > store.promotions.promoted_after(city)
    own = scores[(scores["version"] == champion) & (scores["lead"] == 1) & later]
    if expected is None or own.empty:
        return ""
    rmse = _rmse(own).dropna(subset=[SERVED]).tail(INTERVALS)
    best = rmse.drop(columns=SERVED).min(axis=1)
    far = (rmse[SERVED] > FAR * expected) & (rmse[SERVED] > FAR * best)
    if len(far) < INTERVALS or not far.all():
        return ""
    return (
        f"the newest {INTERVALS} forecasts of {champion} had an RMSE of {rmse[SERVED].mean():.2f} at "
        f"lead 1, where {expected:.2f} was expected and the best baseline had {best.mean():.2f}"
    )


def _rmse(scores: pd.DataFrame) -> pd.DataFrame:
    """Returns the RMSE of each forecast, by init_time, a column a forecaster."""
    squared = scores.pivot(index="init_time", columns="forecaster", values="squared")
    count = scores.pivot(index="init_time", columns="forecaster", values="count")
    return rmse(squared, count)


def _came_back(store: Store, city: City) -> bool:
    """Returns whether the champion is one that was gone back to: that is done once."""
    table = store.promotions.decisions(city)
    made = table[table["verdict"] != "refused"]
    return not made.empty and made["verdict"].iloc[-1] == ROLLED_BACK


def _expected(city: City, version: str) -> float | None:
    """Returns the RMSE at lead 1 that a version had on its validation days, None where unknown."""
    try:
        metrics = read_manifest(models_root(), city.name, version).metrics
    except FlowcastError:
        return None
    value = metrics.get("candidate", {}).get("lead 1")
    return None if value is None or not np.isfinite(value) else float(value)
