"""The lesson: what a network of a city is trained on, and how its epochs are judged."""

from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import nn

from data import windows
from data.errors import FlowcastError
from data.flow import Split
from forecasting.climatology import Climatology
from forecasting.feed import Cut
from forecasting.forecaster import Forecaster
from forecasting.metrics import rmse
from forecasting.models.network import NetworkConfig
from forecasting.neural import NeuralForecaster, Rollout
from forecasting.state import TrainingConfig
from forecasting.torch_rollout import TorchRollout

MOST_VALIDATION_WINDOWS = 500


@dataclass(frozen=True)
class Lesson:
    """Training and validation flow, and what follows from them.

    Attributes:
        train: flow of the training span.
        both: flow of the training and the validation span.
        climatology: of the training span alone.
        scale: vehicles that stand for 1 inside the network, the root mean square of the anomalies.
        init_times: of the validation windows, evenly spread.
        name: key of the network in `NETWORKS`.
        network: its configuration.
        config: of the training.
    """

    train: xr.DataArray
    both: xr.DataArray
    climatology: Climatology
    scale: float
    init_times: np.ndarray
    name: str
    network: NetworkConfig
    config: TrainingConfig

    @classmethod
    def prepare(
        cls, parts: Split, name: str, network: NetworkConfig, config: TrainingConfig
    ) -> "Lesson":
        """Returns the lesson that the first two parts hold.

        Raises:
            FlowcastError: there is no whole window to train or to validate on.
        """
        both = xr.concat([parts.train, parts.validation], "time")
        horizon = config.horizon
        lags = network.lags(horizon)
        init_times = windows.whole(both, lags, horizon)
        init_times = init_times[init_times >= parts.train["time"].values[-1]]
        whole = len(windows.whole(parts.train, lags, horizon))
        if not whole or not len(init_times):
            city = parts.train.attrs["city"]
            raise FlowcastError(
                f"{city} has {whole} whole windows of {len(lags)} + {horizon} slots to train on "
                f"and {len(init_times)} to validate on; ingest more flow "
                f"(see: forecast check --city {city})"
            )
        climatology = Climatology.fit(parts.train)
        anomaly = climatology.held_out_anomaly(parts.train).astype(np.float64)
        scale = float(np.sqrt(np.mean(anomaly**2))) or 1.0
        every = -(-len(init_times) // MOST_VALIDATION_WINDOWS)
        init_times = init_times[::every]
        return cls(parts.train, both, climatology, scale, init_times, name, network, config)

    def feed(self, device: torch.device) -> Cut:
        """Returns the windows of the training span, as scaled anomalies."""
        horizon = self.config.horizon
        lags = self.network.lags(horizon)
        anomaly = self.climatology.held_out_anomaly(self.train) / np.float32(self.scale)
        init_times = windows.whole(self.train, lags, horizon)
        past = windows.positions(self.train, init_times, -np.asarray(lags))
        future = windows.positions(self.train, init_times, np.arange(1, horizon + 1))
        return Cut(
            torch.from_numpy(anomaly).to(device),
            torch.from_numpy(past),
            torch.from_numpy(future),
            device,
        )

    def forecaster(self, network: nn.Module) -> NeuralForecaster:
        """Returns the network as a forecaster that knows the training span alone."""
        return self.served_by(TorchRollout(network, self.network))

    def served_by(self, rollout: Rollout) -> NeuralForecaster:
        """Returns the forecaster that knows the training span alone, whatever runs its network."""
        return NeuralForecaster(rollout, self.climatology, self.scale, self.name)

    def error(self, forecaster: Forecaster) -> float:
        """Returns the RMSE in vehicles on the validation windows, over all leads."""
        return self.errors(forecaster)["all"]

    def errors(self, forecaster: Forecaster) -> dict[str, float]:
        """Returns the RMSE in vehicles on the validation windows: `lead 1` ... and `all`.

        Windows whose input the forecaster lacks are left out; nan where none is left.
        """
        horizon = self.config.horizon
        lags = forecaster.lags(horizon)
        init_times = np.intersect1d(self.init_times, windows.whole(self.both, lags, horizon))
        if not len(init_times):
            return {"all": float("nan")}
        observed = windows.future(self.both, init_times, horizon)
        forecast = forecaster(windows.past(self.both, init_times, lags), horizon)
        by_lead = rmse(forecast, observed, ["init_time", "channel", "y", "x"]).values
        leads = {f"lead {lead}": float(value) for lead, value in enumerate(by_lead, start=1)}
        return {**leads, "all": float(rmse(forecast, observed))}
