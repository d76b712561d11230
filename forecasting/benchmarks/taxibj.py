"""The windows of TaxiBJ's `dataset.npz` as a task."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from data.video.taxibj_npz import open_taxibj_npz
from forecasting.benchmarks.config import DatasetConfig
from forecasting.benchmarks.task import Task, cut_sequences, digest_of, held_back, thinned
from forecasting.networks.base import Frames


@dataclass(frozen=True)
class TaxiBJConfig(DatasetConfig):
    """The windows of `dataset.npz`, 4 -> 4 frames of 32x32 cells; nothing to choose but how many."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.history, self.horizon) != (4, 4):
            raise ValueError("dataset.npz holds windows of 4 + 4 frames and no others")


def open_taxibj(config: TaxiBJConfig, folder: Path, device: torch.device) -> Task:
    """Returns the windows of `dataset.npz` in the folder."""
    benchmark = open_taxibj_npz(folder / "dataset.npz")
    frames = Frames(2, (32, 32), config.history, config.horizon, data="taxibj")
    windows = np.concatenate([benchmark.train_past, benchmark.train_future], axis=1)
    test = np.concatenate([benchmark.test_past, benchmark.test_future], axis=1)
    # Neighboring windows overlap, so the gap is one window's number of windows.
    number = np.arange(len(windows))
    train, validation = held_back(number, windows.shape[1])
    notes = ("the frames of dataset.npz ran backwards and were turned",) * benchmark.reversed
    following = np.array_equal(windows[1:200, :-1], windows[: len(windows[1:200]), 1:])
    if not following:
        notes += (
            "the windows of dataset.npz do not follow one another frame by frame: some of those that "
            "validate may share frames with those that are trained on",
        )
    return Task(
        frames,
        cut_sequences(windows, thinned(train, config.train), frames, device),
        cut_sequences(windows, thinned(validation, config.validation), frames, device),
        cut_sequences(test, thinned(np.arange(len(test)), config.test), frames, device),
        digest_of(windows, test),
        notes,
    )
