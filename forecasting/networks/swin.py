"""Swin Transformer: tokens of a frame, blocks, and attention within shifted windows.

Source: Liu et al.: Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, ICCV
2021, arXiv 2103.14030; the partner of a block is SwinLSTM's, arXiv 2308.09891. Sizes at line ends:
b batch, c channels, n tokens, d width, h heads, w tokens of a window, k windows.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forecasting.networks.layers import add_branch, attend, reorder


class PatchEmbedding(nn.Module):
    """A frame as tokens: one convolution a patch, then LayerNorm."""

    def __init__(self, channels: int, patch: int, width: int, tokens: tuple[int, int]) -> None:
        super().__init__()
        self.cells = (tokens[0] * patch, tokens[1] * patch)
        self.project = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)
        self.norm = nn.LayerNorm(width)

    def forward(self, frame: Tensor) -> Tensor:
        """Returns `(b, n, d)` for `(b, c, y, x)`, with zeros beyond the last row and column."""
        rows, columns = frame.shape[-2:]
        padded = F.pad(frame, (0, self.cells[1] - columns, 0, self.cells[0] - rows))
        tokens: Tensor = self.norm(self.project(padded).flatten(2).transpose(1, 2))
        return tokens


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

    def forward(self, x: Tensor, scores: Tensor, joint: Tensor | None = None) -> Tensor:
        """Returns `(b, n, d)` for `(b, n, d)`, tokens window by window.

        Args:
            x: tokens.
            scores: of `WindowAttention.scores`.
            joint: what attention takes in place of the norm of x: that joined with a partner's.
        """
        z = self.norm1(x) if joint is None else joint
        x = add_branch(x, self.attention(z, scores), self.drop_path, self.training)
        return add_branch(x, self.mlp(self.norm2(x)), self.drop_path, self.training)

    def join(self) -> "Join | None":
        """Returns the linear map that joins this block with a partner, None where it takes none."""
        if self.reduce is None:
            return None
        own, partner = self.reduce.weight.chunk(2, dim=1)  # d d
        bias = self.reduce.bias + (own + partner) @ self.norm1.bias
        return Join(own * self.norm1.weight, partner * self.norm1.weight, bias)


class Join(NamedTuple):
    """The linear map of `x` and its partner with the affine part of their LayerNorm in it.

    Attributes:
        own: `(d, d)` for x, normalized.
        partner: `(d, d)` for the partner, normalized.
        bias: `(d,)`.
    """

    own: Tensor
    partner: Tensor
    bias: Tensor


def normalize(x: Tensor) -> Tensor:
    """Returns tokens of mean 0 and variance 1: LayerNorm without its affine part."""
    return F.layer_norm(x, x.shape[-1:])


class WindowAttention(nn.Module):
    """Self-attention among the tokens of a window, with a learned bias by relative position.

    Tokens stand window by window, those of windows that are not shifted.
    """

    order: Tensor
    inverse: Tensor
    pair: Tensor
    mask: Tensor

    def __init__(self, width: int, heads: int, windows: "AttentionWindows") -> None:
        super().__init__()
        self.width, self.heads, self.windows = width, heads, windows
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(windows.relative_positions, heads))
        nn.init.trunc_normal_(self.bias, std=0.02)
        order = windows.standing.argsort()[windows.order]
        self.shifted = not order.equal(order.sort().values)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("inverse", order.argsort(), persistent=False)
        self.register_buffer("pair", windows.pair, persistent=False)
        self.register_buffer("mask", windows.mask, persistent=False)

    def forward(self, x: Tensor, scores: Tensor) -> Tensor:
        """Returns `(b, n, d)` for `(b, n, d)` and what `scores` returned."""
        standing = reorder(x, self.order, self.inverse) if self.shifted else x
        in_windows = standing.view(-1, self.windows.size, self.width)  # b*k w d
        output: Tensor = self.project(attend(self.qkv(in_windows), scores, self.heads))
        output = output.view(x.shape)
        return reorder(output, self.inverse, self.order) if self.shifted else output

    def scores(self) -> Tensor:
        """Returns what is added to the scores: bias and mask, `(k, h, w, w)`, k 1 without a shift."""
        bias = self.bias[self.pair].permute(2, 0, 1)  # h w w
        return bias + self.mask[:, None] if self.shifted else bias[None]


class AttentionWindows:
    """How the tokens of a grid fall into windows, shifted by half a window or not.

    A window is never larger than the grid, and an axis that holds a single window is not shifted.

    Attributes:
        size: w, tokens of a window.
        order: `(n,)` tokens window by window.
        standing: `(n,)` the same without a shift.
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
        self.standing = _cut(index, sides).flatten()
        self.pair = _relative_positions(sides)
        self.relative_positions = (2 * sides[0] - 1) * (2 * sides[1] - 1)
        rows, columns = (
            _regions(n, side, s) for n, side, s in zip(tokens, sides, shifts, strict=True)
        )
        regions = _cut(rows[:, None] * 3 + columns[None, :], sides)  # k w
        self.mask = torch.where(regions[:, :, None] == regions[:, None, :], 0.0, -100.0)


def token_grid(grid: tuple[int, int], patch: int, window: int, levels: int = 0) -> tuple[int, int]:
    """Returns the fewest rows and columns of tokens on which everything fits.

    Args:
        grid: rows and columns of cells.
        patch: cells along the side of a token.
        window: at every level, an axis holds whole windows, or less than one.
        levels: how often the tokens halve along each axis.
    """

    def fits(tokens: int) -> bool:
        return tokens <= window or tokens % window == 0

    def along(cells: int) -> int:
        merged = 1 << levels
        coarsest = -(-cells // (patch * merged))
        while not all(fits(coarsest << level) for level in range(levels + 1)):
            coarsest += 1
        return coarsest * merged

    return along(grid[0]), along(grid[1])


def _cut(tokens: Tensor, sides: tuple[int, int]) -> Tensor:
    """Returns `(k, w)` for a grid of values `(y, x)`."""
    rows, columns = tokens.shape
    blocks = tokens.view(rows // sides[0], sides[0], columns // sides[1], sides[1])
    return blocks.transpose(1, 2).reshape(-1, sides[0] * sides[1])


def _regions(n: int, side: int, shift: int) -> Tensor:
    """Returns which of the parts, that a shift brings together but are no neighbors, a place is in."""
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
