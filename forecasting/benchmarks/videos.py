"""Clips of KTH and of Human3.6M as tasks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from data.paths import clips_cache
from data.video.clips import Clips, starts
from data.video.human36m import open_human36m
from data.video.kth import open_kth
from forecasting.benchmarks.config import DatasetConfig
from forecasting.benchmarks.task import Task, digest_of, held_back, thinned
from forecasting.networks.base import Frames
from forecasting.training.batches import FrameWindows, cut_windows


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
    """Human3.6M: colored frames, 4 -> 4, 128x128 or 256x256.

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


def open_kth_task(config: KTHConfig, folder: Path, device: torch.device) -> Task:
    """Returns KTH: persons of the training part, of which the last windows validate, and others."""
    size = (config.size, config.size)
    kth = open_kth(folder, clips_cache(), size, config.train_persons, config.test_persons)
    return _clips_task(config, kth.train, kth.test, 1, "kth", device)


def open_human36m_task(config: Human36MConfig, folder: Path, device: torch.device) -> Task:
    """Returns Human3.6M: subjects of the training part, of which the last windows validate."""
    human = open_human36m(
        folder,
        clips_cache(),
        (config.size, config.size),
        scenario=config.scenario,
        middle=config.middle,
    )
    return _clips_task(config, human.train, human.test, 3, "human36m", device)


def _clips_task(
    config: ClipsConfig, train: Clips, test: Clips, channels: int, name: str, device: torch.device
) -> Task:
    grid = (config.size, config.size)
    frames = Frames(channels, grid, config.history, config.horizon, data=name)
    length = config.history + config.horizon
    found = [starts(clips, length, config.every) for clips in (train, test)]
    learn, choose = held_back(found[0], length)

    def windows_of(clips: Clips, at: np.ndarray, most: int) -> FrameWindows:
        return cut_windows(clips.frames, thinned(at, most), config.history, config.horizon, device)

    return Task(
        frames,
        windows_of(train, learn, config.train),
        windows_of(train, choose, config.validation),
        windows_of(test, found[1], config.test),
        digest_of(train.frames, test.frames),
        (*train.skipped, *test.skipped),
    )
