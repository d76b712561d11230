"""SwinLSTM-B: Swin Transformer blocks inside a simplified LSTM.

Source: Tang, Li, Zhang, Tang: SwinLSTM: Improving Spatiotemporal Prediction Accuracy using Swin
Transformer and LSTM, ICCV 2023, arXiv 2308.09891. Sizes at line ends: b batch, c channels, n tokens,
d width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from forecasting.models.gates import GATES, Gates
from forecasting.models.network import OUTPUTS, Frames, NetworkConfig, Recurrent
from forecasting.models.reconstruction import RECONSTRUCTIONS
from forecasting.models.swin import PatchEmbedding, SwinBlock, WindowAttention, Windows, token_grid

Memory = tuple[Tensor, Tensor]
"""What a cell keeps from frame to frame: its output `h` and its memory `c`, each `(b, n, d)`."""


@dataclass(frozen=True)
class CellConfig(NetworkConfig):
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
        """Returns two blocks of width 64, on the largest patch that leaves some tokens a side."""
        patch = next((patch for patch in (4, 2) if min(frames.grid) >= 6 * patch), 1)
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
    """Patch embedding, cells at one resolution, reconstruction."""

    def __init__(self, config: SwinLSTMConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = token_grid(config.grid, config.patch, config.window)
        self.embed = PatchEmbedding(config.channels, config.patch, config.width, self.tokens)
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

    def step(self, frame: Tensor, state: list[Memory] | None) -> tuple[Tensor, list[Memory]]:
        """Returns the next frame `(b, c, y, x)` and the state `(h, c)` of every cell."""
        rows, columns = frame.shape[-2:]
        x = self.embed(frame)  # b n d
        states: list[Memory] = []
        for position, cell in enumerate(self.cells):
            x, memory = cell(x, state[position] if state else None)
            states.append((x, memory))
        tokens = x.transpose(1, 2).unflatten(2, self.tokens)  # b d y x
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
                WindowAttention(width, heads, Windows(tokens, window, shifted=index % 2 == 1)),
                drop_path,
                partnered=index % 2 == 0,
            )
            for index, drop_path in enumerate(drop_paths)
        )
        self.gates = Gates(width, gate)

    def forward(self, x: Tensor, state: Memory | None) -> Memory:
        """Returns `h_t` and `c_t`, each `(b, n, d)`; the state before the first frame is 0."""
        hidden, memory = state if state else (torch.zeros_like(x), torch.zeros_like(x))
        features = x
        for index, block in enumerate(self.blocks):
            # As published: h_{t-1} meets the first block, x_t again every second one after it.
            features = block(features, hidden if index == 0 else x)
        into, forget, out = self.gates(features)
        memory = forget * memory + into * torch.tanh(features)
        return out * torch.tanh(memory), memory
