"""Input and output heads of a network with covariates in an ONNX graph; see `networks/with_covariates.py`.

Sizes: b batch, c channels, m maps, v numbers, d features.
"""

from collections.abc import Sequence

import numpy as np

from forecasting.networks.with_covariates import CovariateShape
from forecasting.onnx_export.graph import CONTRIBUTED, Graph
from forecasting.onnx_export.tokens import Weights


def input_head(
    graph: Graph, weights: Weights, covariates: CovariateShape, channels: int
) -> tuple[str, str]:
    """Returns the frame with the frame grown behind it, and the features `(b, d, y, x)`.

    Args:
        graph: with the inputs `frame`, `maps` and `numbers`; one whose size is 0 is not read.
        weights: of the `Adapter`.
        covariates: their sizes.
        channels: c, of a frame.
    """
    weight, bias = (weights / "enter").affine
    place = weights["place"]
    pads = [covariates.kernel // 2] * 4
    frames = with_growth(graph, covariates, channels)
    of_numbers, offset = (weights / "told").affine
    inputs = graph.add("Concat", frames, "maps", axis=1) if covariates.maps else frames
    count = weight.shape[1] - len(place)
    features = graph.add("Conv", inputs, weight[:, :count].astype(np.float32), pads=pads)
    # Features of the cells are the same at every step: one map.
    constant = convolved(weight[:, count:], place) + (bias + offset)[:, None, None]
    features = graph.add("Add", features, constant[None].astype(np.float32))
    if covariates.numbers:
        column = graph.add("MatMul", "numbers", of_numbers.T.astype(np.float32))
        column = graph.reshape(column, -1, len(of_numbers), 1, 1)
        features = graph.add("Add", features, column)
    return frames, features


def with_growth(graph: Graph, covariates: CovariateShape, channels: int) -> str:
    """Returns the frame, and behind it the frame grown, where maps hold the growth."""
    if not covariates.growth:
        return "frame"
    bounds = (np.array([value], dtype=np.int64) for value in (-channels, covariates.maps, 1))
    growth = graph.add("Add", graph.add("Slice", "maps", *bounds), np.ones(1, dtype=np.float32))
    return graph.add("Concat", "frame", graph.add("Mul", "frame", growth), axis=1)


def convolved(weight: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Returns the convolution of features of the cells `(p, y, x)`: `(d, y, x)`."""
    kernel = weight.shape[-1]
    padded = np.pad(place, [(0, 0), *[(kernel // 2,) * 2] * 2])
    views = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(1, 2))
    return np.asarray(np.einsum("dpij,pyxij->dyx", weight, views))


def output_head(
    graph: Graph,
    weights: Weights,
    covariates: CovariateShape,
    frames: str,
    output: str,
    features: str,
) -> str:
    """Returns the next frame `(b, c, y, x)` for the output of the network, `(b, d, y, x)`."""
    both = graph.add("Concat", output, features, axis=1)
    (weight, bias), last = ((weights / name).affine for name in ("leave.0", "leave.2"))
    first = weight.astype(np.float32), bias.astype(np.float32)
    hidden = graph.add("Conv", both, *first, pads=[covariates.kernel // 2] * 4)
    hidden = graph.add(f"{CONTRIBUTED}:Gelu", hidden)
    change = graph.add("Conv", hidden, *(part.astype(np.float32) for part in last))
    keep = weights["keep"]
    kept = graph.add("Mul", frames, keep.astype(np.float32))
    channels = len(keep) // (1 + covariates.growth)
    if covariates.shares:
        sizes = [channels, *[len(keep)] * 3]
        change, kept = _with_kept_means(graph, change, frames, kept, sizes)
    # A convolution with ones and zeros adds up what is kept of each channel.
    total = np.tile(np.eye(channels, dtype=np.float32), len(keep) // channels)
    return graph.add("Add", change, graph.add("Conv", kept, total[..., None, None]))


def _with_kept_means(
    graph: Graph, outputs: str, frames: str, kept: str, sizes: Sequence[int]
) -> tuple[str, str]:
    """Returns the change, and `kept` with the parts of cell, neighborhood and city added."""
    change, *parts = graph.add_many(4, "Split", outputs, np.array(sizes, dtype=np.int64), axis=1)
    window = {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1}
    neighborhood = graph.add("AveragePool", frames, **window)
    means = frames, neighborhood, graph.add("GlobalAveragePool", frames)
    for part, mean in zip(parts, means, strict=True):
        kept = graph.add("Add", kept, graph.add("Mul", part, mean))
    return change, kept
