"""A network as a Forecaster: vehicles outside, scaled differences from the climatology inside.

The network sees the last slots as differences from the mean of their weekday and slot,
divided by one scale for all, and forecasts the change from slot to slot, so that an untrained one
already continues the last anomaly. The network itself stays the paper's. Nothing here needs torch:
a rollout runs the network, by torch (`torch_rollout`) or by ONNX Runtime (`onnx_rollout`).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import xarray as xr

from forecasting.climatology import Climatology
from forecasting.forecaster import label_forecast, past_times, valid_times


class Rollout(Protocol):
    """A trained network as a function of arrays."""

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the frames that it sees to forecast `horizon` more, in steps back, oldest first."""

    def __call__(self, frames: np.ndarray, horizon: int) -> np.ndarray:
        """Returns the forecast of each sequence.

        Args:
            frames: float32, scaled, `(b, t, c, y, x)`, t frames as `lags` names them; any b.
            horizon: frames to forecast, 1 or more.

        Returns:
            float32 `(b, horizon, c, y, x)`
        """


@dataclass(frozen=True)
class NeuralForecaster:
    """A trained network with the climatology and the scale that its frames need.

    Attributes:
        rollout: takes and returns scaled anomalies, `(b, t, c, y, x)`.
        climatology: of the city.
        scale: vehicles that stand for 1 inside the network.
        name: for tables and for the store.
        runtime: what runs the network: `torch`, or `onnxruntime` and the precision.
    """

    rollout: Rollout
    climatology: Climatology
    scale: float
    name: str
    runtime: str = "torch"

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the slots that the network sees, oldest first."""
        return self.rollout.lags(horizon)

    def __call__(self, past: xr.DataArray, horizon: int) -> xr.DataArray:
        """Returns the forecast of `horizon` steps, in vehicles; as `Forecaster` says."""
        past = past.sel(lag=list(self.lags(horizon)))
        anomalies = (past.values - self.climatology.expected(past_times(past))) / self.scale
        outputs = self.rollout(anomalies.astype(np.float32), horizon)
        expected = self.climatology.expected(valid_times(past, horizon))
        return label_forecast(expected + outputs * self.scale, past)
