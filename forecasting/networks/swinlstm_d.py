"""SwinLSTM-D: SwinLSTM cells on tokens that are merged on the way down and expanded on the way up.

Source: Tang, Li, Zhang, Tang: SwinLSTM, ICCV 2023, arXiv 2308.09891, section 3.3. Sizes at line ends:
b batch, c channels, n tokens, d width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from forecasting.networks.base import OUTPUTS, Frames, Recurrent
from forecasting.networks.layers import reorder
from forecasting.networks.swin import AttentionWindows, PatchEmbedding, token_grid
from forecasting.networks.swinlstm_b import CellConfig, CellState, SwinLSTMCell, check_cells
from forecasting.networks.swinlstm_parts import RECONSTRUCTIONS


@dataclass(frozen=True)
class SwinLSTMDConfig(CellConfig):
    """Size of a SwinLSTM-D; the defaults are the paper's for Moving MNIST.

    All four lists are in the order in which a frame meets the cells: down from the finest tokens,
    then up from the coarsest. The authors write the last two the other way round, (6, 2) and (4, 8).

    Attributes:
        down_depths: blocks of the cell at each level, of width d, 2d, 4d ...
        down_heads: attention heads of each.
        up_depths: blocks of the cell at each level, of width ... 4d, 2d.
        up_heads: attention heads of each.
        drop_path: at the coarsest tokens; it rises from 0 at the first block and falls to 0 again.
    """

    down_depths: tuple[int, ...] = (2, 6)
    down_heads: tuple[int, ...] = (4, 8)
    up_depths: tuple[int, ...] = (2, 6)
    up_heads: tuple[int, ...] = (8, 4)

    def __post_init__(self) -> None:
        super().__post_init__()
        levels = len(self.down_depths)
        if len(self.up_depths) != levels:
            raise ValueError(f"{levels} levels down but {len(self.up_depths)} up")
        check_cells(self.down_depths, self.down_heads, self.widths[:levels])
        check_cells(self.up_depths, self.up_heads, self.widths[:0:-1])

    @property
    def widths(self) -> tuple[int, ...]:
        """Features of a token at every level, from the finest tokens to the coarsest."""
        return tuple(self.width * 2**level for level in range(len(self.down_depths) + 1))

    @classmethod
    def quick(cls, frames: Frames) -> Self:
        """Returns two levels of two blocks each, of width 32 at the finest tokens."""
        patch = 4 if min(frames.grid) >= 24 else 2
        depths = {"down_depths": (2, 2), "up_depths": (2, 2)}
        heads = {"down_heads": (2, 4), "up_heads": (4, 2)}
        return cls.of(frames, patch=patch, width=32, **depths, **heads)

    @classmethod
    def paper(cls, frames: Frames) -> Self:
        """Returns the size published for Moving MNIST; there is no other."""
        return cls.of(frames)


class SwinLSTMD(Recurrent):
    """Patch embedding, levels down, levels up, reconstruction; nothing passes beside the bottom.

    Between embedding and reconstruction the tokens stand window by window.
    """

    order: Tensor
    inverse: Tensor

    def __init__(self, config: SwinLSTMDConfig) -> None:
        super().__init__()
        self.config = config
        levels = len(config.down_depths)
        self.tokens = token_grid(config.grid, config.patch, config.window, levels)
        rising = drop_paths(config.drop_path, config.down_depths)
        falling = drop_paths(config.drop_path, config.up_depths[::-1])

        def cell(level: int, heads: int, drops: Sequence[float]) -> SwinLSTMCell:
            tokens = (self.tokens[0] // 2**level, self.tokens[1] // 2**level)
            width = config.widths[level]
            return SwinLSTMCell(width, heads, tokens, config.window, drops, config.gate)

        self.embed = PatchEmbedding(config.channels, config.patch, config.width, self.tokens)
        order = AttentionWindows(self.tokens, config.window, shifted=False).order
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("inverse", order.argsort(), persistent=False)
        squares = [
            Squares((self.tokens[0] >> level, self.tokens[1] >> level), config.window)
            for level in range(levels)
        ]
        self.down = nn.ModuleList(
            Level(cell(level, heads, rising[level]), PatchMerging(config.widths[level], at))
            for level, (heads, at) in enumerate(zip(config.down_heads, squares, strict=True))
        )
        self.up = nn.ModuleList(
            Level(
                cell(level, heads, falling[level - 1][::-1]),
                PatchExpanding(config.widths[level], squares[level - 1]),
            )
            for level, heads in zip(range(levels, 0, -1), config.up_heads, strict=True)
        )
        self.reconstruct = RECONSTRUCTIONS[config.reconstruction](
            config.width, config.channels, config.patch
        )

    def step(self, frame: Tensor, state: list[CellState] | None) -> tuple[Tensor, list[CellState]]:
        """Returns the next frame `(b, c, y, x)` and the state of every cell."""
        rows, columns = frame.shape[-2:]
        x = reorder(self.embed(frame), self.order, self.inverse)  # b n d
        states: list[CellState] = []
        for position, level in enumerate([*self.down, *self.up]):
            x, memory = level(x, state[position] if state else None)
            states.append(memory)
        in_rows = reorder(x, self.inverse, self.order)
        tokens = in_rows.transpose(1, 2).unflatten(2, self.tokens)  # b d y x
        output = self.reconstruct(tokens)[..., :rows, :columns]
        return OUTPUTS[self.config.output](output), states


def drop_paths(rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Returns for each cell the probability of stochastic depth in its blocks: from 0 up to `rate`."""
    rates = torch.linspace(0, rate, sum(depths), dtype=torch.float64, device="cpu")
    return [part.tolist() for part in rates.split(list(depths))]


