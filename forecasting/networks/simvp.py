"""SimVP: convolutions that encode each frame, gated blocks over all frames at once, convolutions back.

Source: Tan, Gao, Li, Li: SimVP: Towards Simple yet Powerful Spatiotemporal Predictive Learning,
arXiv 2211.12509 (version 2, gSTA); sizes as OpenSTL's, arXiv 2306.11249. Sizes at line ends: b batch,
t frames, c channels, f features of a frame, d width.
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forecasting.networks.base import OUTPUTS, Autoregressive, Frames, NetworkConfig, block_by_block
from forecasting.networks.layers import stochastic_depth

SIZES: dict[str, dict[str, Any]] = {
    "taxibj": {},
    "moving-mnist": {"features": 64, "layers": 4, "width": 512, "drop_path": 0.0},
    "kth": {"features": 64, "blocks": 6, "drop_path": 0.2},
    "human36m": {"features": 64, "layers": 4, "drop_path": 0.2},
}
"""OpenSTL's sizes with gSTA, by data, where they differ from TaxiBJ's."""


@dataclass(frozen=True)
class SimVPConfig(NetworkConfig):
    """Size of a SimVP; the defaults are OpenSTL's for TaxiBJ.

    Attributes:
        grid: any; padded where it cannot be halved.
        history: frames that the network sees and makes at once.
        features: of an encoded frame, an even number.
        layers: convolutions that encode a frame, and that decode it; every second one halves
            or doubles the grid.
        width: features of all frames together, in the blocks between the first and the last.
        blocks: gated blocks over all frames, two or more.
        mlp_ratio: hidden features of a block's MLP, by its features.
        drop_path: probability of stochastic depth in the last block; it rises from 0.01.
    """

    features: int = 32
    layers: int = 2
    width: int = 256
    blocks: int = 8
    mlp_ratio: int = 8
    drop_path: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.features < 2 or self.features % 2:
            raise ValueError(f"features {self.features} do not divide into 2 groups")
        if self.layers < 2 or self.layers % 2:
            raise ValueError(f"layers {self.layers} is not 2, 4, 6 ...")
        if self.blocks < 2:
            raise ValueError(f"blocks {self.blocks} is less than 2")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path {self.drop_path} is no probability below 1")

    @classmethod
    def quick(cls, frames: Frames) -> Self:
        """Returns four blocks of width 64 on some 16 x 16 places."""
        layers = next((2 * n for n in (1, 2) if max(frames.grid) <= 16 * 2**n), 6)
        return cls.of(
            frames, output="identity", features=16, layers=layers, width=64, blocks=4, mlp_ratio=4
        )

    @classmethod
    def paper(cls, frames: Frames) -> Self:
        """Returns OpenSTL's size for the data, else that of TaxiBJ or, for images, Moving MNIST."""
        nearest = SIZES["moving-mnist" if max(frames.grid) > 32 else "taxibj"]
        return cls.of(frames, output="identity", **SIZES.get(frames.data, nearest))


