"""Promotion: a candidate against the champion and the baselines on the validation days."""

import numpy as np
import xarray as xr

from data.city import City
from data.errors import FlowcastError
from data.paths import models_root
from data.store.store import Store
from forecasting.baselines import BASELINES, fit_baselines
from forecasting.city.task import CityTask
from forecasting.forecaster import Forecaster
from forecasting.registry.manifest import read_manifest
from forecasting.registry.versions import flow_hash
from pipelines.forecast.champion import load_champion


def champion_of(store: Store, city: City, task: CityTask) -> Forecaster | None:
    """Returns the champion, None where there is none that can be judged by the validation days.

    What cannot serve need not be beaten; what was trained on those days would look better than it is.
    """
    version = store.promotions.champion(city)
    if version is None:
        return None
    try:
        manifest = read_manifest(models_root(), city.name, version)
        champion = load_champion(store, city, version)
    except FlowcastError:
        return None
    seen = np.datetime64(manifest.trained[1].removesuffix("Z"))
    return champion if seen <= task.train["time"].values[-1] else None


def former_of(store: Store, city: City, task: CityTask) -> dict[str, float] | None:
    """Returns the figures of a champion that was judged by the very same days, if it was."""
    version = store.promotions.champion(city)
    if version is None:
        return None
    try:
        manifest = read_manifest(models_root(), city.name, version)
    except FlowcastError:
        return None
    same = manifest.data_hash == flow_hash(task.known) and manifest.selected == span(task.train)
    return manifest.metrics.get("candidate") if same else None


def scores_of(
    candidate: Forecaster, champion: Forecaster | None, task: CityTask
) -> dict[str, dict[str, float]]:
    """Returns the validation errors of the candidate and of all that it is judged against."""
    forecasters = {"candidate": candidate}
    if champion is not None:
        forecasters["champion"] = champion
    forecasters |= fit_baselines(task.train)
    return {name: task.errors(forecaster) for name, forecaster in forecasters.items()}


def span(flow: xr.DataArray) -> tuple[str, str]:
    """Returns the first and the last slot of a flow, ISO 8601, UTC."""
    first, last = flow["time"].values[[0, -1]]
    return f"{first}Z", f"{last}Z"


def judge(scores: dict[str, dict[str, float]]) -> tuple[bool, str]:
    """Returns whether the candidate is promoted, and why or why not."""
    own = scores["candidate"]["all"]
    average = scores["historical-average"]["all"]
    # A baseline without any whole window has no figure; the historical average always has one.
    others = {name: scores[name]["all"] for name in BASELINES if name in scores}
    best = min(others, key=lambda name: (np.isnan(others[name]), others[name]))
    rivals = {"historical average": average, best.replace("-", " "): others[best]}
    if "champion" in scores:
        rivals["champion"] = scores["champion"]["all"]
    for name, error in rivals.items():
        if not own < error:  # A figure that is no number fails too.
            return (
                False,
                f"RMSE {own:.2f} on the validation days, not below the {name}'s {error:.2f}",
            )
    beaten = " and the ".join(f"{name}'s {error:.2f}" for name, error in rivals.items())
    return True, f"RMSE {own:.2f} on the validation days, below the {beaten}"
