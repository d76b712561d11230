"""One step of SwinLSTM-B and -D as an ONNX graph, exact up to rounding, arranged for speed.

Tokens are the rows of a matrix from the embedding to the reconstruction and stand window by window;
only a shifted block permutes them. The affine part of a LayerNorm goes into the linear map after it,
the scale of the scores into the queries, and the shift mask into the position bias. Sizes: b batch,
n tokens of a frame, d width, h heads, w tokens of a window, k windows of a frame.
"""

import numpy as np

from forecasting.networks.swin import AttentionWindows, token_grid
from forecasting.networks.swinlstm_b import SwinLSTMConfig
from forecasting.networks.swinlstm_d import SwinLSTMDConfig
from forecasting.networks.swinlstm_parts import GATES
from forecasting.onnx_export.graph import CONTRIBUTED, Graph
from forecasting.onnx_export.reconstruction import RECONSTRUCTIONS
from forecasting.onnx_export.tokens import Tokens, Weights, after_norm, embed, layer_norm, normalize


def write_b(graph: Graph, frame: str, config: SwinLSTMConfig, weights: Weights) -> "StepGraph":
    """Returns the step of a SwinLSTM-B for a frame `(b, c, y, x)`."""
    grid = token_grid(config.grid, config.patch, config.window)
    tokens = Tokens(grid, config.window, config.width)
    step = StepGraph(graph, config.gate)
    x = embed(graph, frame, weights / "embed", config, tokens)
    for position, (depth, heads) in enumerate(zip(config.depths, config.heads, strict=True)):
        x = step.cell(x, weights / f"cells.{position}", tokens, heads, depth)
    write = RECONSTRUCTIONS[config.reconstruction]
    step.output = write(graph, weights / "reconstruct", config, tokens, x)
    return step


def write_d(graph: Graph, frame: str, config: SwinLSTMDConfig, weights: Weights) -> "StepGraph":
    """Returns the step of a SwinLSTM-D for a frame `(b, c, y, x)`."""
    levels = len(config.down_depths)
    rows, columns = token_grid(config.grid, config.patch, config.window, levels)
    at = [
        Tokens((rows >> level, columns >> level), config.window, width)
        for level, width in enumerate(config.widths)
    ]
    step = StepGraph(graph, config.gate)
    x = embed(graph, frame, weights / "embed", config, at[0])
    for level, (depth, heads) in enumerate(zip(config.down_depths, config.down_heads, strict=True)):
        part = weights / f"down.{level}"
        x = step.cell(x, part / "cell", at[level], heads, depth)
        x = merge(graph, x, part / "resize", at[level], at[level + 1])
    for index, (depth, heads) in enumerate(zip(config.up_depths, config.up_heads, strict=True)):
        part, level = weights / f"up.{index}", levels - index
        x = step.cell(x, part / "cell", at[level], heads, depth)
        x = expand(graph, x, part / "resize", at[level], at[level - 1])
    write = RECONSTRUCTIONS[config.reconstruction]
    step.output = write(graph, weights / "reconstruct", config, at[0], x)
    return step


class StepGraph:
    """The cells of a step as they are written, each with its state.

    Attributes:
        states: shape of each input `h0, c0, h1, ...`, without the batch.
        renewed: the value that follows each of them.
        output: the frame that the network puts out, once it is known, without bounds.
    """

    def __init__(self, graph: Graph, gate: str) -> None:
        self.graph, self.gate = graph, gate
        self.states: dict[str, tuple[int, int]] = {}
        self.renewed: list[str] = []
        self.output = ""

    def cell(self, x: str, weights: Weights, tokens: Tokens, heads: int, depth: int) -> str:
        """Returns the rows `h_t` of a cell of `depth` blocks for the rows `x`."""
        graph, position = self.graph, len(self.states) // 2
        names = f"h{position}", f"c{position}"
        hidden, memory = (graph.reshape(name, -1, tokens.width) for name in names)
        stream = Stream(graph, x, tokens, heads)
        # As published: h_{t-1} meets the first block, x_t again every second one after it.
        partner, again = normalize(graph, hidden, tokens.width), stream.normalized
        for index in range(depth):
            stream.block(weights / f"blocks.{index}", index % 2 == 1, partner)
            partner = again
        hidden, memory = gates(graph, stream.features, memory, weights / "gates", self.gate)
        shape = tokens.n, tokens.width
        self.states |= dict.fromkeys(names, shape)
        self.renewed += [graph.reshape(value, -1, *shape) for value in (hidden, memory)]
        return hidden


