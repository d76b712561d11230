"""A network as a Forecaster: vehicles outside, scaled differences from the climatology inside.

The network sees the last slots as differences from the mean of their weekday and slot,
divided by one scale for all, and forecasts the change from slot to slot, so that an untrained one
already continues the last anomaly. The network itself stays the paper's.
"""

from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from data.errors import FlowcastError
from forecasting.climatology import Climatology
from forecasting.forecaster import label_forecast, past_times, valid_times
from forecasting.models import NETWORKS
from forecasting.models.network import NetworkConfig
from forecasting.models.residual import residual

BATCH = 64


@dataclass(frozen=True)
class NeuralForecaster:
    """A trained network with the climatology and the scale that its frames need.

    Attributes:
        network: takes and returns scaled anomalies, `(b, t, c, y, x)`.
        climatology: of the city.
        scale: vehicles that stand for 1 inside the network.
        config: of the network; it names the slots that the network sees.
        name: for tables and for the store.
    """

    network: nn.Module
    climatology: Climatology
    scale: float
    config: NetworkConfig
    name: str

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the slots that the network sees, oldest first."""
        return self.config.lags(horizon)

    def __call__(self, past: xr.DataArray, horizon: int) -> xr.DataArray:
        """Returns the forecast of `horizon` steps, in vehicles; as `Forecaster` says."""
        past = past.sel(lag=list(self.lags(horizon)))
        anomalies = (past.values - self.climatology.expected(past_times(past))) / self.scale
        outputs = _run(self.network, torch.from_numpy(anomalies.astype(np.float32)), horizon)
        expected = self.climatology.expected(valid_times(past, horizon))
        return label_forecast(expected + outputs.numpy() * self.scale, past)


def build_network(name: str, config: NetworkConfig) -> nn.Module:
    """Returns the untrained network of a city's forecaster: the one called `name`, on changes."""
    return residual(NETWORKS[name].build(config))


def pick_device(name: str) -> torch.device:
    """Returns the device called `name`; `auto` is the GPU where there is one.

    Raises:
        FlowcastError: this machine has no such device.
    """
    chosen = name
    if name == "auto":
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(chosen)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise FlowcastError(
            f"this machine has no device {name!r}; use --device auto, cpu or cuda"
        ) from error
    return device


def _run(network: nn.Module, frames: Tensor, horizon: int) -> Tensor:
    """Returns the last `horizon` outputs `(b, horizon, c, y, x)`, batch by batch."""
    device = next(network.parameters()).device
    network.eval()
    with torch.inference_mode():
        return torch.cat(
            [
                network(batch.to(device), horizon)[:, -horizon:].cpu()
                for batch in frames.split(BATCH)
            ]
        )