class Level(nn.Module):
    """A cell, and what its output passes on the way to the next level."""

    def __init__(self, cell: SwinLSTMCell, resize: "PatchMerging | PatchExpanding") -> None:
        super().__init__()
        self.cell = cell
        self.resize = resize

    def forward(self, x: Tensor, state: CellState | None) -> tuple[Tensor, CellState]:
        """Returns the tokens for the next level, `(b, n, d)` as `x` is, and the cell's state."""
        made: CellState = self.cell(x, state)
        return self.resize(made.hidden), made


class Squares:
    """Where the tokens of a grid, window by window, stand if every four neighbors lie together.

    Attributes:
        order: `(n,)` the tokens square by square, the squares window by window on a grid of half the
            rows and columns; within a square row by row.
        inverse: `(n,)` the order that undoes it.
    """

    def __init__(self, tokens: tuple[int, int], window: int) -> None:
        half = (tokens[0] // 2, tokens[1] // 2)
        places = AttentionWindows(tokens, window, shifted=False).order.argsort().view(tokens)
        squares = places.view(half[0], 2, half[1], 2).transpose(1, 2).reshape(-1, 4)
        self.order = squares[AttentionWindows(half, window, shifted=False).order].flatten()
        self.inverse = self.order.argsort()


class PatchMerging(nn.Module):
    """Four neighboring tokens become one of twice their width (Swin, arXiv 2103.14030, 3.1)."""

    order: Tensor
    inverse: Tensor

    def __init__(self, width: int, squares: Squares) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduce = nn.Linear(4 * width, 2 * width, bias=False)
        # As published: down the first column of the square, then down the second.
        order = squares.order.view(-1, 2, 2).transpose(1, 2).flatten()
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("inverse", order.argsort(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns `(b, n / 4, 2d)` for `(b, n, d)`."""
        squares = reorder(x, self.order, self.inverse).unflatten(1, (-1, 4)).flatten(2)
        merged: Tensor = self.reduce(self.norm(squares))
        return merged


class PatchExpanding(nn.Module):
    """One token becomes four of half its width."""

    order: Tensor
    inverse: Tensor

    def __init__(self, width: int, squares: Squares) -> None:
        super().__init__()
        self.expand = nn.Linear(width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(width // 2)
        # As published: along the first row of the square, then along the second.
        self.register_buffer("order", squares.inverse, persistent=False)
        self.register_buffer("inverse", squares.order, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns `(b, 4n, d / 2)` for `(b, n, d)`."""
        squares = self.expand(x).unflatten(2, (4, -1)).flatten(1, 2)
        expanded: Tensor = self.norm(reorder(squares, self.order, self.inverse))
        return expanded
