"""Feeds: where the windows of a training come from, always as tensors on the training's device."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

Windows = tuple[Tensor, ...]
"""A past `(b, t, c, y, x)`, the future `(b, h, c, y, x)`, and what else is shown, as a feed gives them."""


class WindowSource(Protocol):
    """A number of windows, each a past and the future that follows it."""

    def __len__(self) -> int:
        """Returns the windows of an epoch."""

    def take(self, index: Tensor) -> tuple[Tensor, ...]:
        """Returns the past `(b, t, c, y, x)` and the future `(b, h, c, y, x)` of some windows.

        What else their steps are shown follows, `(b, s, ...)`, where there is any.

        Args:
            index: `(b,)` which of the windows; best on the device of the windows.
        """


@dataclass(frozen=True)
class FrameWindows:
    """Windows cut from one tensor of frames.

    Attributes:
        frames: `(t, c, y, x)`; float32, or uint8 that stand for [0, 1]. May be mapped from a file.
        past: `(window, t)` positions in `frames`, on the CPU.
        future: `(window, h)` positions in `frames`.
        device: of the windows.
        shown: what each frame's step is shown, `(t, ...)` of any float type, where frames are.
        told: `(window, s)` the positions of the steps that are shown it.
        constant: `(window, w)` what every step of a window is shown behind the last of `shown`.
    """

    frames: Tensor
    past: Tensor
    future: Tensor
    device: torch.device
    shown: tuple[Tensor, ...] = ()
    told: Tensor | None = None
    constant: Tensor | None = None

    def __len__(self) -> int:
        """Returns how many windows there are."""
        return len(self.past)

    def take(self, index: Tensor) -> tuple[Tensor, ...]:
        """Returns the past and the future of some windows, and what is shown; see `WindowSource`."""
        positions = self._positions.index_select(0, index.to(self._positions.device))
        # Whole frames are copied this way, twice as fast and more than by indexing with a matrix.
        chosen = self.frames.index_select(0, positions.flatten()).to(self.device)
        frames = chosen if chosen.dtype == torch.float32 else chosen.float() / 255
        windows = frames.unflatten(0, positions.shape)
        history = self.past.shape[1]
        return windows[:, :history], windows[:, history:], *self._shown(index)

    def _shown(self, index: Tensor) -> list[Tensor]:
        """Returns what the steps of some windows are shown, float32 `(b, s, ...)`."""
        if self._told is None:
            return []
        positions = self._told.index_select(0, index.to(self._told.device))
        flat = positions.flatten()
        shown = [
            one.index_select(0, flat).to(self.device).float().unflatten(0, positions.shape)
            for one in self.shown
        ]
        if self.constant is not None:
            own = self.constant[index.to(self.constant.device)].to(self.device)
            every = own[:, None].expand(-1, positions.shape[1], -1)
            shown[-1] = torch.cat([shown[-1], every], dim=-1)
        return shown

    @cached_property
    def _told(self) -> Tensor | None:
        return None if self.told is None else self.told.to(self.frames.device)

    @cached_property
    def _positions(self) -> Tensor:
        """`(window, t + h)` positions, where the frames are."""
        return torch.cat([self.past, self.future], dim=1).to(self.frames.device)


def cut_windows(
    frames: np.ndarray, starts: np.ndarray, history: int, horizon: int, device: torch.device
) -> FrameWindows:
    """Returns the windows of `history + horizon` frames that begin at `starts`.

    Args:
        frames: `(t, c, y, x)`, float32 or uint8; it goes to a GPU where it takes no more than half
            of the free memory there, and otherwise stays where it is, on the CPU or in its file.
        starts: positions in `frames`.
        history: frames of the past.
        horizon: frames of the future.
        device: of the windows that are taken.
    """
    begin = torch.from_numpy(np.asarray(starts, dtype=np.int64))[:, None]
    past, future = begin + torch.arange(history), begin + torch.arange(history, history + horizon)
    return FrameWindows(_placed(torch.from_numpy(frames), device), past, future, device)


def _placed(frames: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda" and frames.nbytes <= torch.cuda.mem_get_info(device)[0] // 2:
        return frames.to(device)
    return frames