class Stream:
    """The rows that pass through the blocks of a cell.

    Attributes:
        features: `(b * n, d)`.
        normalized: the same with mean 0 and variance 1 in every row.
    """

    def __init__(self, graph: Graph, features: str, tokens: Tokens, heads: int) -> None:
        self.graph, self.tokens, self.heads = graph, tokens, heads
        self.features = features
        self.normalized = normalize(graph, features, tokens.width)

    def block(self, weights: Weights, shifted: bool, partner: str) -> None:
        """Passes a Swin block; `partner` is normalized rows, for a block that takes them."""
        graph = self.graph
        z, norm = self.normalized, (weights / "norm1").affine
        if "reduce.weight" in weights:
            twice = np.tile(norm, 2)
            both = graph.add("Concat", z, partner, axis=1)
            z = graph.linear(both, *after_norm((twice[0], twice[1]), (weights / "reduce").affine))
            norm = np.ones_like(norm[0]), np.zeros_like(norm[1])
        self._add(attention(self, z, norm, weights / "attention", shifted))
        norm = (weights / "norm2").affine
        hidden = graph.linear(self.normalized, *after_norm(norm, (weights / "mlp.0").affine))
        hidden = graph.add(f"{CONTRIBUTED}:Gelu", hidden)
        self._add(graph.linear(hidden, *(weights / "mlp.2").affine))

    def _add(self, change: str) -> None:
        # One SkipLayerNormalization would do it, but takes three times as long in ONNX Runtime.
        self.features = self.graph.add("Add", self.features, change)
        self.normalized = normalize(self.graph, self.features, self.tokens.width)


def attention(
    stream: Stream,
    z: str,
    norm: tuple[np.ndarray, np.ndarray],
    weights: Weights,
    shifted: bool,
) -> str:
    """Returns what window attention adds to the rows.

    Args:
        stream: whose rows they are.
        z: `(b * n, d)`, of which `norm` is an affine part still to come.
        norm: scale and shift, `(d,)`.
        weights: of the attention.
        shifted: whether the block is an odd one.
    """
    graph, tokens = stream.graph, stream.tokens
    windows = AttentionWindows(tokens.grid, tokens.window, shifted)
    k, w, d = len(windows.mask), windows.size, tokens.width
    bias = weights["bias"][windows.pair.numpy()].transpose(2, 0, 1)  # h w w
    order, sets = np.arange(0), 1
    if windows.mask.any():
        # The windows of a frame stand as further heads, so that each has a mask of its own.
        bias, sets = bias + windows.mask.numpy()[:, None], k  # k h w w
        places = tokens.order.argsort()[windows.order.numpy()]
        order = places.reshape(k, w).T.flatten()
        z = tokens.permute(graph, z, order)
    maps = queries_keys_values(weights, stream.heads)
    parts = [
        graph.reshape(graph.linear(z, *after_norm(norm, one)), -1, w, sets * d) for one in maps
    ]
    heads = {"q_num_heads": sets * stream.heads, "kv_num_heads": sets * stream.heads}
    scores = bias.reshape(1, -1, w, w).astype(np.float32)
    output = graph.reshape(graph.add("Attention", *parts, scores, **heads, scale=1.0), -1, d)
    if sets > 1:
        output = tokens.permute(graph, output, order.argsort())
    return graph.linear(output, *(weights / "project").affine)


def queries_keys_values(weights: Weights, heads: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns three linear maps; the scale of the scores is in the first."""
    maps = zip(np.split(weights["qkv.weight"], 3), np.split(weights["qkv.bias"], 3), strict=True)
    (weight, bias), *others = maps
    root = (len(bias) // heads) ** -0.5
    return [(weight * root, bias * root), *others]


def gates(graph: Graph, features: str, memory: str, weights: Weights, kind: str) -> tuple[str, str]:
    """Returns `h_t` and `c_t` (SwinLSTM, arXiv 2308.09891, section 3.2)."""
    roles = GATES[kind]
    opened = []
    for index in range(len(set(roles))):
        part = weights / f"projections.{index}"
        value = graph.exact(features, *part.affine) if "weight" in part else features
        opened.append(graph.add("Sigmoid", value))
    into, forget, out = (opened[role] for role in roles)
    candidate = graph.add("Tanh", features)
    if into == forget:
        memory = graph.add("Mul", into, graph.add("Add", memory, candidate))
    else:
        kept, taken = graph.add("Mul", forget, memory), graph.add("Mul", into, candidate)
        memory = graph.add("Add", kept, taken)
    return graph.add("Mul", out, graph.add("Tanh", memory)), memory


def merge(graph: Graph, x: str, weights: Weights, fine: Tokens, coarse: Tokens) -> str:
    """Returns the rows of a quarter of the tokens, of twice the width."""
    places = fine.places
    # As published: down the first column of the square, then down the second.
    corners = [places[dy::2, dx::2] for dx in (0, 1) for dy in (0, 1)]
    squares = np.stack(corners, axis=-1).reshape(coarse.n, 4)[coarse.order]
    together = fine.permute(graph, x, squares.flatten())
    rows = normalize(graph, graph.reshape(together, -1, 4 * fine.width), 4 * fine.width)
    weight = weights["reduce.weight"]
    norm = (weights / "norm").affine
    return graph.linear(rows, *after_norm(norm, (weight, np.zeros(len(weight)))))


def expand(graph: Graph, x: str, weights: Weights, coarse: Tokens, fine: Tokens) -> str:
    """Returns the rows of four times the tokens, of half the width."""
    wide = graph.linear(x, weights["expand.weight"])
    rows = layer_norm(graph, graph.reshape(wide, -1, fine.width), *(weights / "norm").affine)
    # As published: along the first row of the square, then along the second.
    corners = np.arange(4).reshape(1, 2, 1, 2)
    made = 4 * coarse.places[:, None, :, None] + corners
    return fine.permute(graph, rows, made.flatten()[fine.order])
