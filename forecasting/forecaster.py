"""What every forecaster looks like from outside: a history and a horizon in, future flow out."""

from typing import Protocol

import numpy as np
import xarray as xr

from data.clock import Clock
from forecasting.history import History


class Forecaster(Protocol):
    """Takes the history of forecasts and returns them, in vehicles per step.

    Attributes:
        name: for tables and for the store.
    """

    @property
    def name(self) -> str:
        """Name for tables and for the store."""

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the slots that it needs, in steps back from `init_time`, oldest first."""

    def optional_lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the slots that it uses where they are there, in steps back from `init_time`."""

    def __call__(self, history: History, horizon: int) -> xr.DataArray:
        """Returns the forecast of `horizon` steps from each init_time of a history.

        Args:
            history: with all slots that `lags` names; one live forecast has one init_time.
            horizon: number of steps ahead, 1 or more.

        Returns:
            dims `(init_time, lead_time, channel, y, x)`, float32 vehicles per step, not negative,
            with the coordinate `valid_time`: `init_time + lead_time`, on the wall clock where a
            step is longer than an hour (see `data.clock`).
        """


def label_forecast(values: np.ndarray, history: History) -> xr.DataArray:
    """Returns forecast values `(init_time, lead_time, channel, y, x)`, none below 0, labeled."""
    return label_windows(np.maximum(values, 0), history.flow, history.init_times)


def label_windows(values: np.ndarray, flow: xr.DataArray, init_times: np.ndarray) -> xr.DataArray:
    """Returns values `(init_time, lead_time, channel, y, x)` of a city as a labeled array.

    Args:
        values: vehicles per step, of consecutive leads from 1.
        flow: of the city, for its channels and attributes.
        init_times: UTC, `(n,)`.
    """
    clock, leads = Clock.of(flow), np.arange(1, values.shape[1] + 1)
    return xr.DataArray(
        np.asarray(values, dtype=np.float32),
        dims=("init_time", "lead_time", "channel", "y", "x"),
        coords={
            "init_time": init_times,
            "lead_time": leads * clock.step,
            "channel": flow["channel"].values,
            "valid_time": (("init_time", "lead_time"), clock.time(init_times[:, None], leads)),
        },
        name="flow",
        attrs=dict(flow.attrs),
    )
