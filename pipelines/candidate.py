"""A candidate: the best epoch of a training as a version, judged as it will serve, and kept."""

import importlib.metadata
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from torch import nn

from data.city import City
from data.errors import FlowcastError
from data.store import Store
from forecasting.climatology import Climatology
from forecasting.export import EXPORTS, Export, export
from forecasting.lesson import Lesson
from forecasting.neural import NeuralForecaster
from forecasting.onnx_rollout import OnnxRollout
from forecasting.registry import Manifest, flow_hash, models_root, save_version
from forecasting.state import TrainingState
from forecasting.torch_rollout import weights_of
from pipelines.promotion import champion_of, judge, scores_of

SERVED = ("float32", "int8")
MOST_CHANGE = 0.005
"""By how much of the RMSE on the validation days int8 may change it."""


@dataclass(frozen=True)
class Trained:
    """A version that was trained, and what was decided of it.

    Attributes:
        manifest: of the version.
        promoted: whether it is the champion now.
        reason: for people.
        stopped: whether training was stopped before its last planned epoch.
        notes: what a person should know of how it serves.
    """

    manifest: Manifest
    promoted: bool
    reason: str
    stopped: bool
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """What was decided, in a line."""
        place = "is the champion now" if self.promoted else "is kept as a candidate"
        return f"version {self.manifest.version} {place}: {self.reason}"


@dataclass(frozen=True)
class Service:
    """How a network serves.

    Attributes:
        forecaster: as it will serve, but that it knows the training span alone.
        model: the exported step, None where torch serves.
        facts: for the manifest.
        notes: for people.
    """

    forecaster: NeuralForecaster
    model: bytes | None
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()


def keep_best(
    store: Store, city: City, state: TrainingState, lesson: Lesson, serve: str, stopped: bool
) -> Trained:
    """Saves the best epoch as a version, judges it and promotes it if it is good enough."""
    state.network.load_state_dict(state.best)
    service = service_of(lesson, state.network, serve)
    scores = scores_of(service.forecaster, champion_of(store, city, lesson), lesson)
    promoted, reason = judge(scores)
    # The weights are chosen; the climatology that they meet in service may know the last days too.
    climatology = Climatology.fit(lesson.both)
    manifest = _manifest(city, state, lesson, scores, service.facts)
    weights = weights_of(state.network)
    save_version(models_root(), manifest, weights, climatology, service.model)
    if promoted:
        store.promote(city, manifest.version, reason)
    return Trained(manifest, promoted, reason, stopped, service.notes)


def service_of(lesson: Lesson, network: nn.Module, serve: str) -> Service:
    """Returns how a network will serve: by its export where it can be exported, else by torch.

    Args:
        lesson: with the validation windows, on which int8 is measured.
        network: with the weights that were chosen.
        serve: `float32`, or `int8`, which is taken if it changes the RMSE by less than half a percent.
    """
    by_torch = lesson.forecaster(network)
    if lesson.name not in EXPORTS:
        notes = (f"{lesson.name} has no export; torch serves it",) if serve != "float32" else ()
        return Service(by_torch, None, {}, notes)
    try:
        exact = export(lesson.name, network, lesson.network, "float32")
    except (FlowcastError, RuntimeError) as error:  # the latter ONNX Runtime's own
        return Service(by_torch, None, {"failed": str(error)}, (f"torch serves: {error}",))
    forecaster = _served(lesson, exact)
    facts = {"precision": exact.precision, "difference": exact.difference}
    if serve != "int8":
        return Service(forecaster, exact.model, facts)
    return _measured(lesson, network, Service(forecaster, exact.model, facts))


def _measured(lesson: Lesson, network: nn.Module, exact: Service) -> Service:
    """Returns int8 where it serves as well on the validation windows, else what is exact."""
    try:
        small = export(lesson.name, network, lesson.network, "int8")
    except (FlowcastError, RuntimeError) as error:
        return _refused(exact, {}, str(error))
    forecaster = _served(lesson, small)
    before, after = lesson.error(exact.forecaster), lesson.error(forecaster)
    change = abs(after - before) / before
    measured = {"rmse": {"float32": before, "int8": after}}
    if not change < MOST_CHANGE:
        reason = f"int8 changes the RMSE by {change:.2%}, which is not below {MOST_CHANGE:.1%}"
        return _refused(exact, measured, reason)
    facts = {"precision": small.precision, "difference": small.difference, **measured}
    return Service(forecaster, small.model, facts, (f"int8 serves: RMSE {change:.2%} off float32",))


def _refused(exact: Service, measured: dict[str, Any], reason: str) -> Service:
    facts = {**exact.facts, **measured, "refused": reason}
    return Service(exact.forecaster, exact.model, facts, (f"float32 serves: {reason}",))


def _served(lesson: Lesson, made: Export) -> NeuralForecaster:
    return lesson.served_by(OnnxRollout.open(made.model, lesson.network.history))


def _manifest(
    city: City,
    state: TrainingState,
    lesson: Lesson,
    scores: dict[str, dict[str, float]],
    facts: dict[str, Any],
) -> Manifest:
    digest = flow_hash(lesson.both)
    best = max(epoch.number for epoch in state.history if epoch.best)
    now = pd.Timestamp.now("UTC")
    return Manifest(
        version=f"{now:%Y%m%d-%H%M%S}-{digest[:4]}{state.config.seed:02d}",
        city=city.name,
        timezone=city.timezone,
        step=int(city.step / np.timedelta64(1, "s")),
        grid=city.grid,
        network=lesson.name,
        config=asdict(lesson.network),
        training={
            **asdict(state.config),
            "chosen_epoch": best,
            "history": [asdict(epoch) for epoch in state.history],
        },
        history=lesson.config.history,
        scale=lesson.scale,
        trained=_span(lesson.train),
        climatology=_span(lesson.both),
        data_hash=digest,
        metrics=scores,
        code_version=importlib.metadata.version("flowcast"),
        export=facts,
    )


def _span(flow: xr.DataArray) -> tuple[str, str]:
    first, last = flow["time"].values[[0, -1]]
    return f"{first}Z", f"{last}Z"
