"""Datasets: how each benchmark becomes a task, at its published size or a quick one."""

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch

from data.city import load_city
from data.clips import Clips, starts
from data.errors import FlowcastError
from data.home import home
from data.human36m import open_human36m
from data.kth import open_kth
from data.moving_mnist import SIDE as DIGIT
from data.moving_mnist import open_digits, open_test_sequences
from data.simulate import simulate
from data.taxibj_npz import open_taxibj_npz
from forecasting.feed import Cut, cut
from forecasting.models.network import Frames
from forecasting.moving_digits import MovingDigits, draw
from forecasting.task import Task, held_back, thinned


@dataclass(frozen=True)
class DatasetConfig:
    """What every dataset's configuration holds.

    Attributes:
        history: frames that a network sees.
        horizon: frames that it forecasts.
        train: the most windows of an epoch.
        validation: the most windows to choose the epoch on.
        test: the most windows to test on.
    """

    history: int = 4
    horizon: int = 4
    train: int = 1_000_000
    validation: int = 2_000
    test: int = 1_000_000

    def __post_init__(self) -> None:
        for name in ("history", "horizon", "train", "validation", "test"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is less than 1")

    @classmethod
    def quick(cls) -> Self:
        """Returns a size that two cores train on within minutes."""
        return cls(train=800, validation=100, test=200)

    @classmethod
    def paper(cls) -> Self:
        """Returns the published size."""
        return cls()


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


@dataclass(frozen=True)
class TaxiBJConfig(DatasetConfig):
    """The windows of `dataset.npz`, 4 -> 4 frames of 32x32 cells; nothing to choose but how many."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.history, self.horizon) != (4, 4):
            raise ValueError("dataset.npz holds windows of 4 + 4 frames and no others")


@dataclass(frozen=True)
class ClipsConfig(DatasetConfig):
    """Windows cut from clips.

    Attributes:
        size: cells along the side of a frame.
        every: frames from a window of a clip to the next.
    """

    size: int = 128
    every: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("size", "every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is less than 1")


@dataclass(frozen=True)
class KTHConfig(ClipsConfig):
    """KTH actions: gray frames of persons, 10 -> 20 or 10 -> 40.

    Attributes:
        train_persons: whose clips are for training and validation.
        test_persons: whose clips are for testing.
    """

    history: int = 10
    horizon: int = 20
    every: int = 5
    train_persons: tuple[int, ...] = tuple(range(1, 17))
    test_persons: tuple[int, ...] = tuple(range(17, 26))

    @classmethod
    def quick(cls) -> Self:
        """Returns frames of 64x64, 10 -> 10, a few hundred windows."""
        return cls(size=64, horizon=10, train=400, validation=60, test=100)


@dataclass(frozen=True)
class Human36MConfig(ClipsConfig):
    """Human3.6M: coloured frames, 4 -> 4, 128x128 or 256x256.

    Attributes:
        scenario: of the films, as their names begin.
        middle: part of height and width that is seen; 0.5 crops as the protocol of MIM does.
    """

    scenario: str = "Walking"
    middle: float = 1.0

    @classmethod
    def quick(cls) -> Self:
        """Returns frames of 64x64, a few hundred windows."""
        return cls(size=64, train=400, validation=60, test=100)


@dataclass(frozen=True)
class SimulatedCityConfig(DatasetConfig):
    """A city as `forecast simulate` makes it, half-hourly, scaled by its largest training value.

    Attributes:
        grid: rows and columns.
        weeks: how long; the last sixth is for testing.
        seed: of the city.
    """

    grid: tuple[int, ...] = (32, 32)
    weeks: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.grid) != 2 or min(self.grid) < 1:
            raise ValueError(f"grid {self.grid} is not rows, columns, both 1 or more")

    @classmethod
    def quick(cls) -> Self:
        """Returns twelve weeks, of which an epoch sees every window."""
        return cls(validation=300)


class Dataset(NamedTuple):
    """How a dataset becomes a task: its configuration, and the function that opens its folder."""

    config: type[DatasetConfig]
    open: Callable[[Any, Path, torch.device], Task]


def open_moving_mnist(config: MovingMnistConfig, folder: Path, device: torch.device) -> Task:
    """Returns Moving MNIST; it tests on `mnist_test_seq.npy` where the folder has it.

    Training digits are the first 55,000 of MNIST, validation the last 5,000, test those of its
    test set.
    """
    digits = open_digits(folder)
    length = config.history + config.horizon
    kept = 5_000 if len(digits.train) > 10_000 else len(digits.train) // 10
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
        _whole_sequences(validation, frames, device),
        _whole_sequences(test, frames, device),
        _digest(digits.train, validation, test),
        (note,),
    )


def open_taxibj(config: TaxiBJConfig, folder: Path, device: torch.device) -> Task:
    """Returns the windows of `dataset.npz` in the folder."""
    benchmark = open_taxibj_npz(folder / "dataset.npz")
    frames = Frames(2, (32, 32), config.history, config.horizon, data="taxibj")
    windows = np.concatenate([benchmark.train_past, benchmark.train_future], axis=1)
    test = np.concatenate([benchmark.test_past, benchmark.test_future], axis=1)[: config.test]
    # Neighbouring windows overlap, so the gap is one window's number of windows.
    number = np.arange(len(windows))
    train, validation = held_back(number, windows.shape[1])
    notes = ("the frames of dataset.npz ran backwards and were turned",) * benchmark.reversed
    return Task(
        frames,
        _windows(windows, thinned(train, config.train), frames, device),
        _windows(windows, thinned(validation, config.validation), frames, device),
        _whole_sequences(test, frames, device),
        _digest(windows, test),
        notes,
    )


def open_kth_task(config: KTHConfig, folder: Path, device: torch.device) -> Task:
    """Returns KTH: persons of the training part, of which the last windows validate, and others."""
    size = (config.size, config.size)
    kth = open_kth(folder, home() / "cache", size, config.train_persons, config.test_persons)
    return _clips_task(config, kth.train, kth.test, 1, "kth", device)


def open_human36m_task(config: Human36MConfig, folder: Path, device: torch.device) -> Task:
    """Returns Human3.6M: subjects of the training part, of which the last windows validate."""
    human = open_human36m(
        folder,
        home() / "cache",
        (config.size, config.size),
        scenario=config.scenario,
        middle=config.middle,
    )
    return _clips_task(config, human.train, human.test, 3, "human36m", device)


def open_simulated_city(config: SimulatedCityConfig, folder: Path, device: torch.device) -> Task:
    """Returns a simulated city; nothing is read from the folder."""
    rows, columns = config.grid
    city = dataclasses.replace(load_city("demo"), grid=(rows, columns))
    flow = simulate(city, config.weeks, config.seed).counts
    first = len(flow) - len(flow) // 6  # of the test span
    scaled = flow / flow[:first].max()
    frames = Frames(2, (rows, columns), config.history, config.horizon)
    length = config.history + config.horizon
    train, validation = held_back(np.arange(max(first - length + 1, 0)), length, 1 / 6)
    test = np.arange(first, max(len(flow) - length + 1, first))

    def windows(at: np.ndarray, most: int) -> Cut:
        return cut(scaled, thinned(at, most), config.history, config.horizon, device)

    return Task(
        frames,
        windows(train, config.train),
        windows(validation, config.validation),
        windows(test, config.test),
        _digest(flow),
        (f"1 stands for {flow[:first].max():g} vehicles",),
    )


DATASETS: dict[str, Dataset] = {
    "moving-mnist": Dataset(MovingMnistConfig, open_moving_mnist),
    "taxibj": Dataset(TaxiBJConfig, open_taxibj),
    "kth": Dataset(KTHConfig, open_kth_task),
    "human36m": Dataset(Human36MConfig, open_human36m_task),
    "simulated-city": Dataset(SimulatedCityConfig, open_simulated_city),
}


def _clips_task(
    config: ClipsConfig, train: Clips, test: Clips, channels: int, name: str, device: torch.device
) -> Task:
    grid = (config.size, config.size)
    frames = Frames(channels, grid, config.history, config.horizon, data=name)
    length = config.history + config.horizon
    found = [starts(clips, length, config.every) for clips in (train, test)]
    learn, choose = held_back(found[0], length)

    def windows_of(clips: Clips, at: np.ndarray, most: int) -> Cut:
        return cut(clips.frames, thinned(at, most), config.history, config.horizon, device)

    return Task(
        frames,
        windows_of(train, learn, config.train),
        windows_of(train, choose, config.validation),
        windows_of(test, found[1], config.test),
        _digest(train.frames, test.frames),
        (*train.skipped, *test.skipped),
    )


def _whole_sequences(sequences: np.ndarray, frames: Frames, device: torch.device) -> Cut:
    """Returns sequences `(b, t, c, y, x)` as windows, one each."""
    return _windows(sequences, np.arange(len(sequences)), frames, device)


def _windows(
    sequences: np.ndarray, chosen: np.ndarray, frames: Frames, device: torch.device
) -> Cut:
    """Returns the `chosen` sequences of `(b, t, c, y, x)` as windows that begin with them."""
    flat = sequences.reshape(-1, *sequences.shape[2:])
    return cut(flat, chosen * sequences.shape[1], frames.history, frames.horizon, device)


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(str((array.shape, array.dtype.str)).encode())
        for part in np.array_split(array, max(1, array.nbytes >> 26)):
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
