"""Frames of one's own, from a file, as a task."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from data.errors import FlowcastError
from data.video.frame_array import open_frame_array
from forecasting.benchmarks.config import DatasetConfig
from forecasting.benchmarks.task import Task, cut_sequences, digest_of, held_back, thinned
from forecasting.networks.base import Frames
from forecasting.training.batches import FrameWindows, cut_windows


@dataclass(frozen=True)
class ArrayConfig(DatasetConfig):
    """An array of frames; its last sixth is for testing, and of the rest the last sixth for validation."""


def open_array(config: ArrayConfig, path: Path, device: torch.device) -> Task:
    """Returns the frames of a `.npz`, `.npy` or HDF5 file, split by time before anything is fitted.

    One film `(frame, channel, y, x)` is split by its frames, each window within its part; several
    `(sequence, frame, channel, y, x)` by sequence, of which each is a window from its first frame. All are
    scaled by the least and the largest value before the test part.

    Raises:
        FlowcastError: the file is refused, or holds too few frames for a window.
    """
    sequences = open_frame_array(path)
    length = config.history + config.horizon
    film = len(sequences) == 1
    count = sequences.shape[1] if film else len(sequences)
    if sequences.shape[1] < length:
        raise FlowcastError(
            f"{path} has {sequences.shape[1]} frames in a sequence, fewer than the {config.history} + "
            f"{config.horizon} of a window; set data.history and data.horizon"
        )
    first = count - count // 6  # of the test part
    known = sequences[:, :first] if film else sequences[:first]
    low, high = float(known.min()), float(known.max())
    if low == high:
        raise FlowcastError(
            f"{path} has the value {low:g} in all frames before the test; there is nothing to learn"
        )
    scaled = (sequences - np.float32(low)) / np.float32(high - low)
    frames = Frames(sequences.shape[2], sequences.shape[3:], config.history, config.horizon)
    if film:
        train, validation = held_back(np.arange(max(first - length + 1, 0)), length, 1 / 6)
        test = np.arange(first, max(count - length + 1, first))
    else:
        train, validation, test = np.split(np.arange(count), [first - first // 6, first])

    def windows(at: np.ndarray, most: int) -> FrameWindows:
        if film:
            return cut_windows(scaled[0], thinned(at, most), frames.history, frames.horizon, device)
        return cut_sequences(scaled, thinned(at, most), frames, device)

    return Task(
        frames,
        windows(train, config.train),
        windows(validation, config.validation),
        windows(test, config.test),
        digest_of(sequences),
        (f"{path.name}: 0 stands for {low:g}, 1 for {high:g}",),
    )
