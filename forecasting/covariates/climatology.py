"""Climatology: the mean flow of each weekday and slot of the day, in the city's wall time."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np
import xarray as xr

from data.clock import local


@dataclass(frozen=True)
class Climatology:
    """Mean flow by weekday (Monday is 0) and slot of the day.

    Attributes:
        mean: float32 vehicles per step, dims `(weekday, slot, channel, y, x)`. Where a weekday's
            slot was never seen it is the mean of that slot over all days, else the mean of all.
        count: number of slots behind each mean, dims `(weekday, slot)`; 0 where it was filled.
        timezone: of the weekdays and slots.
        step: seconds.
    """

    mean: np.ndarray
    count: np.ndarray
    timezone: str
    step: int

    @classmethod
    def fit(cls, flow: xr.DataArray) -> "Climatology":
        """Returns the climatology of `flow`, which must hold at least one slot."""
        return cls.fit_pieces([flow])

    @classmethod
    def fit_pieces(cls, flows: Iterable[xr.DataArray]) -> "Climatology":
        """Returns the climatology of a flow that comes in pieces, in the order of time.

        It is the same to the bit however the flow is cut; at least one slot must come.
        """
        pieces = iter(flows)
        first = next(pieces)
        timezone, step = str(first.attrs["timezone"]), int(first.attrs["step"])
        shape = (7, 86_400 // step)
        count = np.zeros(shape, dtype=np.int64)
        total = np.zeros((*shape, *first.shape[1:]))
        for flow in chain([first], pieces):
            weekday, slot = calendar(flow["time"].values, timezone, step)
            np.add.at(count, (weekday, slot), 1)
            # Frame by frame: np.add.at takes 30 times as long for whole frames.
            for day, part, frame in zip(weekday, slot, flow.values, strict=True):
                total[day, part] += frame
        return cls(_filled(total, count).astype(np.float32), count, timezone, step)

    def expected(self, time: np.ndarray) -> np.ndarray:
        """Returns the mean flow at UTC `time` of any shape: shape `(*time.shape, channel, y, x)`."""
        weekday, slot = calendar(time, self.timezone, self.step)
        values = self.mean[weekday, slot]
        return np.asarray(values.reshape(*np.shape(time), *self.mean.shape[2:]))


def calendar(time: np.ndarray, timezone: str, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns weekday and slot of the day of each UTC time, flattened."""
    wall = local(time, timezone)
    seconds = wall.hour * 3600 + wall.minute * 60 + wall.second
    return np.asarray(wall.day_of_week), np.asarray(seconds // step)


def _filled(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Returns the means, those of unseen slots filled in from the other days."""
    by_slot = total.sum(axis=0)
    days = count.sum(axis=0)
    overall = by_slot.sum(axis=0) / days.sum()
    wide = (..., None, None, None)
    slot_mean = np.where(days[wide] > 0, by_slot / np.maximum(days, 1)[wide], overall)
    return np.asarray(np.where(count[wide] > 0, total / np.maximum(count, 1)[wide], slot_mean))
