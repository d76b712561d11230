"""Moving digits: sequences of Moving MNIST, drawn all at once on the device that they train on.

Source: Srivastava, Mansimov, Salakhutdinov: Unsupervised Learning of Video Representations using
LSTMs, ICML 2015, arXiv 1502.04681, section 4, and the generator published with it: each digit starts
anywhere, goes in any direction a tenth of its free way a frame, and turns at the walls, which it
touches. Where digits overlap the brighter one is seen.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

STEP = 0.1
"""Way of a digit from frame to frame, as part of the way that it has from wall to wall."""


@dataclass(frozen=True)
class MovingDigits:
    """A feed of sequences that are new in every epoch; chance follows torch's seed.

    Attributes:
        digits: uint8 `(n, y, x)`, on the device of the sequences.
        count: sequences of an epoch.
        history: frames of the past.
        horizon: frames of the future.
        together: digits in a sequence.
        side: cells along the side of a frame.
    """

    digits: Tensor
    count: int
    history: int
    horizon: int
    together: int = 2
    side: int = 64

    def __len__(self) -> int:
        """Returns the sequences of an epoch."""
        return self.count

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the past and the future of `len(index)` new sequences, in [0, 1]."""
        length = self.history + self.horizon
        frames = draw(self.digits, len(index), length, self.together, self.side).float() / 255
        return frames[:, : self.history], frames[:, self.history :]


def draw(
    digits: Tensor,
    count: int,
    length: int,
    together: int = 2,
    side: int = 64,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Returns sequences of moving digits.

    Args:
        digits: uint8 `(n, y, x)`.
        count: number of sequences, b.
        length: frames of a sequence, t.
        together: digits in a sequence.
        side: cells along the side of a frame, more than a digit has.
        generator: of all chance, on the device of `digits`; torch's own if None.

    Returns:
        uint8 `(b, t, 1, side, side)` on the device of `digits`.
    """
    device, high, wide = digits.device, *digits.shape[1:]
    corners = _corners(count * together, length, side - high, side - wide, device, generator)
    chosen = torch.randint(len(digits), (count, together), generator=generator, device=device)
    inside = torch.arange(high, device=device)[:, None] * side + torch.arange(wide, device=device)
    place = (corners[..., 0] * side + corners[..., 1]).view(count, together, length, 1)
    frames = torch.zeros(count, length, side * side, dtype=torch.uint8, device=device)
    for number in range(together):
        digit = digits[chosen[:, number]].flatten(1)[:, None].expand(-1, length, -1)
        alone = torch.zeros_like(frames)
        alone.scatter_(2, place[:, number] + inside.flatten(), digit)
        frames = torch.maximum(frames, alone)
    return frames.view(count, length, 1, side, side)


def _corners(
    count: int, length: int, down: int, right: int, device: torch.device, g: torch.Generator | None
) -> Tensor:
    """Returns the upper left corner of each digit in each frame, `(count, length, 2)` whole cells."""
    place = torch.rand(count, 2, generator=g, device=device)
    angle = torch.rand(count, generator=g, device=device) * 2 * math.pi
    speed = torch.stack([angle.sin(), angle.cos()], dim=1) * STEP
    places = []
    for _ in range(length):
        place = place + speed
        speed = torch.where((place <= 0) | (place >= 1), -speed, speed)
        place = place.clamp(0, 1)
        places.append(place)
    way = torch.tensor([down, right], device=device)
    return (torch.stack(places, dim=1) * way).long()