class SimVP(Autoregressive):
    """Encoder, translator, decoder; what the first convolution makes also goes to the last one."""

    def __init__(self, config: SimVPConfig) -> None:
        super().__init__()
        self.config = config
        f = config.features
        strides = [1, 2] * (config.layers // 2)
        self.first = convolution(config.channels, f)
        self.encode = nn.Sequential(*(convolution(f, f, stride) for stride in strides[1:]))
        self.translate = Translator(config)
        self.decode = nn.Sequential(
            *(expansion(f) if stride == 2 else convolution(f, f) for stride in strides[:0:-1])
        )
        self.last = convolution(f, f)
        self.readout = nn.Conv2d(f, config.channels, kernel_size=1)

    def forward(self, frames: Tensor, horizon: int) -> Tensor:
        """Returns `(b, horizon, c, y, x)` for `(b, t, c, y, x)`, t being the history."""
        return block_by_block(self._following, frames, horizon)

    def _following(self, frames: Tensor) -> Tensor:
        """Returns the t frames that follow the t given."""
        (b, t), (rows, columns) = frames.shape[:2], frames.shape[-2:]
        side = 2 ** (self.config.layers // 2)
        padded = F.pad(frames, (0, -columns % side, 0, -rows % side)).flatten(0, 1)
        early = self.first(padded)  # b*t f y x
        encoded = self.encode(early).unflatten(0, (b, t)).flatten(1, 2)  # b t*f y/side x/side
        later = self.translate(encoded).unflatten(1, (t, -1)).flatten(0, 1)
        output = self.readout(self.last(self.decode(later) + early))
        made = OUTPUTS[self.config.output](output.unflatten(0, (b, t))[..., :rows, :columns])
        return self.to_frames(made, frames[:, -1:])


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Returns a 3x3 convolution with group norm and SiLU."""
    return _normalised(nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1), outputs)


def expansion(features: int) -> nn.Sequential:
    """Returns a 3x3 convolution, with group norm and SiLU, that doubles rows and columns."""
    spread = nn.Conv2d(features, 4 * features, kernel_size=3, padding=1)
    return _normalised(spread, features, nn.PixelShuffle(2))


def _normalised(product: nn.Conv2d, features: int, *between: nn.Module) -> nn.Sequential:
    nn.init.trunc_normal_(product.weight, std=0.02)
    _no_bias(product)
    return nn.Sequential(product, *between, nn.GroupNorm(2, features), nn.SiLU())


def _no_bias(product: nn.Conv2d) -> None:
    if product.bias is not None:
        nn.init.zeros_(product.bias)


class Translator(nn.Sequential):
    """Gated blocks on the features of all frames as channels, of another width in between."""

    def __init__(self, config: SimVPConfig) -> None:
        outside = config.history * config.features
        inputs = [outside] + [config.width] * (config.blocks - 1)
        outputs = [*inputs[1:], outside]
        # As published it does not rise from 0; here there is none at all where none is asked for.
        least, most = min(0.01, config.drop_path), config.drop_path
        drops = [least + (most - least) * n / (config.blocks - 1) for n in range(config.blocks)]
        layers: list[nn.Module] = []
        for taken, made, drop in zip(inputs, outputs, drops, strict=True):
            layers.append(GatedBlock(taken, config.mlp_ratio, drop))
            if taken != made:
                layers.append(nn.Conv2d(taken, made, kernel_size=1))
        super().__init__(*layers)


class GatedBlock(nn.Module):
    """Gated attention and MLP, each with batch norm before, a scale after and a residual around."""

    def __init__(self, width: int, mlp_ratio: int, drop_path: float) -> None:
        super().__init__()
        hidden = mlp_ratio * width
        self.norm1 = nn.BatchNorm2d(width)
        self.attention = GatedAttention(width)
        self.scale1 = nn.Parameter(torch.full((width, 1, 1), 0.01))
        self.norm2 = nn.BatchNorm2d(width)
        self.mlp = nn.Sequential(
            nn.Conv2d(width, hidden, kernel_size=1),
            nn.Conv2d(hidden, hidden, kernel_size=3, padding=1, groups=hidden),
            nn.GELU(),
            nn.Conv2d(hidden, width, kernel_size=1),
        )
        self.scale2 = nn.Parameter(torch.full((width, 1, 1), 0.01))
        self.drop_path = drop_path
        self.apply(_spread_by_fan_out)

    def forward(self, x: Tensor) -> Tensor:
        """Returns `(b, d, y, x)` for `(b, d, y, x)`."""
        attended = self.scale1 * self.attention(self.norm1(x))
        x = x + stochastic_depth(attended, self.drop_path, self.training)
        mixed = self.scale2 * self.mlp(self.norm2(x))
        return x + stochastic_depth(mixed, self.drop_path, self.training)


def _spread_by_fan_out(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        _no_bias(module)


class GatedAttention(nn.Module):
    """Values and gates from 23x23 places around: a 5x5 filter, then 7x7 of every third place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(width, width, kernel_size=1)
        self.look = nn.Sequential(
            nn.Conv2d(width, width, kernel_size=5, padding=2, groups=width),
            nn.Conv2d(width, width, kernel_size=7, padding=9, dilation=3, groups=width),
            nn.Conv2d(width, 2 * width, kernel_size=1),
        )
        self.leave = nn.Conv2d(width, width, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns `(b, d, y, x)` for `(b, d, y, x)`."""
        values, gates = self.look(F.gelu(self.enter(x))).chunk(2, dim=1)
        output: Tensor = x + self.leave(torch.sigmoid(gates) * values)
        return output
