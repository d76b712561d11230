"""Tokens of a frame as rows of a matrix in an ONNX graph, `(b * n, d)`, window by window.

Sizes: b batch, n tokens of a frame, d width, h heads, P cells along the side of a token.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from forecasting.networks.swin import AttentionWindows
from forecasting.networks.swinlstm_b import CellConfig
from forecasting.onnx_export.graph import Graph

EPSILON = 1e-5
"""Of the normalizations, torch's default."""


class Weights:
    """Weights below a prefix, as torch names them, in float64."""

    def __init__(self, tensors: Mapping[str, np.ndarray], prefix: str = "") -> None:
        self._tensors, self._prefix = tensors, prefix

    def __truediv__(self, part: str) -> "Weights":
        return Weights(self._tensors, f"{self._prefix}{part}.")

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tensors[self._prefix + name].astype(np.float64)

    def __contains__(self, name: str) -> bool:
        return self._prefix + name in self._tensors

    @property
    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Weight and bias of one layer."""
        return self["weight"], self["bias"]


@dataclass(frozen=True)
class Tokens:
    """The tokens of a frame at one resolution, and how they stand.

    Attributes:
        grid: rows and columns.
        window: as configured.
        width: d.
    """

    grid: tuple[int, int]
    window: int
    width: int

    @property
    def n(self) -> int:
        """Tokens of a frame."""
        return self.grid[0] * self.grid[1]

    @property
    def order(self) -> np.ndarray:
        """Tokens, counted along the rows of the grid, in the order in which they stand."""
        order: np.ndarray = AttentionWindows(self.grid, self.window, shifted=False).order.numpy()
        return order

    @property
    def places(self) -> np.ndarray:
        """Where each token of the grid stands, `(rows, columns)`."""
        return self.order.argsort().reshape(self.grid)

    def permute(self, graph: Graph, rows: str, order: np.ndarray) -> str:
        """Returns the rows of every frame in another order: first the one at `order[0]`."""
        frames = graph.reshape(rows, -1, self.n, self.width)
        return graph.reshape(graph.add("Gather", frames, order, axis=1), -1, self.width)


def normalize(graph: Graph, rows: str, width: int) -> str:
    """Returns rows of mean 0 and variance 1: LayerNorm without its affine part."""
    return layer_norm(graph, rows, np.ones(width), np.zeros(width))


def layer_norm(graph: Graph, rows: str, scale: np.ndarray, shift: np.ndarray) -> str:
    """Returns the LayerNorm of each row."""
    given = (scale.astype(np.float32), shift.astype(np.float32))
    return graph.add("LayerNormalization", rows, *given, epsilon=EPSILON)


def after_norm(
    norm: tuple[np.ndarray, np.ndarray], linear: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the linear map of normalized rows that takes up the affine part of their LayerNorm."""
    (scale, shift), (weight, bias) = norm, linear
    return weight * scale, weight @ shift + bias


def embed(graph: Graph, frame: str, weights: Weights, config: CellConfig, tokens: Tokens) -> str:
    """Returns the rows of a frame `(b, c, y, x)`: one linear map of a patch, LayerNorm."""
    c, p, (rows, columns) = config.channels, config.patch, config.grid
    beyond = c * rows * columns
    cells = np.full((c, tokens.grid[0] * p, tokens.grid[1] * p), beyond)
    cells[:, :rows, :columns] = np.arange(beyond).reshape(c, rows, columns)
    patches = cells.reshape(c, tokens.grid[0], p, tokens.grid[1], p).transpose(1, 3, 0, 2, 4)
    flat = graph.reshape(frame, -1, beyond)
    if beyond in cells:  # one 0 after the frame stands for all cells beyond it
        flat = graph.add("Pad", flat, np.array([0, 0, 0, 1]))
    index = patches.reshape(tokens.n, -1)[tokens.order]
    values = graph.reshape(graph.add("Gather", flat, index, axis=1), -1, c * p * p)
    weight, bias = (weights / "project").affine
    projected = graph.exact(values, weight.reshape(len(weight), -1), bias)
    return layer_norm(graph, projected, *(weights / "norm").affine)
