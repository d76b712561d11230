"""Transforms: what a camera does to its pictures, at a chosen strength, for tests of robustness.

Each takes the past `(b, t, c, y, x)` and the future `(b, h, c, y, x)` of some windows in [0, 1], a
strength (0 changes nothing) and a generator on the CPU of all chance, and returns both changed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from forecasting.training.batches import WindowSource

Windows = tuple[Tensor, Tensor]


def camera_motion(
    past: Tensor, future: Tensor, strength: float, generator: torch.Generator
) -> Windows:
    """Moves the camera steadily, `strength` cells a frame in any direction; dark comes in."""
    frames = torch.cat([past, future], dim=1)
    b, t, c, rows, columns = frames.shape
    angle = torch.rand(b, generator=generator).to(frames) * 2 * math.pi
    # Where the newest frame of the past is in place, and the field of grid_sample is 2 wide.
    way = (torch.arange(t, device=frames.device) - (past.shape[1] - 1)) * strength
    across = way * angle.cos()[:, None] * 2 / columns
    down = way * angle.sin()[:, None] * 2 / rows
    theta = torch.zeros(b * t, 2, 3, device=frames.device)
    theta[:, 0, 0] = theta[:, 1, 1] = 1
    theta[:, 0, 2], theta[:, 1, 2] = across.flatten(), down.flatten()
    field = F.affine_grid(theta, [b * t, c, rows, columns], align_corners=False)
    moved = F.grid_sample(frames.flatten(0, 1), field, align_corners=False).view_as(frames)
    return moved[:, : past.shape[1]], moved[:, past.shape[1] :]


def occlusion(past: Tensor, future: Tensor, strength: float, generator: torch.Generator) -> Windows:
    """Hides a square whose side is `strength` of the frame's, anywhere, in the past alone."""
    rows, columns = past.shape[-2:]
    high, wide = round(rows * strength), round(columns * strength)
    corner = torch.rand(2, len(past), 1, generator=generator).to(past)
    top = (corner[0] * (rows - high + 1)).floor()
    left = (corner[1] * (columns - wide + 1)).floor()
    y, x = torch.arange(rows, device=past.device), torch.arange(columns, device=past.device)
    hidden = ((y >= top) & (y < top + high))[:, :, None] & ((x >= left) & (x < left + wide))[
        :, None
    ]
    return past.masked_fill(hidden[:, None, None], 0), future


def changing_light(
    past: Tensor, future: Tensor, strength: float, generator: torch.Generator
) -> Windows:
    """Dims or brightens steadily, by `strength` of the first frame's light until the last frame."""
    frames = torch.cat([past, future], dim=1)
    direction = torch.randint(2, (len(past), 1), generator=generator).to(frames) * 2 - 1
    progress = torch.linspace(0, 1, frames.shape[1], device=frames.device)
    light = 1 + direction * strength * progress
    lit = (frames * light[:, :, None, None, None]).clamp(0, 1)
    return lit[:, : past.shape[1]], lit[:, past.shape[1] :]


TRANSFORMS: dict[str, Callable[[Tensor, Tensor, float, torch.Generator], Windows]] = {
    "camera motion": camera_motion,
    "occlusion": occlusion,
    "changing light": changing_light,
}
STRENGTHS: dict[str, tuple[float, ...]] = {
    "camera motion": (0.0, 0.5, 1.0, 2.0, 3.0),
    "occlusion": (0.0, 0.125, 0.25, 0.375, 0.5),
    "changing light": (0.0, 0.2, 0.4, 0.6, 0.8),
}
"""What is measured: cells a frame, part of a side, part of the light."""


@dataclass(frozen=True)
class Transformed:
    """A feed whose windows go through a transform; the same chance each time.

    Attributes:
        windows: as they are.
        transform: key in `TRANSFORMS`.
        strength: of the transform.
        seed: of its chance.
    """

    windows: WindowSource
    transform: str
    strength: float
    seed: int = 0

    def __len__(self) -> int:
        """Returns how many windows there are."""
        return len(self.windows)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the past and the future of some windows, changed; see `WindowSource`."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + int(index[0]))
        past, future, *_ = self.windows.take(index)
        return TRANSFORMS[self.transform](past, future, self.strength, generator)
