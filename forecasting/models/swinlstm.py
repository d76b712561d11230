"""SwinLSTM-B: Swin Transformer blocks inside a simplified LSTM.

Source: Tang, Li, Zhang, Tang: SwinLSTM: Improving Spatiotemporal Prediction Accuracy using Swin
Transformer and LSTM, ICCV 2023, arXiv 2308.09891. Sizes at line ends: b batch, c channels, n tokens,
d width, h heads, w tokens of a window, k windows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forecasting.models.reconstruction import RECONSTRUCTIONS
from forecasting.models.rollout import rollout

State = list[tuple[Tensor, Tensor]]
OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "identity": Tensor.clone,
}


@dataclass(frozen=True)
class SwinLSTMConfig:
    """Size of a SwinLSTM-B; the defaults are the paper's for TaxiBJ.

    Attributes:
        channels: c, of a frame.
        grid: cells of a frame, `(y, x)`; any, padded where patches or windows do not fit.
        patch: cells along the side of a token, a power of two.
        width: d, features of a token.
        window: tokens along the side of an attention window.
        depths: blocks of each cell; several cells stand one after another at one resolution.
        heads: attention heads of each cell.
        drop_path: probability of stochastic depth in every block.
        reconstruction: key in `RECONSTRUCTIONS`.
        output: key in `OUTPUTS`: `sigmoid` for frames in [0, 1] (the paper), `identity` without bounds.
    """

    channels: int = 2
    grid: tuple[int, int] = (32, 32)
    patch: int = 4
    width: int = 128
    window: int = 8
    depths: tuple[int, ...] = (12,)
    heads: tuple[int, ...] = (8,)
    drop_path: float = 0.1
    reconstruction: str = "transposed"
    output: str = "sigmoid"

    def __post_init__(self) -> None:
        if self.patch < 1 or self.patch & (self.patch - 1):
            raise ValueError(f"patch {self.patch} is not a power of two")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path {self.drop_path} is no probability below 1")
        if len(self.depths) != len(self.heads) or not self.depths:
            raise ValueError(f"{len(self.depths)} depths but {len(self.heads)} heads")
        if any(self.width % heads for heads in self.heads):
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads")
        if self.reconstruction not in RECONSTRUCTIONS:
            raise ValueError(
                f"reconstruction {self.reconstruction!r} is none of {', '.join(RECONSTRUCTIONS)}"
            )
        if self.output not in OUTPUTS:
            raise ValueError(f"output {self.output!r} is none of {', '.join(OUTPUTS)}")


class SwinLSTM(nn.Module):
    """Patch embedding, cells at one resolution, reconstruction."""

    def __init__(self, config: SwinLSTMConfig) -> None:
        super().__init__()
        self.config = config
        tokens = token_grid(config)
        self.padded = (tokens[0] * config.patch, tokens[1] * config.patch)
        self.tokens = tokens
        self.embed = PatchEmbedding(config.channels, config.patch, config.width)
        self.cells = nn.ModuleList(
            SwinLSTMCell(config.width, depth, heads, tokens, config.window, config.drop_path)
            for depth, heads in zip(config.depths, config.heads, strict=True)
        )
        self.reconstruct = RECONSTRUCTIONS[config.reconstruction](
            config.width, config.channels, config.patch
        )

    def forward(self, frames: Tensor, horizon: int) -> Tensor:
        """Returns the outputs of `rollout`: `(b, t - 1 + horizon, c, y, x)` for `(b, t, c, y, x)`."""
        return rollout(self.step, frames, horizon)

    def step(self, frame: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Returns the next frame `(b, c, y, x)` and the state `(h, c)` of every cell."""
        rows, columns = frame.shape[-2:]
        padding = (0, self.padded[1] - columns, 0, self.padded[0] - rows)
        x = self.embed(F.pad(frame, padding))  # b n d
        states: State = []
        for position, cell in enumerate(self.cells):
            x, memory = cell(x, state[position] if state else None)
            states.append((x, memory))
        tokens = x.transpose(1, 2).unflatten(2, self.tokens)  # b d y x
        output = self.reconstruct(tokens)[..., :rows, :columns]
        return OUTPUTS[self.config.output](output), states


class PatchEmbedding(nn.Module):
    """A frame as tokens: one convolution a patch, then LayerNorm."""

    def __init__(self, channels: int, patch: int, width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)
        self.norm = nn.LayerNorm(width)

    def forward(self, frame: Tensor) -> Tensor:
        """Returns `(b, n, d)` for `(b, c, y, x)`."""
        tokens: Tensor = self.norm(self.project(frame).flatten(2).transpose(1, 2))
        return tokens


class SwinLSTMCell(nn.Module):
    """Swin blocks whose last output opens the one gate and is the candidate of an LSTM."""

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        tokens: tuple[int, int],
        window: int,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(
                WindowAttention(width, heads, Windows(tokens, window, shifted=index % 2 == 1)),
                drop_path,
                partnered=index % 2 == 0,
            )
            for index in range(depth)
        )

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """Returns `h_t` and `c_t`, each `(b, n, d)`; the state before the first frame is 0."""
        hidden, memory = state if state else (torch.zeros_like(x), torch.zeros_like(x))
        features = x
        for index, block in enumerate(self.blocks):
            # As published: h_{t-1} meets the first block, x_t again every second one after it.
            features = block(features, hidden if index == 0 else x)
        gate = torch.sigmoid(features)
        memory = gate * (memory + torch.tanh(features))
        return gate * torch.tanh(memory), memory


