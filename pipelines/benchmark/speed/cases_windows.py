"""Windows of a long archive, prepared and fed in every way there is, as work of a contest."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from data import windows
from data.city import City
from data.flow import label
from forecasting.training.batches import FrameWindows
from pipelines.benchmark.speed.harness import Work, memory_from_now

HISTORY, HORIZON = 4, 4
HALF_HOUR = np.timedelta64(30, "m")
BATCHES = 20
"""Batches that a feed gives in one piece of work."""


class Archive(NamedTuple):
    """An archive of noise in half-hour slots of 2 channels; TaxiBJ's four parts hold 22,484.

    Attributes:
        slots: number of them, without those that are missing.
        side: cells along the side of the grid.
        gap: one slot is missing after every `gap`.
    """

    slots: int = 22_000
    side: int = 32
    gap: int = 500

    def flow(self) -> xr.DataArray:
        """Returns the archive as the store gives it."""
        shape = (self.slots, 2, self.side, self.side)
        vehicles = np.random.default_rng(0).random(shape, dtype=np.float32)
        number = np.arange(self.slots) + np.arange(self.slots) // self.gap
        time = np.datetime64("2015-01-01", "s") + number * HALF_HOUR
        city = City("noise", "Noise", "UTC", HALF_HOUR, (self.side, self.side))
        return label(vehicles, time, city)


# Preparing: from the archive to windows that can be fed


def prepare_by_position(archive: Archive) -> Work:
    """Returns the package's way: where each window's slots stand, and the archive as it is."""
    return _preparation(archive, cut_of)


def prepare_one_by_one(archive: Archive) -> Work:
    """Returns the field's way: a loop that checks each window and copies it, then stacks them all."""
    return _preparation(archive, _copied)


def cut_of(flow: xr.DataArray) -> FrameWindows:
    """Returns all whole windows of a flow."""
    lags = tuple(range(HISTORY - 1, -1, -1))
    init_times = windows.whole(flow, lags, HORIZON)
    past = windows.positions(flow, init_times, -np.asarray(lags))
    future = windows.positions(flow, init_times, np.arange(1, HORIZON + 1))
    parts = torch.from_numpy(past), torch.from_numpy(future)
    return FrameWindows(torch.from_numpy(flow.values), *parts, torch.device("cpu"))


def _copied(flow: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    vehicles, time = flow.values, flow["time"].values
    length = HISTORY + HORIZON
    past, future = [], []
    for start in range(len(time) - length + 1):
        if (np.diff(time[start : start + length]) != HALF_HOUR).any():
            continue
        past.append(vehicles[start : start + HISTORY].copy())
        future.append(vehicles[start + HISTORY : start + length].copy())
    return np.stack(past), np.stack(future)


def _preparation(archive: Archive, prepare: Callable[[xr.DataArray], object]) -> Work:
    flow = archive.flow()
    return Work(lambda: prepare(flow), archive.slots, memory=memory_from_now())


# Feeding: batches of windows in random order


def feed_by_index(archive: Archive, batch: int) -> Work:
    """Returns the package's way: windows gathered by index from one tensor."""
    torch.set_num_threads(1)
    feed = cut_of(archive.flow())

    def run() -> None:
        for index in torch.randperm(len(feed))[: BATCHES * batch].split(batch):
            feed.take(index)

    return Work(run, BATCHES * batch)


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """The same windows as the field feeds them: one item a window, made of an array of vehicles."""

    def __init__(self, flow: xr.DataArray) -> None:
        self.vehicles, self.starts = flow.values, cut_of(flow).past[:, 0].tolist()

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, at: int) -> tuple[Tensor, Tensor]:
        start = self.starts[at]
        past = self.vehicles[start : start + HISTORY]
        future = self.vehicles[start + HISTORY : start + HISTORY + HORIZON]
        return torch.tensor(past).float(), torch.tensor(future).float()


def feed_by_loader(archive: Archive, batch: int, workers: int) -> Work:
    """Returns torch's DataLoader over windows, with processes that load or without."""
    torch.set_num_threads(1)
    loader = DataLoader(
        Windows(archive.flow()),
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    batches = _endless(loader)

    def run() -> None:
        for _ in range(BATCHES):
            next(batches)

    return Work(run, BATCHES * batch)


def _endless(loader: DataLoader[tuple[Tensor, Tensor]]) -> Iterator[object]:
    while True:
        yield from loader
