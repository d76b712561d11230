"""History: the flow that forecasts may use, and nothing that comes after their init_times."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data import windows
from data.clock import Clock


@dataclass(frozen=True)
class History:
    """The past of one or more forecasts; neighboring ones share their slots, nothing is copied.

    Attributes:
        flow: dims `(time, channel, y, x)`, vehicles per step, with no slot after the newest
            init_time.
        init_times: start of the newest slot that each forecast may use, UTC, `datetime64[s]` `(n,)`.
    """

    flow: xr.DataArray
    init_times: np.ndarray

    def __post_init__(self) -> None:
        time = self.flow["time"].values
        if len(time) and (not len(self.init_times) or time[-1] > self.init_times.max()):
            raise ValueError("a history ends at its newest init_time; make it by History.of")

    @classmethod
    def of(cls, flow: xr.DataArray, init_times: np.ndarray) -> "History":
        """Returns the history of forecasts from `init_times`: a view of `flow`, cut at the newest.

        Args:
            flow: dims `(time, channel, y, x)`; gaps are allowed, and an init_time may lie in one.
            init_times: UTC, `(n,)`, in any order.
        """
        times = np.asarray(init_times, dtype="datetime64[s]")
        end = np.searchsorted(flow["time"].values, times.max(), "right") if len(times) else 0
        return cls(flow[:end], times)

    @property
    def clock(self) -> Clock:
        """The clock of the city."""
        return Clock.of(self.flow)

    def times(self, offsets: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns the UTC times that lie `offsets` steps after each init_time, `(n, k)`."""
        return self.clock.time(self.init_times[:, None], np.asarray(offsets, dtype=np.int64))

    def past(self, lags: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns the slots that lie `lags` steps before each init_time.

        Args:
            lags: 0 or more, `(k,)`, or `(n, k)` for other ones of each init_time.

        Returns:
            float32 `(n, k, channel, y, x)`, vehicles per step.

        Raises:
            ValueError: a lag lies after the init_time, or its slot is missing.
        """
        steps = np.asarray(lags, dtype=np.int64)
        if (steps < 0).any():
            raise ValueError(f"lag {steps.min()} lies after the init_time of the forecast")
        found = windows.positions(self.flow, self.init_times, -steps)
        if (found < 0).any():
            raise ValueError(windows.INCOMPLETE)
        return np.asarray(self.flow.values[found])

    def rows(self, times: np.ndarray, init_times: np.ndarray | None = None) -> np.ndarray:
        """Returns where in `flow` the slots at UTC `times` stand, -1 where a forecast has none.

        A slot after the init_time is one that the forecast does not have.

        Args:
            times: of slots, `(n, ...)`, NaT for none.
            init_times: of the forecasts that ask, `(n,)`; those of the history if None.
        """
        found = windows.rows(self.flow, times)
        asking = self.init_times if init_times is None else init_times
        newest = asking.reshape(-1, *[1] * (found.ndim - 1))
        if self.flow.sizes["time"]:
            found[self.flow["time"].values[found] > newest] = -1
        return found

    def at(self, times: np.ndarray) -> np.ndarray:
        """Returns the slots at UTC `times` `(n, k)`, NaN where the forecast has none.

        Returns:
            float32 `(n, k, channel, y, x)`, vehicles per step.
        """
        found = self.rows(times)
        values = np.full((*found.shape, *self.flow.shape[1:]), np.nan, dtype=np.float32)
        values[found >= 0] = self.flow.values[found[found >= 0]]
        return values
