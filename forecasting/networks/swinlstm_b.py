"""SwinLSTM-B: Swin Transformer blocks inside a simplified LSTM.

Source: Tang, Li, Zhang, Tang: SwinLSTM: Improving Spatiotemporal Prediction Accuracy using Swin
Transformer and LSTM, ICCV 2023, arXiv 2308.09891. Sizes at line ends: b batch, c channels, n tokens,
d width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forecasting.networks.base import OUTPUTS, Frames, Recurrent, RecurrentConfig
from forecasting.networks.layers import reorder
from forecasting.networks.swin import (
    AttentionWindows,
    PatchEmbedding,
    SwinBlock,
    WindowAttention,
    normalize,
    token_grid,
)
from forecasting.networks.swinlstm_parts import GATES, RECONSTRUCTIONS, Gates


class Constants(NamedTuple):
    """What the blocks of a cell compute from their weights alone, once for a whole rollout.

    Attributes:
        scores: of the attention of every block, `(k, h, w, w)`.
        own: for every even block, `(d, d)`: what it takes of its partner that is not x_t.
        weight: for all even blocks at once, `(m * d, d)`: what they take of x_t.
        bias: of the same, `(m * d,)`.
    """

    scores: tuple[Tensor, ...]
    own: tuple[Tensor, ...]
    weight: Tensor
    bias: Tensor


class CellState(NamedTuple):
    """What a cell keeps from frame to frame; tokens stand window by window.

    Attributes:
        hidden: its output h, `(b, n, d)`.
        memory: c, `(b, n, d)`, in float32.
        constants: of its blocks.
    """

    hidden: Tensor
    memory: Tensor
    constants: Constants


@dataclass(frozen=True)
class CellConfig(RecurrentConfig):
    """What SwinLSTM-B and -D have in common.

    Attributes:
        grid: any; padded where patches or windows do not fit.
        patch: cells along the side of a token, a power of two.
        width: d, features of a token.
        window: tokens along the side of an attention window.
        drop_path: probability of stochastic depth.
        reconstruction: key in `RECONSTRUCTIONS`.
        gate: key in `GATES`; `fused` is the paper's.
    """

    patch: int = 2
    width: int = 128
    window: int = 4
    drop_path: float = 0.1
    reconstruction: str = "transposed"
    gate: str = "fused"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patch < 1 or self.patch & (self.patch - 1):
            raise ValueError(f"patch {self.patch} is not a power of two")
        if self.width < 1:
            raise ValueError(f"a token of {self.width} features holds none")
        if self.window < 1:
            raise ValueError(f"a window of {self.window} tokens holds none")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path {self.drop_path} is no probability below 1")
        if self.reconstruction not in RECONSTRUCTIONS:
            raise ValueError(
                f"reconstruction {self.reconstruction!r} is none of {', '.join(RECONSTRUCTIONS)}"
            )
        if self.gate not in GATES:
            raise ValueError(f"gate {self.gate!r} is none of {', '.join(GATES)}")


@dataclass(frozen=True)
class SwinLSTMConfig(CellConfig):
    """Size of a SwinLSTM-B; the defaults are the paper's for TaxiBJ.

    Attributes:
        depths: blocks of each cell; several cells stand one after another at one resolution.
        heads: attention heads of each cell.
        drop_path: the same in every block.
    """

    patch: int = 4
    window: int = 8
    depths: tuple[int, ...] = (12,)
    heads: tuple[int, ...] = (8,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_cells(self.depths, self.heads, [self.width] * len(self.depths))

    @classmethod
    def quick(cls, frames: Frames) -> Self:
        """Returns two blocks of width 64, on the largest patch that leaves 32 tokens."""
        rows, columns = frames.grid
        patch = next((patch for patch in (4, 2) if rows * columns >= 32 * patch**2), 1)
        sizes = {"patch": patch, "width": 64, "window": 8, "depths": (2,), "heads": (4,)}
        return cls.of(frames, **sizes, reconstruction="linear")

    @classmethod
    def paper(cls, frames: Frames) -> Self:
        """Returns the published size: patch 4 and window 8 for 32x32 cells, 2 and 4 for images."""
        if max(frames.grid) > 32:
            return cls.of(frames, patch=2, window=4, heads=(4,))
        return cls.of(frames)


def check_cells(depths: Sequence[int], heads: Sequence[int], widths: Sequence[int]) -> None:
    """Refuses cells that cannot be built.

    Raises:
        ValueError: there are none, one has no blocks, or a width does not divide into its heads.
    """
    if len(depths) != len(heads) or not depths:
        raise ValueError(f"{len(depths)} depths but {len(heads)} heads")
    if min(depths) < 1 or min(heads) < 1:
        raise ValueError(f"depths {tuple(depths)} and heads {tuple(heads)} are not all at least 1")
    for width, count in zip(widths, heads, strict=True):
        if width % count:
            raise ValueError(f"width {width} does not divide into {count} heads")


class SwinLSTM(Recurrent):
    """Patch embedding, cells at one resolution, reconstruction.

    Between embedding and reconstruction the tokens stand window by window.
    """

    order: Tensor
    inverse: Tensor

    def __init__(self, config: SwinLSTMConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = token_grid(config.grid, config.patch, config.window)
        self.embed = PatchEmbedding(config.channels, config.patch, config.width, self.tokens)
        order = AttentionWindows(self.tokens, config.window, shifted=False).order
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("inverse", order.argsort(), persistent=False)
        self.cells = nn.ModuleList(
            SwinLSTMCell(
                config.width,
                heads,
                self.tokens,
                config.window,
                [config.drop_path] * depth,
                config.gate,
            )
            for depth, heads in zip(config.depths, config.heads, strict=True)
        )
        self.reconstruct = RECONSTRUCTIONS[config.reconstruction](
            config.width, config.channels, config.patch
        )

    def step(self, frame: Tensor, state: list[CellState] | None) -> tuple[Tensor, list[CellState]]:
        """Returns the next frame `(b, c, y, x)` and the state of every cell."""
        rows, columns = frame.shape[-2:]
        x = reorder(self.embed(frame), self.order, self.inverse)  # b n d
        states: list[CellState] = []
        for position, cell in enumerate(self.cells):
            states.append(cell(x, state[position] if state else None))
            x = states[-1].hidden
        in_rows = reorder(x, self.inverse, self.order)
        tokens = in_rows.transpose(1, 2).unflatten(2, self.tokens)  # b d y x
        output = self.reconstruct(tokens)[..., :rows, :columns]
        return OUTPUTS[self.config.output](output), states


class SwinLSTMCell(nn.Module):
    """Swin blocks whose last output is the candidate of an LSTM and opens its gates."""

    def __init__(
        self,
        width: int,
        heads: int,
        tokens: tuple[int, int],
        window: int,
        drop_paths: Sequence[float],
        gate: str = "fused",
    ) -> None:
        """Makes a cell of one block for each probability in `drop_paths`."""
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(
                WindowAttention(
                    width, heads, AttentionWindows(tokens, window, shifted=index % 2 == 1)
                ),
                drop_path,
                partnered=index % 2 == 0,
            )
            for index, drop_path in enumerate(drop_paths)
        )
        self.gates = Gates(width, gate)

    def forward(self, x: Tensor, state: CellState | None) -> CellState:
        """Returns the new state, `h_t` in it; the one before the first frame is 0.

        As published, h_{t-1} meets the first block and x_t again every second one after it. Either
        way an even block joins x_t and something else, and all of them take their part of x_t at
        once.
        """
        constants = state.constants if state else self.constants()
        parts = F.linear(normalize(x), constants.weight, constants.bias).chunk(
            len(constants.own), dim=-1
        )
        features = x
        for index, block in enumerate(self.blocks):
            joint = None
            if index % 2 == 0:
                joint = parts[index // 2]
                other = features if index else state.hidden if state else None
                if other is not None:  # 0 before the first frame, and so is its norm
                    joint = joint + F.linear(normalize(other), constants.own[index // 2])
            features = block(features, constants.scores[index], joint)
        into, forget, out = self.gates(features)
        memory = into * torch.tanh(features)
        memory = memory.float() + (forget * state.memory if state else 0)
        return CellState((out * torch.tanh(memory)).to(features.dtype), memory, constants)

    def constants(self) -> Constants:
        """Returns what follows from the weights of the blocks."""
        blocks = [block for block in self.blocks if isinstance(block, SwinBlock)]
        first, *others = (join for block in blocks if (join := block.join()))
        return Constants(
            scores=tuple(block.attention.scores() for block in blocks),
            # The first block is handed x_t and h_{t-1}, the others their features and x_t.
            own=(first.partner, *(join.own for join in others)),
            weight=torch.cat([first.own, *(join.partner for join in others)]),
            bias=torch.cat([join.bias for join in (first, *others)]),
        )
