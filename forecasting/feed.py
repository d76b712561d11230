"""Feeds: where the windows of a training come from, always as tensors on the training's device."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


class Feed(Protocol):
    """A number of windows, each a past and the future that follows it."""

    def __len__(self) -> int:
        """Returns the windows of an epoch."""

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the past `(b, t, c, y, x)` and the future `(b, h, c, y, x)` of some windows.

        Args:
            index: `(b,)` which of the windows, on the CPU.
        """


@dataclass(frozen=True)
class Cut:
    """Windows cut from one tensor of frames.

    Attributes:
        frames: `(t, c, y, x)`; float32, or uint8 that stand for [0, 1]. May be mapped from a file.
        past: `(window, t)` positions in `frames`, on the CPU.
        future: `(window, h)` positions in `frames`.
        device: of the windows.
    """

    frames: Tensor
    past: Tensor
    future: Tensor
    device: torch.device

    def __len__(self) -> int:
        """Returns how many windows there are."""
        return len(self.past)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the past and the future of some windows; see `Feed`."""
        return self._frames(self.past[index]), self._frames(self.future[index])

    def _frames(self, positions: Tensor) -> Tensor:
        frames = self.frames[positions.to(self.frames.device)].to(self.device)
        return frames if frames.dtype == torch.float32 else frames.float() / 255


def cut(
    frames: np.ndarray, starts: np.ndarray, history: int, horizon: int, device: torch.device
) -> Cut:
    """Returns the windows of `history + horizon` frames that begin at `starts`.

    Args:
        frames: `(t, c, y, x)`, float32 or uint8; stays where it is, on the CPU or in its file.
        starts: positions in `frames`.
        history: frames of the past.
        horizon: frames of the future.
        device: of the windows that are taken.
    """
    begin = torch.from_numpy(np.asarray(starts, dtype=np.int64))[:, None]
    past, future = begin + torch.arange(history), begin + torch.arange(history, history + horizon)
    return Cut(torch.from_numpy(frames), past, future, device)
