"""Export: a trained network as a file that serves without torch, checked before it may serve."""

from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

import numpy as np
from torch import nn

from data.errors import FlowcastError
from forecasting.networks import NETWORKS
from forecasting.networks.base import NetworkConfig
from forecasting.networks.residual import StepResidual
from forecasting.networks.with_covariates import RecurrentWithCovariates, inner_config
from forecasting.onnx_export.graph import Graph
from forecasting.onnx_export.swinlstm import StepGraph
from forecasting.onnx_export.tokens import Weights
from forecasting.onnx_export.with_covariates import input_head, output_head
from forecasting.rollout.onnx_rollout import OnnxRollout
from forecasting.rollout.torch_rollout import TorchRollout, weights_of

TOLERANCE = 1e-5
"""The largest difference from torch in float32, relative to the largest output, or of 1."""

TRIALS = ((1, 1, 1), (2, 3, 2), (5, 2, 4))
"""Batch, frames and horizon of each rollout that torch and the export are compared on."""

Writer = Callable[[Graph, str, Any, Weights], StepGraph]

"""Writes one step of a network: into a graph, for its frame or features, of its configuration and weights."""


@dataclass(frozen=True)
class Export:
    """A network as ONNX.

    Attributes:
        model: content of the file.
        precision: of its matrix products, `float32` or `int8`.
        difference: the largest from what torch gives, of scaled frames.
    """

    model: bytes
    precision: str
    difference: float


def export(
    name: str, network: nn.Module, config: NetworkConfig, precision: str = "float32"
) -> Export:
    """Returns a trained network as ONNX, after running it beside torch.

    Args:
        name: key in `NETWORKS`.
        network: bare, or as a city's forecaster wraps it, `StepResidual` or `RecurrentWithCovariates`.
        config: of its frames.
        precision: key in `PRECISIONS`. In `int8` the difference is measured, but not limited.

    Raises:
        FlowcastError: there is no export of this network, or in float32 its outputs are not torch's.
    """
    if not NETWORKS[name].onnx:
        known = ", ".join(key for key, entry in NETWORKS.items() if entry.onnx)
        raise FlowcastError(
            f"{name} cannot be exported; those that can are {known}; it serves by torch as it is"
        )
    model = write_model(name, network, config, precision)
    difference, largest = compare(model, network, config)
    allowed = TOLERANCE * max(1.0, largest)
    if precision == "float32" and not difference <= allowed:
        raise FlowcastError(
            f"the export of {name} differs by {difference:.1e} from torch where {allowed:.1e} is allowed, "
            f"so it may not serve; check the weights for very large values, or serve by torch"
        )
    return Export(model, precision, difference)


def write_model(
    name: str, network: nn.Module, config: NetworkConfig, precision: str = "float32"
) -> bytes:
    """Returns one step of a network as an ONNX file; see `onnx_rollout` for its inputs and outputs."""
    graph, weights = Graph(precision), Weights(weights_of(network))
    write: Writer = resolve_name(NETWORKS[name].onnx)
    inputs: dict[str, tuple[int | str, ...]] = {}
    match network:
        case RecurrentWithCovariates():
            shape_of, heads = network.covariates, weights / "doors"
            sizes = {"maps": (shape_of.maps, *config.grid), "numbers": (shape_of.numbers,)}
            inputs = {key: ("b", *size) for key, size in sizes.items() if size[0]}
            frames, features = input_head(graph, heads, shape_of, config.channels)
            within = inner_config(config, shape_of)
            step = write(graph, features, within, weights / "network")
            frame = output_head(graph, heads, shape_of, frames, step.output, features)
        case StepResidual():
            step = write(graph, "frame", config, weights / "network")
            gain = weights["gain"].astype(np.float32)
            frame = graph.add("Add", "frame", graph.add("Mul", _bounded(graph, step, config), gain))
        case _:
            step = write(graph, "frame", config, weights)
            frame = _bounded(graph, step, config)
    shape = ("b", config.channels, *config.grid)
    states = {name: ("b", *size) for name, size in step.states.items()}
    renewed = zip(states.items(), step.renewed, strict=True)
    return graph.model(
        {"frame": shape, **inputs, **states},
        {"next": (frame, shape)} | {f"{key}_next": (value, s) for (key, s), value in renewed},
    )


def _bounded(graph: Graph, step: StepGraph, config: NetworkConfig) -> str:
    """Returns what the network puts out, within its bounds."""
    return graph.add("Sigmoid", step.output) if config.output == "sigmoid" else step.output


def compare(model: bytes, network: nn.Module, config: NetworkConfig) -> tuple[float, float]:
    """Returns the largest difference of an export from torch, and torch's largest output.

    The frames are those that scaled anomalies may be: most within 1, a few as far as 20.
    """
    rng = np.random.default_rng(0)
    ours = OnnxRollout.open(model, config.history, threads=1)
    theirs = TorchRollout(network, config)
    differences, sizes = [], []
    for batch, seen, horizon in TRIALS:
        shape = (batch, seen, config.channels, *config.grid)
        frames = rng.standard_normal(shape, dtype=np.float32)
        frames[rng.random(shape) < 0.002] *= 6
        frames = frames.clip(-20, 20)
        covariates = _covariates(network, (batch, seen - 1 + horizon), rng)
        expected = theirs(frames, horizon, *covariates)
        differences.append(np.abs(ours(frames, horizon, *covariates) - expected).max())
        sizes.append(np.abs(expected).max())
    # `max` of Python would pass over a nan.
    return float(np.max(differences)), float(np.max(sizes))


def _covariates(
    network: nn.Module, steps: tuple[int, int], rng: np.random.Generator
) -> list[np.ndarray]:
    """Returns random maps and numbers of `(b, s)` steps, none for a network without covariates."""
    if not isinstance(network, RecurrentWithCovariates):
        return []
    shape, grid = network.covariates, network.doors.place.shape[1:]
    shapes = (*steps, shape.maps, *grid), (*steps, shape.numbers)
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
