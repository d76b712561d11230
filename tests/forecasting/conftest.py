"""Toy flows and a small disk for the tests of forecasters."""

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import pytest
import xarray as xr

from data.city import City
from data.flow import label

HOUR = np.timedelta64(1, "h")


@pytest.fixture(scope="session")
def flow_of() -> Callable[..., xr.DataArray]:
    """Makes a flow without gaps; bare numbers are the vehicles of every cell and channel."""

    def make(
        vehicles: object,
        start: str = "2016-01-04",
        timezone: str = "UTC",
        step: np.timedelta64 = HOUR,
        grid: tuple[int, int] = (1, 1),
        country: str = "",
    ) -> xr.DataArray:
        values = np.asarray(vehicles, dtype=np.float32)
        if values.ndim == 1:
            values = values[:, None, None, None] * np.ones((1, 2, *grid), dtype=np.float32)
        time = np.datetime64(start, "s") + np.arange(len(values)) * step
        city = City("toy", "Toy", timezone, step, values.shape[2:], country=country)
        return label(values, time, city)

    return make


@pytest.fixture(scope="session")
def largest_file() -> Callable[[int], AbstractContextManager[None]]:
    """Makes a disk, for a while, on which no file grows beyond a number of bytes."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
