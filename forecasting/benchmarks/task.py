"""Tasks: the windows of a benchmark, to train on, to select on and to test on."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch

from data.errors import FlowcastError
from forecasting.networks.base import Frames
from forecasting.training.batches import FrameWindows, WindowSource, cut_windows


@dataclass(frozen=True)
class Task:
    """What a network is trained on, selected on and tested on; frames in [0, 1].

    A city is scaled by its training part, so that its later frames may lie a little above 1.

    Attributes:
        frames: their shape, and how many a network sees and forecasts.
        train: windows to train on.
        validation: windows to choose the epoch on; none of them shares a position of the frames with
            those of `train` (a source that holds a frame twice may show it to both).
        test: windows that nothing is fitted or selected on.
        digest: SHA-256 of what the task was made of.
        notes: what a person should know, such as clips that were skipped.
    """

    frames: Frames
    train: WindowSource
    validation: FrameWindows
    test: FrameWindows
    digest: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        counts = [len(part) for part in (self.train, self.validation, self.test)]
        if 0 in counts:
            raise FlowcastError(
                f"there are {counts[0]} windows of {self.frames.history} + {self.frames.horizon} frames to "
                f"train on, {counts[1]} to validate on and {counts[2]} to test on; ask for shorter ones by "
                f"--set data.history=N and --set data.horizon=N, or for more data"
            )


def held_back(starts: np.ndarray, length: int, part: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Returns the starts of windows to train on and, from the end, of those to validate on.

    Between them lies a gap of a window, so that they share no frame and do not touch.

    Args:
        starts: rising positions of frames.
        length: frames of a window.
        part: of the windows that validate.
    """
    if not len(starts):
        return starts, starts
    first = starts[int(len(starts) * (1 - part))]
    return starts[starts <= first - 2 * length], starts[starts >= first]


def thinned(starts: np.ndarray, most: int) -> np.ndarray:
    """Returns at most `most` of the starts, evenly spread from the first on."""
    count = min(most, len(starts))
    return starts[np.arange(count) * len(starts) // max(count, 1)]


def cut_sequences(
    sequences: np.ndarray, chosen: np.ndarray, frames: Frames, device: torch.device
) -> FrameWindows:
    """Returns the `chosen` of the sequences `(b, t, c, y, x)` as windows that begin with them."""
    flat = sequences.reshape(-1, *sequences.shape[2:])
    return cut_windows(flat, chosen * sequences.shape[1], frames.history, frames.horizon, device)


def digest_of(*arrays: np.ndarray) -> str:
    """Returns the SHA-256 of the shapes, types and values of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(str((array.shape, array.dtype.str)).encode())
        for part in np.array_split(array, max(1, array.nbytes >> 26)):
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
