"""Backtest: what a forecaster says of windows of the past, beside what was observed."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from data import windows
from data.clock import Clock
from forecasting.forecaster import Forecaster
from forecasting.history import History

PIECE = 2**24
"""Bytes that the covariates and forecasts of the windows of a piece take, roughly."""
FRAMES_PER_LEAD = 12
"""Frames that a window needs for each lead: covariates, forecast, observed, errors."""


def backtest(
    forecaster: Forecaster, flow: xr.DataArray, init_times: np.ndarray, horizon: int
) -> Iterator[tuple[xr.DataArray, xr.DataArray]]:
    """Yields forecasts and what was observed, in pieces of bounded memory.

    Each forecast is made from a `History` that ends at its init_time. Several forecasters on the same
    windows are cut into the same pieces, so that `zip` puts them side by side.

    Args:
        forecaster: any.
        flow: with the slots that it needs and those that it is compared with, dims
            `(time, channel, y, x)`.
        init_times: UTC, of whole windows, as `data.windows.whole` finds them.
        horizon: number of steps ahead.

    Yields:
        forecast and observed flow, vehicles per step, both with dims
        `(init_time, lead_time, channel, y, x)`, in the order of `init_times`.

    Raises:
        ValueError: a slot of a window is missing.
    """
    for piece in pieces(flow, init_times, horizon):
        forecast = forecaster(History.of(flow, piece), horizon)
        yield forecast, windows.future(flow, piece, horizon)


def pieces(flow: xr.DataArray, init_times: np.ndarray, horizon: int) -> Iterator[np.ndarray]:
    """Yields the init_times that are worked on at a time, to bound the memory.

    They are so many that their forecasts fit, and lie so near one another that the flow between
    them does.

    Args:
        flow: for its grid and its step; its times may be none.
        init_times: UTC, rising.
        horizon: number of steps ahead.
    """
    frame = 4 * int(np.prod(flow.shape[1:]))
    size = max(1, PIECE // (frame * FRAMES_PER_LEAD * (horizon + 1)))
    span = max(1, PIECE // frame)
    number = Clock.of(flow).number(init_times, init_times[0]) if len(init_times) else init_times
    start = 0
    while start < len(init_times):
        near = int(np.searchsorted(number, number[start] + span))
        stop = min(start + size, max(near, start + 1))
        yield init_times[start:stop]
        start = stop
