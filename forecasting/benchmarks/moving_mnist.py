"""Moving MNIST as a task."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from data.errors import FlowcastError
from data.video.moving_mnist import SIDE as DIGIT
from data.video.moving_mnist import open_digits, open_test_sequences
from forecasting.benchmarks.config import DatasetConfig
from forecasting.benchmarks.moving_digits import MovingDigits, draw
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