class SwinBlock(nn.Module):
    """Window attention and MLP, each with LayerNorm before and a residual around."""

    def __init__(self, attention: "WindowAttention", drop_path: float, partnered: bool) -> None:
        super().__init__()
        width = attention.width
        self.norm1 = nn.LayerNorm(width)
        self.reduce = nn.Linear(2 * width, width) if partnered else None
        self.attention = attention
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.drop_path = drop_path

    def forward(self, x: Tensor, partner: Tensor) -> Tensor:
        """Returns `(b, n, d)` for `(b, n, d)`; a block that is not partnered ignores `partner`."""
        z = self.norm1(x)
        if self.reduce is not None:
            z = self.reduce(torch.cat([z, self.norm1(partner)], dim=-1))
        x = x + self._drop(self.attention(z))
        return x + self._drop(self.mlp(self.norm2(x)))

    def _drop(self, branch: Tensor) -> Tensor:
        """Returns the branch, or while training 0 for some samples and more for the others."""
        if not self.training or self.drop_path == 0:
            return branch
        keep = 1 - self.drop_path
        kept = branch.new_empty(branch.shape[0], 1, 1).bernoulli_(keep)
        return branch * kept / keep


class WindowAttention(nn.Module):
    """Self-attention among the tokens of a window, with a learned bias by relative position."""

    order: Tensor
    inverse: Tensor
    pair: Tensor
    mask: Tensor

    def __init__(self, width: int, heads: int, windows: "Windows") -> None:
        super().__init__()
        self.width, self.heads, self.windows = width, heads, windows
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(windows.relative_positions, heads))
        nn.init.trunc_normal_(self.bias, std=0.02)
        self.register_buffer("order", windows.order, persistent=False)
        self.register_buffer("inverse", windows.order.argsort(), persistent=False)
        self.register_buffer("pair", windows.pair, persistent=False)
        self.register_buffer("mask", windows.mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns `(b, n, d)` for `(b, n, d)`."""
        b, n, d = x.shape
        k, w = len(self.windows.mask), self.windows.size
        in_windows = x[:, self.order].view(b * k, w, d)
        q, key, value = (
            self.qkv(in_windows).view(b * k, w, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        )
        bias = self.bias[self.pair].permute(2, 0, 1)  # h w w
        scores = (bias + self.mask[:, None]).repeat(b, 1, 1, 1)  # b*k h w w
        attended = F.scaled_dot_product_attention(q, key, value, attn_mask=scores)
        output: Tensor = self.project(attended.transpose(1, 2).reshape(b, n, d))
        return output[:, self.inverse]


class Windows:
    """How the tokens of a grid fall into windows, shifted by half a window or not.

    A window is never larger than the grid, and an axis that holds a single window is not shifted.

    Attributes:
        size: w, tokens of a window.
        order: `(n,)` tokens window by window.
        pair: `(w, w)` index of each pair's relative position.
        mask: `(k, w, w)` 0 where two tokens may see each other, else -100 (the published value).
        relative_positions: how many there are, the length of the bias table.
    """

    def __init__(self, tokens: tuple[int, int], window: int, shifted: bool) -> None:
        sides = (min(window, tokens[0]), min(window, tokens[1]))
        shifts = [
            side // 2 if shifted and n > side else 0 for n, side in zip(tokens, sides, strict=True)
        ]
        self.size = sides[0] * sides[1]
        index = torch.arange(tokens[0] * tokens[1]).view(tokens)
        rolled = torch.roll(index, (-shifts[0], -shifts[1]), dims=(0, 1))
        self.order = _cut(rolled, sides).flatten()
        self.pair = _relative_positions(sides)
        self.relative_positions = (2 * sides[0] - 1) * (2 * sides[1] - 1)
        rows, columns = (
            _regions(n, side, s) for n, side, s in zip(tokens, sides, shifts, strict=True)
        )
        regions = _cut(rows[:, None] * 3 + columns[None, :], sides)  # k w
        self.mask = torch.where(regions[:, :, None] == regions[:, None, :], 0.0, -100.0)


def token_grid(config: SwinLSTMConfig) -> tuple[int, int]:
    """Returns rows and columns of tokens, padded so that patches and windows fit."""

    def along(cells: int) -> int:
        tokens = -(-cells // config.patch)
        return tokens if tokens <= config.window else -(-tokens // config.window) * config.window

    return along(config.grid[0]), along(config.grid[1])


def _cut(tokens: Tensor, sides: tuple[int, int]) -> Tensor:
    """Returns `(k, w)` for a grid of values `(y, x)`."""
    rows, columns = tokens.shape
    blocks = tokens.view(rows // sides[0], sides[0], columns // sides[1], sides[1])
    return blocks.transpose(1, 2).reshape(-1, sides[0] * sides[1])


def _regions(n: int, side: int, shift: int) -> Tensor:
    """Returns which of the parts, that a shift brings together but are no neighbours, a place is in."""
    region = torch.zeros(n, dtype=torch.long)
    if shift:
        region[n - side : n - shift] = 1
        region[n - shift :] = 2
    return region


def _relative_positions(sides: tuple[int, int]) -> Tensor:
    """Returns `(w, w)`: the row of the bias table for each pair of places in a window."""
    y, x = torch.meshgrid(torch.arange(sides[0]), torch.arange(sides[1]), indexing="ij")
    dy = y.flatten()[:, None] - y.flatten()[None, :] + sides[0] - 1
    dx = x.flatten()[:, None] - x.flatten()[None, :] + sides[1] - 1
    return dy * (2 * sides[1] - 1) + dx
