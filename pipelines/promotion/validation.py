"""A training judged on its validation days: figures of candidate, champion and baselines, and gates."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from data.city import City
from data.clock import wall
from data.errors import FlowcastError
from data.paths import models_root
from data.store.store import Store
from forecasting.baselines import BASELINES, fit_baselines
from forecasting.city.task import CityTask
from forecasting.forecaster import Forecaster
from forecasting.registry.manifest import read_manifest
from forecasting.registry.versions import flow_hash
from pipelines.forecast.champion import load_champion
from pipelines.promotion import gates
from pipelines.promotion.gates import Errors, Gate


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


def gates_of(
    metrics: Mapping[str, Mapping[str, float]],
    init_times: np.ndarray,
    timezone: str,
    *,
    replaces: bool,
) -> list[Gate]:
    """Returns the gates of a training.

    Args:
        metrics: as `scores_of` returns them.
        init_times: of the windows that judge, UTC.
        timezone: of the city.
        replaces: whether there is a champion that can serve, judged on these days or not.
    """
    errors = {name: Errors.of_metrics(one) for name, one in metrics.items()}
    candidate, champion = errors["candidate"], errors.get("champion")
    # A baseline without any whole window has no figure; the historical average always has one.
    baselines = {
        name: errors[name]
        for name in BASELINES
        if name in errors and (name == "historical-average" or not np.isnan(errors[name].overall))
    }
    days = len(np.unique(wall(init_times, timezone).astype("datetime64[D]")))
    found = [gates.enough(len(init_times), days, replaces)]
    found += gates.beats(candidate, baselines)
    return found + (gates.holds(candidate, champion) if champion else [])
