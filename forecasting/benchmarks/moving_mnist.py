"""Moving MNIST as a task."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.errors import FlowcastError
from data.video.moving_mnist import SIDE as DIGIT
from data.video.moving_mnist import open_digits, open_test_sequences
from forecasting.benchmarks.config import DatasetConfig
from forecasting.benchmarks.task import Task, cut_sequences, digest_of
from forecasting.networks.base import Frames


@dataclass(frozen=True)
class MovingMnistConfig(DatasetConfig):
    """Sequences of moving digits; those of validation and test are the same in every run.

    Attributes:
        digits: in a sequence.
        side: cells along the side of a frame.
    """

    history: int = 10
    horizon: int = 10
    train: int = 10_000
    validation: int = 1_000
    test: int = 10_000
    digits: int = 2
    side: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.digits < 1:
            raise ValueError(f"digits {self.digits} is less than 1")
        if self.side < DIGIT:
            raise ValueError(f"side {self.side} is less than the {DIGIT} cells of a digit")


def open_moving_mnist(config: MovingMnistConfig, folder: Path, device: torch.device) -> Task:
    """Returns Moving MNIST; it tests on `mnist_test_seq.npy` where the folder has it.

    Training digits are the first 55,000 of MNIST, validation the last 5,000, test those of its
    test set.
    """
    digits = open_digits(folder)
    length = config.history + config.horizon
    kept = 5_000 if len(digits.train) > 10_000 else max(len(digits.train) // 10, 1)
    train = torch.from_numpy(digits.train[:-kept]).to(device)
    feed = MovingDigits(
        train, config.train, config.history, config.horizon, config.digits, config.side
    )

    def fixed(source: np.ndarray, count: int, seed: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(seed)
        drawn = draw(torch.from_numpy(source), count, length, config.digits, config.side, generator)
        return drawn.numpy()

    validation = fixed(digits.train[-kept:], config.validation, 1)
    published = folder / "mnist_test_seq.npy"
    if published.is_file():
        test = open_test_sequences(published)[: config.test]
        if test.shape[1] < length or test.shape[-1] != config.side or config.digits != 2:
            raise FlowcastError(
                f"{published} has sequences of {test.shape[1]} frames of 2 digits on {test.shape[-1]} cells, "
                f"not {length} of {config.digits} on {config.side}; move it away to test on drawn ones"
            )
        note = f"tested on {published.name}"
    else:
        test = fixed(digits.test, config.test, 2)
        note = "tested on sequences drawn from MNIST's test digits, not on the authors' own"
    frames = Frames(
        1, (config.side, config.side), config.history, config.horizon, data="moving-mnist"
    )
    return Task(
        frames,
        feed,
        cut_sequences(validation, np.arange(len(validation)), frames, device),
        cut_sequences(test, np.arange(len(test)), frames, device),
        digest_of(digits.train, validation, test),
        (note,),
    )


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
