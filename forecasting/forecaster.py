"""What every forecaster looks like from outside: past flow and a horizon in, future flow out."""

from typing import Protocol

import numpy as np
import xarray as xr

from data.clock import Clock


class Forecaster(Protocol):
    """Takes a stack of past windows and returns their forecasts, in vehicles per step.

    Attributes:
        name: for tables and for the store.
    """

    @property
    def name(self) -> str:
        """Name for tables and for the store."""

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the slots that it needs, in steps back from `init_time`, oldest first."""

    def memory(self, horizon: int) -> tuple[int, ...]:
        """Returns the slots that it looks at besides where they are there, in steps back."""

    def __call__(self, past: xr.DataArray, horizon: int) -> xr.DataArray:
        """Returns the forecast of `horizon` steps.

        Args:
            past: dims `(init_time, lag, channel, y, x)` with the lags that `lags` and `memory`
                name, NaN where one of `memory` alone is missing, as `data.windows.past` returns
                it; one live forecast is a stack of one.
            horizon: number of steps ahead, 1 or more.

        Returns:
            dims `(init_time, lead_time, channel, y, x)`, float32 vehicles per step, not negative,
            with the coordinate `valid_time`: `init_time + lead_time`, on the wall clock where a
            step is longer than an hour (see `data.clock`).
        """


def label_forecast(values: np.ndarray, past: xr.DataArray) -> xr.DataArray:
    """Returns bare forecast values `(init_time, lead_time, channel, y, x)` labelled like `past`."""
    step = np.timedelta64(int(past.attrs["step"]), "s")
    lead_time = np.arange(1, values.shape[1] + 1) * step
    init_time = past["init_time"].values
    return xr.DataArray(
        np.maximum(values, 0).astype(np.float32, copy=False),
        dims=("init_time", "lead_time", "channel", "y", "x"),
        coords={
            "init_time": init_time,
            "lead_time": lead_time,
            "channel": past["channel"].values,
            "valid_time": (("init_time", "lead_time"), valid_times(past, values.shape[1])),
        },
        name="flow",
        attrs=dict(past.attrs),
    )


def valid_times(past: xr.DataArray, horizon: int) -> np.ndarray:
    """Returns the times that a forecast of `horizon` steps is for, dims `(init_time, lead_time)`."""
    init_time = past["init_time"].values[:, None]
    return Clock.of(past).time(init_time, np.arange(1, horizon + 1))


def past_times(past: xr.DataArray) -> np.ndarray:
    """Returns the times of the slots in `past`, dims `(init_time, lag)`."""
    return Clock.of(past).time(past["init_time"].values[:, None], -past["lag"].values)


def flow_of(past: xr.DataArray) -> xr.DataArray:
    """Returns the slots that a stack of windows holds, each once, as a flow."""
    times = past_times(past).ravel()
    unique, first = np.unique(times, return_index=True)
    values = past.values.reshape(-1, *past.shape[2:])[first]
    # A slot may be missing in the memory of one window and no other window has it then.
    there = ~np.isnan(values[:, 0, 0, 0])
    return xr.DataArray(
        values[there],
        dims=("time", "channel", "y", "x"),
        coords={"time": unique[there], "channel": past["channel"].values},
        attrs=past.attrs,
    )
