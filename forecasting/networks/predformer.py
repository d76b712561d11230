"""PredFormer: gated transformer blocks in turn along space and along time, and nothing else.

Source: Tang, Qi, Xie, Li, Ma, Yang: Video Prediction Transformers without Recurrence or Convolution,
arXiv 2410.04733, and facts read off the authors' code. Sizes at line ends: b batch, t frames,
c channels, n places of a frame, d width, h heads.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forecasting.networks.base import OUTPUTS, Autoregressive, Frames, NetworkConfig, block_by_block
from forecasting.networks.layers import stochastic_depth

NO_CHANCE = {"dropout": 0.0, "drop_path": 0.0}
SIZES: dict[str, dict[str, Any]] = {
    "taxibj": {},
    "moving-mnist": {"patch": 8, "order": "tsst", "layers": 6, **NO_CHANCE},
    "kth": {"patch": 8, "order": "tsst", "layers": 3},
    "human36m": {"patch": 8, "order": "tsst", "layers": 3},
}
"""The authors' best sizes, by data, where they differ from TaxiBJ's; KTH's is Human3.6M's."""


@dataclass(frozen=True)
class PredFormerConfig(NetworkConfig):
    """Size of a PredFormer; the defaults are the authors' best for TaxiBJ.

    Attributes:
        grid: any; padded where patches do not fit.
        history: frames that the network sees and makes at once.
        patch: cells along the side of a token.
        width: d, features of a token.
        heads: of attention.
        order: of the blocks in a layer: `s` attends over the places of a frame, `t` over the frames
            of a place. `st` is what the paper calls binary, `sts` triplet, `tsst` quadruplet.
        layers: how often that order is run through.
        mlp_ratio: hidden features of a block's MLP, by its width.
        dropout: probability, after attention and in the MLP.
        drop_path: probability of stochastic depth, the same in every block.
    """

    patch: int = 4
    width: int = 256
    heads: int = 8
    order: str = "sts"
    layers: int = 2
    mlp_ratio: int = 4
    dropout: float = 0.1
    drop_path: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patch < 1:
            raise ValueError(f"a patch of {self.patch} cells holds none")
        if self.heads < 1 or self.width % self.heads:
            raise ValueError(f"width {self.width} does not divide into {self.heads} heads")
        if not self.order or not set(self.order) <= {"s", "t"}:
            raise ValueError(f"order {self.order!r} is not made of s and t")
        if self.layers < 1:
            raise ValueError(f"layers {self.layers} is less than 1")
        if not (0 <= self.dropout < 1 and 0 <= self.drop_path < 1):
            raise ValueError(
                f"dropout {self.dropout} or drop_path {self.drop_path} is no probability below 1"
            )

    @classmethod
    def quick(cls, frames: Frames) -> Self:
        """Returns six blocks of width 64 on some 8 x 8 tokens a frame."""
        patch = next((patch for patch in (16, 8, 4, 2) if max(frames.grid) >= 8 * patch), 1)
        return cls.of(frames, output="identity", patch=patch, width=64, heads=4, **NO_CHANCE)

    @classmethod
    def paper(cls, frames: Frames) -> Self:
        """Returns the authors' size for the data, else that of TaxiBJ or, for images, Moving MNIST."""
        nearest = SIZES["moving-mnist" if max(frames.grid) > 32 else "taxibj"]
        return cls.of(frames, output="identity", **SIZES.get(frames.data, nearest))


