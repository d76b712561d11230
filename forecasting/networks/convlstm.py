"""ConvLSTM: LSTM cells that convolve, one upon another, on frames whose patches became channels.

Source: Shi et al.: Convolutional LSTM Network, NeurIPS 2015, arXiv 1506.04214; the sizes, and a cell
without peepholes and biases, are those of OpenSTL, arXiv 2306.11249. Sizes at line ends: b batch,
c channels, d width.
"""

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forecasting.networks.base import OUTPUTS, Frames, Recurrent, RecurrentConfig

Memory = tuple[Tensor, Tensor]
"""What a cell keeps from frame to frame: its output `h` and its memory `c`, each `(b, d, y, x)`."""

PATCHES = {"taxibj": 2, "moving-mnist": 4, "kth": 2, "human36m": 4}
"""Sides of OpenSTL's patches, by data."""


@dataclass(frozen=True)
class ConvLSTMConfig(RecurrentConfig):
    """Size of a ConvLSTM; the defaults are OpenSTL's for TaxiBJ.

    Attributes:
        grid: any; padded where patches do not fit.
        patch: cells along the side of a patch.
        widths: features of each cell of the stack.
        kernel: patches along the side of a filter, an odd number.
    """

    patch: int = 2
    widths: tuple[int, ...] = (128, 128, 128, 128)
    kernel: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patch < 1:
            raise ValueError(f"a patch of {self.patch} cells holds none")
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths {self.widths} are not one or more, all at least 1")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"kernel {self.kernel} is not odd")

    @classmethod
    def quick(cls, frames: Frames) -> Self:
        """Returns two cells of width 32."""
        patch = 4 if max(frames.grid) > 32 else 2
        return cls.of(frames, output="identity", patch=patch, widths=(32, 32), kernel=3)

    @classmethod
    def paper(cls, frames: Frames) -> Self:
        """Returns OpenSTL's size, which differs from data to data in the patch alone."""
        nearest = 4 if max(frames.grid) > 32 else 2
        return cls.of(frames, output="identity", patch=PATCHES.get(frames.data, nearest))


class ConvLSTM(Recurrent):
    """Patches to channels, cells one upon another, one linear map of each patch back to its cells."""

    def __init__(self, config: ConvLSTMConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels * config.patch**2
        inputs = (channels, *config.widths[:-1])
        self.cells = nn.ModuleList(
            ConvLSTMCell(taken, width, config.kernel)
            for taken, width in zip(inputs, config.widths, strict=True)
        )
        self.project = nn.Conv2d(config.widths[-1], channels, kernel_size=1, bias=False)

    def step(self, frame: Tensor, state: list[Memory] | None) -> tuple[Tensor, list[Memory]]:
        """Returns the next frame `(b, c, y, x)` and the state `(h, c)` of every cell."""
        rows, columns = frame.shape[-2:]
        patch = self.config.patch
        x = F.pixel_unshuffle(F.pad(frame, (0, -columns % patch, 0, -rows % patch)), patch)
        states: list[Memory] = []
        for position, cell in enumerate(self.cells):
            x, memory = cell(x, state[position] if state else None)
            states.append((x, memory))
        output = F.pixel_shuffle(self.project(x), patch)[..., :rows, :columns]
        return OUTPUTS[self.config.output](output), states


class ConvLSTMCell(nn.Module):
    """An LSTM whose four products, of the input and of the last output, are one convolution."""

    def __init__(self, inputs: int, width: int, kernel: int) -> None:
        super().__init__()
        self.width = width
        self.gates = nn.Conv2d(
            inputs + width, 4 * width, kernel_size=kernel, padding=kernel // 2, bias=False
        )

    def forward(self, x: Tensor, state: Memory | None) -> Memory:
        """Returns `h_t` and `c_t`, each `(b, d, y, x)`; the state before the first frame is 0."""
        zero = x.new_zeros(x.shape[0], self.width, *x.shape[-2:])
        hidden, memory = state or (zero, zero)
        into, forget, candidate, out = self.gates(torch.cat([x, hidden], dim=1)).chunk(4, dim=1)
        memory = torch.sigmoid(forget) * memory + torch.sigmoid(into) * torch.tanh(candidate)
        return torch.sigmoid(out) * torch.tanh(memory), memory
