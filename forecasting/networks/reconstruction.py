"""Reconstruction: from tokens back to the cells of a frame (SwinLSTM, section 3.2 and ablation).

Each takes features `(b, d, y / P, x / P)` for patch `P`, a power of two, and returns `(b, c, y, x)`
without bounds.
"""

from collections.abc import Callable

from torch import nn


def transposed(width: int, channels: int, patch: int) -> nn.Sequential:
    """Returns transposed convolutions, each doubling the grid; the paper's head at patch 2."""
    layers: list[nn.Module] = []
    while patch > 2:
        layers += [_doubling(width, width), nn.GroupNorm(2, width), nn.LeakyReLU(0.2)]
        patch //= 2
    if patch == 2:
        layers.append(_doubling(width, channels))
    else:
        layers.append(nn.ConvTranspose2d(width, channels, kernel_size=3, padding=1))
    return nn.Sequential(*layers)


def bilinear(width: int, channels: int, patch: int) -> nn.Sequential:
    """Returns bilinear upsampling followed by one convolution."""
    return nn.Sequential(
        nn.Upsample(scale_factor=patch, mode="bilinear", align_corners=False),
        nn.Conv2d(width, channels, kernel_size=3, padding=1),
    )


def linear(width: int, channels: int, patch: int) -> nn.Sequential:
    """Returns a linear projection of each token to the cells of its patch."""
    return nn.Sequential(
        nn.Conv2d(width, channels * patch * patch, kernel_size=1), nn.PixelShuffle(patch)
    )


def _doubling(width: int, channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(width, channels, kernel_size=3, stride=2, padding=1, output_padding=1)


RECONSTRUCTIONS: dict[str, Callable[[int, int, int], nn.Sequential]] = {
    "transposed": transposed,
    "bilinear": bilinear,
    "linear": linear,
}
