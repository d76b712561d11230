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

    def __call__(self, past: xr.DataArray, horizon: int) -> xr.DataArray:
        """Returns the forecast of `horizon` steps.

        Args:
            past: dims `(init_time, lag, channel, y, x)` with the lags that `lags` names, as
                `data.windows.past` returns it; one live forecast is a stack of one.
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
