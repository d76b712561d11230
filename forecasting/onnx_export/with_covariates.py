"""The doors of a contextual network in an ONNX graph; see `models/contextual.py`.

Sizes: b batch, c channels, m maps, v numbers, d features.
"""

from collections.abc import Sequence

import numpy as np

from forecasting.networks.with_covariates import Surroundings
from forecasting.onnx_export.graph import CONTRIBUTED, Graph
from forecasting.onnx_export.tokens import Weights


def enter(graph: Graph, weights: Weights, around: Surroundings, channels: int) -> tuple[str, str]:
    """Returns the frame with what grows of it, and the features `(b, d, y, x)` of all inputs.

    Args:
        graph: with the inputs `frame`, `maps` and `numbers`; one whose size is 0 is not looked at.
        weights: of the doors.
        around: what is shown.
        channels: c, of a frame.
    """
    weight, bias = (weights / "enter").affine
    place = weights["place"]
    pads = [around.kernel // 2] * 4
    seen = grown(graph, around, channels)
    told, offset = (weights / "told").affine
    whole = graph.add("Concat", seen, "maps", axis=1) if around.maps else seen
    shown = weight.shape[1] - len(place)
    part = weight[:, :shown].astype(np.float32)
    features = graph.add("Conv", whole, part, pads=pads)
    # What cells have of their own is the same at every step: one map.
    own = own_map(weight[:, shown:], place) + (bias + offset)[:, None, None]
    features = graph.add("Add", features, own[None].astype(np.float32))
    if around.numbers:
        column = graph.add("MatMul", "numbers", told.T.astype(np.float32))
        features = graph.add("Add", features, graph.reshape(column, -1, len(told), 1, 1))
    return seen, features


def grown(graph: Graph, around: Surroundings, channels: int) -> str:
    """Returns the frame, and behind it the same as grown, where growth is told."""
    if not around.growth:
        return "frame"
    bounds = (np.array([value], dtype=np.int64) for value in (-channels, around.maps, 1))
    growth = graph.add("Add", graph.add("Slice", "maps", *bounds), np.ones(1, dtype=np.float32))
    return graph.add("Concat", "frame", graph.add("Mul", "frame", growth), axis=1)


def own_map(weight: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Returns the convolution of features of the cells `(p, y, x)`: `(d, y, x)`."""
    kernel = weight.shape[-1]
    wide = np.pad(place, [(0, 0), *[(kernel // 2,) * 2] * 2])
    views = np.lib.stride_tricks.sliding_window_view(wide, (kernel, kernel), axis=(1, 2))
    return np.asarray(np.einsum("dpij,pyxij->dyx", weight, views))


def leave(
    graph: Graph, weights: Weights, around: Surroundings, seen: str, output: str, features: str
) -> str:
    """Returns the next frame `(b, c, y, x)` of what the network within put out, `(b, d, y, x)`."""
    both = graph.add("Concat", output, features, axis=1)
    (weight, bias), last = ((weights / name).affine for name in ("leave.0", "leave.2"))
    first = weight.astype(np.float32), bias.astype(np.float32)
    hidden = graph.add("Conv", both, *first, pads=[around.kernel // 2] * 4)
    hidden = graph.add(f"{CONTRIBUTED}:Gelu", hidden)
    change = graph.add("Conv", hidden, *(part.astype(np.float32) for part in last))
    keep = weights["keep"]
    kept = graph.add("Mul", seen, keep.astype(np.float32))
    channels = len(keep) // (1 + around.growth)
    if around.shares:
        change, kept = _shared(graph, change, seen, kept, [channels, *[len(keep)] * 3])
    # A convolution with ones and zeros adds up what is kept of each channel.
    total = np.tile(np.eye(channels, dtype=np.float32), len(keep) // channels)
    return graph.add("Add", change, graph.add("Conv", kept, total[..., None, None]))


def _shared(graph: Graph, made: str, seen: str, kept: str, sizes: Sequence[int]) -> tuple[str, str]:
    """Returns the change, and what is kept with the shares that follow it in `made` added."""
    change, *shares = graph.add_many(4, "Split", made, np.array(sizes, dtype=np.int64), axis=1)
    window = {"kernel_shape": [3, 3], "pads": [1] * 4, "count_include_pad": 1}
    nearby = graph.add("AveragePool", seen, **window)
    for share, of in zip(shares, (seen, nearby, graph.add("GlobalAveragePool", seen)), strict=True):
        kept = graph.add("Add", kept, graph.add("Mul", share, of))
    return change, kept
