"""How networks serve: by their exports, of float32 or int8, else by torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from data.errors import FlowcastError
from forecasting.city.task import CityTask
from forecasting.ensemble import NeuralForecaster
from forecasting.networks import NETWORKS
from forecasting.onnx_export.export import export
from forecasting.rollout.onnx_rollout import OnnxRollout

SERVED = ("float32", "int8")

MOST_CHANGE = 0.005
"""By how much of the RMSE on the validation days int8 may change it."""


@dataclass(frozen=True)
class ServingForm:
    """How networks serve.

    Attributes:
        forecaster: as it will serve.
        models: the exported steps of all networks, none where torch serves.
        facts: for the manifest.
        notes: for people.
    """

    forecaster: NeuralForecaster
    models: tuple[bytes, ...]
    facts: dict[str, Any]
    notes: tuple[str, ...] = ()


def serving_form(
    task: CityTask, networks: Sequence[nn.Module], serve: str, judged: bool = False
) -> ServingForm:
    """Returns how networks will serve: by their exports where they can be exported, else by torch.

    Args:
        task: with the validation windows, on which int8 is measured.
        networks: with the weights that were chosen.
        serve: `float32`, or `int8`, which is taken if it changes the RMSE by less than half a percent.
        judged: whether `serve` was measured before and is taken as it is.
    """
    by_torch = task.forecaster(*networks)
    if not NETWORKS[task.name].onnx:
        notes = (f"{task.name} has no export; torch serves it",) if serve != "float32" else ()
        return ServingForm(by_torch, (), {}, notes)
    try:
        exact = _exported(task, networks, serve if judged else "float32")
    except (FlowcastError, RuntimeError) as error:  # the latter ONNX Runtime's own
        return ServingForm(by_torch, (), {"failed": str(error)}, (f"torch serves: {error}",))
    return exact if judged or serve != "int8" else _measured(task, networks, exact)


def _exported(task: CityTask, networks: Sequence[nn.Module], precision: str) -> ServingForm:
    """Returns the exports of networks in a precision."""
    made = [export(task.name, network, task.network, precision) for network in networks]
    history = task.network.history
    forecaster = task.served_by(*(OnnxRollout.open(one.model, history) for one in made))
    facts = {"precision": precision, "difference": max(one.difference for one in made)}
    return ServingForm(forecaster, tuple(one.model for one in made), facts)


def _measured(task: CityTask, networks: Sequence[nn.Module], exact: ServingForm) -> ServingForm:
    """Returns int8 where it serves as well on the validation windows, else what is exact."""
    try:
        small = _exported(task, networks, "int8")
    except (FlowcastError, RuntimeError) as error:
        return _refused(exact, {}, str(error))
    before, after = (task.errors(one.forecaster)["all"] for one in (exact, small))
    change = abs(after - before) / before
    measured = {"rmse": {"float32": before, "int8": after}}
    if not change < MOST_CHANGE:
        reason = f"int8 changes the RMSE by {change:.2%}, which is not below {MOST_CHANGE:.1%}"
        return _refused(exact, measured, reason)
    notes = (f"int8 serves: RMSE {change:.2%} off float32",)
    return ServingForm(small.forecaster, small.models, {**small.facts, **measured}, notes)


def _refused(exact: ServingForm, measured: dict[str, Any], reason: str) -> ServingForm:
    facts = {**exact.facts, **measured, "refused": reason}
    return ServingForm(exact.forecaster, exact.models, facts, (f"float32 serves: {reason}",))