class PredFormer(Autoregressive):
    """Linear map of each patch, a fixed code of its time and place, blocks, linear map back."""

    position: Tensor

    def __init__(self, config: PredFormerConfig) -> None:
        super().__init__()
        self.config = config
        cells = config.channels * config.patch**2
        self.tokens = (-(-config.grid[0] // config.patch), -(-config.grid[1] // config.patch))
        places = self.tokens[0] * self.tokens[1]
        code = sinusoids(config.history * places, config.width)
        self.embed = nn.Linear(cells, config.width)
        self.register_buffer(
            "position", code.unflatten(0, (config.history, places)), persistent=False
        )
        self.blocks = nn.ModuleList(
            GatedTransformerBlock(config) for _ in range(config.layers * len(config.order))
        )
        self.norm = nn.LayerNorm(config.width)
        self.project = nn.Linear(config.width, cells)

    def forward(self, frames: Tensor, horizon: int) -> Tensor:
        """Returns `(b, horizon, c, y, x)` for `(b, t, c, y, x)`, t being the history."""
        return block_by_block(self._following, frames, horizon)

    def _following(self, frames: Tensor) -> Tensor:
        """Returns the t frames that follow the t given."""
        rows, columns = frames.shape[-2:]
        patch = self.config.patch
        padded = F.pad(frames, (0, -columns % patch, 0, -rows % patch))
        patches = F.pixel_unshuffle(padded, patch).flatten(3).transpose(2, 3)  # b t n cells
        x = self.embed(patches) + self.position
        for axis, block in zip(self.config.order * self.config.layers, self.blocks, strict=True):
            x = block(x) if axis == "s" else block(x.transpose(1, 2)).transpose(1, 2)
        patches = self.project(self.norm(x)).transpose(2, 3).unflatten(3, self.tokens)
        output = F.pixel_shuffle(patches, patch)[..., :rows, :columns]
        return self.to_frames(OUTPUTS[self.config.output](output), frames[:, -1:])


def sinusoids(positions: int, width: int) -> Tensor:
    """Returns `(positions, width)`: sines and cosines of falling frequency (arXiv 1706.03762, 3.5)."""
    pair = torch.arange(width, dtype=torch.float64) // 2
    angle = torch.arange(positions, dtype=torch.float64)[:, None] / 10_000 ** (2 * pair / width)
    even = torch.arange(width) % 2 == 0
    return torch.where(even, angle.sin(), angle.cos()).float()


class GatedTransformerBlock(nn.Module):
    """Attention and gated MLP, LayerNorm before each and after both, a residual around each."""

    def __init__(self, config: PredFormerConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width)
        self.attention = Attention(config.width, config.heads)
        self.dropout = nn.Dropout(config.dropout)
        self.norm2 = nn.LayerNorm(config.width)
        self.mlp = GatedMLP(config.width, config.mlp_ratio * config.width, config.dropout)
        self.norm = nn.LayerNorm(config.width)
        self.drop_path = config.drop_path
        self.apply(_narrow)

    def forward(self, x: Tensor) -> Tensor:
        """Returns `(b, k, n, d)` for `(b, k, n, d)`; each n tokens see one another."""
        sequences = x.flatten(
            0, 1
        )  # b*k n d: as published, stochastic depth draws for each of them
        attended = self.dropout(self.attention(self.norm1(sequences)))
        sequences = sequences + stochastic_depth(attended, self.drop_path, self.training)
        mixed = self.mlp(self.norm2(sequences))
        sequences = sequences + stochastic_depth(mixed, self.drop_path, self.training)
        output: Tensor = self.norm(sequences)
        return output.view(x.shape)


def _narrow(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class Attention(nn.Module):
    """Self-attention of several heads; queries, keys and values have no bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Returns `(b, n, d)` for `(b, n, d)`."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # b h n d/h
        attended = F.scaled_dot_product_attention(q, k, v)
        output: Tensor = self.project(attended.transpose(1, 2).flatten(2))
        return output


class GatedMLP(nn.Module):
    """SwiGLU, arXiv 2002.05202: one half of the hidden features, through SiLU, gates the other."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden)
        self.value = nn.Linear(width, hidden)
        self.project = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Returns `(b, n, d)` for `(b, n, d)`."""
        hidden = self.dropout(F.silu(self.gate(x)) * self.value(x))
        output: Tensor = self.dropout(self.project(hidden))
        return output
