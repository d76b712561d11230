"""Reconstruction in an ONNX graph: from rows of tokens back to the cells of a frame.

Each takes the rows `(b * n, d)` and returns the frame `(b, c, y, x)` without bounds, cropped to the
grid; see `models.reconstruction`.
"""

from collections.abc import Callable

import numpy as np

from forecasting.networks.swinlstm_b import CellConfig
from forecasting.onnx_export.graph import Graph
from forecasting.onnx_export.tokens import EPSILON, Tokens, Weights


def transposed(
    graph: Graph, weights: Weights, config: CellConfig, tokens: Tokens, rows: str
) -> str:
    """Returns the frame by transposed convolutions, each doubling the grid."""
    value = _image(graph, tokens, rows)
    if config.patch == 1:
        return _cropped(graph, config, tokens, _conv_transpose(graph, weights / "0", value, 1))
    layer, patch = 0, config.patch
    while patch > 2:
        value = _conv_transpose(graph, weights / f"{layer}", value, 2)
        value = _group_norm(graph, weights / f"{layer + 1}", value, tokens.width)
        value = graph.add("LeakyRelu", value, alpha=0.2)
        layer, patch = layer + 3, patch // 2
    value = _conv_transpose(graph, weights / f"{layer}", value, 2)
    return _cropped(graph, config, tokens, value)


def bilinear(graph: Graph, weights: Weights, config: CellConfig, tokens: Tokens, rows: str) -> str:
    """Returns the frame by bilinear upsampling and one convolution."""
    scales = np.array([1, 1, config.patch, config.patch], dtype=np.float32)
    image = _image(graph, tokens, rows)
    fine = graph.add("Resize", image, "", scales, mode="linear") if config.patch > 1 else image
    value = graph.add(
        "Conv", fine, *(w.astype(np.float32) for w in (weights / "1").affine), pads=[1, 1, 1, 1]
    )
    return _cropped(graph, config, tokens, value)


def linear(graph: Graph, weights: Weights, config: CellConfig, tokens: Tokens, rows: str) -> str:
    """Returns the frame by a linear map of each token to the cells of its patch."""
    weight, bias = (weights / "0").affine
    values = graph.exact(rows, weight[:, :, 0, 0], bias)
    c, p = config.channels, config.patch
    flat = graph.reshape(values, -1, tokens.n * c * p * p)
    made = np.arange(tokens.n * c * p * p).reshape(tokens.n, c, p, p)[tokens.places]  # y x c P P
    cells = made.transpose(2, 0, 3, 1, 4).reshape(c, tokens.grid[0] * p, -1)
    index = cells[:, : config.grid[0], : config.grid[1]].reshape(c, *config.grid)
    return graph.add("Gather", flat, index, axis=1)


Reconstruction = Callable[[Graph, Weights, CellConfig, Tokens, str], str]

RECONSTRUCTIONS: dict[str, Reconstruction] = {
    "transposed": transposed,
    "bilinear": bilinear,
    "linear": linear,
}


def _image(graph: Graph, tokens: Tokens, rows: str) -> str:
    """Returns `(b, d, y / P, x / P)`."""
    ordered = tokens.permute(graph, rows, tokens.places.flatten())
    image = graph.reshape(ordered, -1, *tokens.grid, tokens.width)
    return graph.add("Transpose", image, perm=[0, 3, 1, 2])


def _conv_transpose(graph: Graph, weights: Weights, image: str, stride: int) -> str:
    kernel, bias = (value.astype(np.float32) for value in weights.affine)
    return graph.add(
        "ConvTranspose",
        image,
        kernel,
        bias,
        strides=[stride, stride],
        pads=[1, 1, 1, 1],
        output_padding=[stride - 1, stride - 1],
    )


def _group_norm(graph: Graph, weights: Weights, image: str, width: int) -> str:
    """Returns GroupNorm in two groups."""
    shape = graph.add("Shape", image)
    scale, shift = (value.astype(np.float32).reshape(width, 1, 1) for value in weights.affine)
    ones, zeros = np.ones(2, np.float32), np.zeros(2, np.float32)
    groups = graph.add(
        "InstanceNormalization",
        graph.add("Reshape", image, np.array([0, 2, -1])),
        ones,
        zeros,
        epsilon=EPSILON,
    )
    scaled = graph.add("Mul", graph.add("Reshape", groups, shape), scale)
    return graph.add("Add", scaled, shift)


def _cropped(graph: Graph, config: CellConfig, tokens: Tokens, image: str) -> str:
    rows, columns = config.grid
    if (tokens.grid[0] * config.patch, tokens.grid[1] * config.patch) == config.grid:
        return image
    return graph.add("Slice", image, np.array([0, 0]), np.array([rows, columns]), np.array([2, 3]))
