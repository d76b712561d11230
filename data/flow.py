"""Flow: the one array that everything outside a network works on.

A flow is an `xarray.DataArray` named `flow` with dims `(time, channel, y, x)`: float32 vehicles per
step, finite and not negative. `time` is UTC (the start of the slot), strictly rising, gaps allowed;
`channel` is `inflow, outflow`; row 0 of `y` is the first row of the file. The attributes `city`,
`timezone`, `step` (seconds), `units`, and `country` and `subdivision` of its holidays travel with it.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr

from data.city import City
from data.clock import Clock
from data.errors import FlowcastError

CHANNELS = ("inflow", "outflow")
DIMS = ("time", "channel", "y", "x")
MOST = 1e7
"""Vehicles per step that no cell of any city sees: a value above it is none."""


class Split(NamedTuple):
    """The three parts of a flow, in the order of time."""

    train: xr.DataArray
    validation: xr.DataArray
    test: xr.DataArray


def label(values: np.ndarray, time: np.ndarray, city: City) -> xr.DataArray:
    """Returns the checked flow of `city` made of bare arrays.

    Args:
        values: vehicles per step, dims `(time, channel, y, x)`.
        time: start of each slot, UTC, `datetime64`.
        city: whose grid and step the values have.

    Raises:
        FlowcastError: the values break the contract above.
    """
    return validate(
        xr.DataArray(
            np.asarray(values, dtype=np.float32),
            dims=DIMS,
            coords={"time": np.asarray(time, dtype="datetime64[s]"), "channel": list(CHANNELS)},
            name="flow",
            attrs=attributes(city),
        )
    )


def attributes(city: City) -> dict[str, str | int]:
    """Returns the attributes that travel with a flow of `city`."""
    return {
        "city": city.name,
        "timezone": city.timezone,
        "step": int(city.step / np.timedelta64(1, "s")),
        "units": "vehicles per step",
        "country": city.country,
        "subdivision": city.subdivision,
    }


def possible(values: np.ndarray) -> np.ndarray:
    """Returns which slots of `(t, c, y, x)` have numbers alone, none of them above `MOST`."""
    with np.errstate(invalid="ignore"):
        found = np.isfinite(values) & (values <= MOST)
    return np.asarray(found.all(axis=(1, 2, 3)))


def no_flow(city: City) -> FlowcastError:
    """Returns the error that there is nothing in the archive of `city`."""
    return FlowcastError(f"no flow for {city.name}; run: forecast ingest --city {city.name} PATH")


def validate(flow: xr.DataArray) -> xr.DataArray:
    """Returns `flow` itself after checking the contract of this module.

    Raises:
        FlowcastError: with the first thing that is wrong.
    """
    if flow.dims != DIMS or tuple(flow["channel"].values) != CHANNELS:
        raise FlowcastError(f"a flow has dims {DIMS} and channels {CHANNELS}, not {flow.dims}")
    values = flow.values
    if values.dtype != np.float32 or not np.isfinite(values).all() or (values < 0).any():
        raise FlowcastError("a flow is float32, finite and not negative")
    if not (np.diff(flow["time"].values) > np.timedelta64(0, "s")).all():  # NaT does not rise
        raise FlowcastError("the times of a flow rise strictly")
    return flow


def step(flow: xr.DataArray) -> np.timedelta64:
    """Returns the time between two slots."""
    return np.timedelta64(int(flow.attrs["step"]), "s")


def split(flow: xr.DataArray, city: City) -> Split:
    """Returns train, validation and test: the last `test_days` are test, the days before validation.

    The parts are cut by time before anything is fitted. A day counts as the slots of a day of 24
    hours, back from the end of the last slot.

    Raises:
        FlowcastError: nothing is left to train on.
    """
    if flow.sizes["time"] == 0:
        raise no_flow(city)
    time, clock = flow["time"].values, Clock.of(flow)
    end = clock.after(time[-1], 1)
    test = clock.after(end, -city.test_days * city.slots_per_day)
    validation = clock.after(test, -city.validation_days * city.slots_per_day)
    parts = Split(
        flow[time < validation],
        flow[(time >= validation) & (time < test)],
        flow[time >= test],
    )
    if parts.train.sizes["time"] == 0:
        days = (end - time[0]) / np.timedelta64(1, "D")
        raise FlowcastError(
            f"{city.name} has {days:.1f} days of flow, but {city.test_days} are for testing and "
            f"{city.validation_days} for validation; ingest more, or set test_days and "
            f"validation_days in the city's TOML"
        )
    return parts
