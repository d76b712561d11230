"""A simulated city as a task."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from data.city import load_city
from data.simulation.simulate import simulate
from forecasting.benchmarks.config import DatasetConfig
from forecasting.benchmarks.task import Task, digest_of, held_back, thinned
from forecasting.networks.base import Frames
from forecasting.training.batches import FrameWindows, cut_windows


@dataclass(frozen=True)
class SimulatedCityConfig(DatasetConfig):
    """A city as `forecast simulate` makes it, half-hourly, scaled by its largest value before the test.

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

    def windows(at: np.ndarray, most: int) -> FrameWindows:
        return cut_windows(scaled, thinned(at, most), config.history, config.horizon, device)

    return Task(
        frames,
        windows(train, config.train),
        windows(validation, config.validation),
        windows(test, config.test),
        digest_of(flow),
        (f"1 stands for {flow[:first].max():g} vehicles",),
    )
