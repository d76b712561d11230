"""Gates of a SwinLSTM cell: the paper's single one, and those of an LSTM that it replaces."""

from collections.abc import Callable

from torch import Tensor, nn

GATES: dict[str, tuple[int, int, int]] = {
    "fused": (0, 0, 0),
    "separate": (0, 1, 2),
    "input+forget": (0, 0, 1),
    "forget+output": (0, 1, 1),
    "input+output": (0, 1, 0),
}
"""For each name, which gate serves as the input, the forget and the output gate: equal numbers share."""


class Gates(nn.Module):
    """Input, forget and output gate, some of them one and the same.

    A single gate is the sigmoid of the features (SwinLSTM, arXiv 2308.09891, section 3.2), without
    parameters; where there are several, each is the sigmoid of a linear map of its own.
    """

    def __init__(self, width: int, kind: str) -> None:
        super().__init__()
        self.roles = GATES[kind]
        distinct = len(set(self.roles))
        self.projections = nn.ModuleList(
            nn.Identity() if distinct == 1 else nn.Linear(width, width) for _ in range(distinct)
        )

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns input, forget and output gate, each `(b, n, d)` in (0, 1)."""
        gates = [project(features).sigmoid() for project in self.projections]
        into, forget, out = self.roles
        return gates[into], gates[forget], gates[out]


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
