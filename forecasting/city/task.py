"""The task: what a network of a city is trained on, and how its epochs are judged."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from data import windows
from data.errors import FlowcastError
from data.flow import Split
from forecasting.backtest import backtest, pieces
from forecasting.covariates.config import RAW_FLOW, CovariatesConfig
from forecasting.covariates.covariates import Covariates, NetworkInputs, SlotInputs, fit_covariates
from forecasting.ensemble import NeuralForecaster
from forecasting.forecaster import Forecaster
from forecasting.history import History
from forecasting.metrics import rmse, rmse_by_lead, sums
from forecasting.networks.base import NetworkConfig
from forecasting.networks.with_covariates import CovariateShape
from forecasting.rollout.rollout import Rollout
from forecasting.rollout.torch_rollout import TorchRollout
from forecasting.training.batches import FrameWindows
from forecasting.training.state import TrainingConfig

MOST_VALIDATION_WINDOWS = 500


@dataclass(frozen=True)
class CityTask:
    """Flow to train on and flow to judge by, and what follows from the former.

    Attributes:
        train: flow that is trained on; all that the context knows.
        known: flow from which the windows that judge are cut, `train` and what follows it.
        init_times: of those windows, evenly spread; none where nothing is left to judge by.
        context: of the city.
        rows: what each slot of `train` shows a network.
        name: key of the network in `NETWORKS`.
        network: configuration of its frames.
        around: what it is shown beside them, None for nothing.
        config: of the training.
        weather: dims `(time, variable)`, from when each value is known; None where there is none.
    """

    train: xr.DataArray
    known: xr.DataArray
    init_times: np.ndarray
    context: Covariates
    rows: SlotInputs
    name: str
    network: NetworkConfig
    around: CovariateShape | None
    config: TrainingConfig
    weather: xr.DataArray | None = None

    @classmethod
    def prepare(
        cls,
        parts: Split,
        name: str,
        network: NetworkConfig,
        config: TrainingConfig,
        context: CovariatesConfig | None = None,
        weather: xr.DataArray | None = None,
    ) -> "CityTask":
        """Returns the task that the first two parts hold.

        Args:
            parts: of the flow; the last one is not looked at.
            name: key of the network in `NETWORKS`.
            network: configuration of its frames.
            config: of the training.
            context: what it is shown, everything if None.
            weather: from when each value is known, where there is any.

        Raises:
            FlowcastError: there is no whole window to train or to validate on.
        """
        both = xr.concat([parts.train, parts.validation], "time")
        horizon = config.horizon
        lags = network.lags(horizon)
        init_times = windows.whole(both, lags, horizon)
        init_times = init_times[init_times >= parts.train["time"].values[-1]]
        whole = len(windows.whole(parts.train, lags, network.targets(horizon)[-1]))
        if not whole or not len(init_times):
            city = parts.train.attrs["city"]
            raise FlowcastError(
                f"{city} has {whole} whole windows of {len(lags)} + {horizon} slots to train on "
                f"and {len(init_times)} to validate on; ingest more flow "
                f"(see: forecast check --city {city})"
            )
        shown = context or CovariatesConfig()
        known, rows = fit_covariates(parts.train, shown, weather, horizon)
        around = None
        if not shown.raw_flow:
            around = CovariateShape(
                shown.maps, known.features, shown.place, growth=shown.growth, shares=True
            )
        return cls(
            parts.train,
            both,
            windows.thin(both, init_times, MOST_VALIDATION_WINDOWS),
            known,
            rows,
            name,
            network,
            around,
            config,
            weather,
        )

    def final(self) -> "CityTask":
        """Returns the task of all that is known, without anything left to judge by."""
        shown, horizon = self.context.config, self.context.horizon
        context, rows = fit_covariates(self.known, shown, self.weather, horizon)
        around = self.around and replace(self.around, numbers=context.features)
        return replace(
            self,
            around=around,
            train=self.known,
            init_times=self.init_times[:0],
            context=context,
            rows=rows,
        )

    def alone(self) -> "CityTask":
        """Returns the task of a network that sees frames of the flow alone, on the same days."""
        context, rows = fit_covariates(self.train, RAW_FLOW, horizon=self.context.horizon)
        return replace(self, around=None, context=context, rows=rows, weather=None)

    def feed(self, device: torch.device) -> FrameWindows:
        """Returns the windows of the flow that is trained on, as a network sees them."""
        horizon = self.config.horizon
        lags = self.network.lags(horizon)
        init_times = windows.whole(self.train, lags, self.network.targets(horizon)[-1])
        past, future, told = (
            torch.from_numpy(windows.positions(self.train, init_times, np.asarray(offsets)))
            for offsets in (
                -np.asarray(lags),
                np.arange(1, horizon + 1),
                self.network.targets(horizon),
            )
        )
        frames, maps, vector = (
            torch.from_numpy(one).to(device)
            for one in (self.rows.frames, self.rows.maps, self.rows.vector)
        )
        if self.around is None:
            return FrameWindows(frames, past, future, device)
        weather = torch.from_numpy(self.context.known_weather(self.weather, init_times)).to(device)
        return FrameWindows(frames, past, future, device, (maps, vector), told, weather)

    def weight(self, device: torch.device) -> Tensor:
        """Returns what errors of frames are multiplied by so that the loss is of vehicles."""
        scale = torch.from_numpy(self.context.scale).float()
        return (scale / scale.square().mean().sqrt()).to(device)

    def forecaster(self, *networks: nn.Module) -> NeuralForecaster:
        """Returns the networks as a forecaster that knows the flow that is trained on alone."""
        return self.served_by(*(TorchRollout(network, self.network) for network in networks))

    def served_by(self, *rollouts: Rollout) -> NeuralForecaster:
        """Returns the forecaster that knows that flow alone, whatever runs its networks."""
        return NeuralForecaster(rollouts, self.context, self.name, weather=self.weather)

    def error(self, network: nn.Module) -> float:
        """Returns the RMSE of a network in vehicles on the windows that judge, over all leads."""
        rollout, horizon = TorchRollout(network, self.network), self.config.horizon
        total, count = 0.0, 0
        for seen, observed in self._seen:
            shown = () if self.around is None else (seen.maps, seen.vector)
            outputs = rollout(seen.frames, horizon, *shown)
            forecast = np.maximum(seen.base + outputs * self.context.scale, 0)
            total += float(np.square(forecast - observed, dtype=np.float64).sum())
            count += observed.size
        return rmse(total, count)

    def errors(self, forecaster: Forecaster) -> dict[str, float]:
        """Returns the RMSE in vehicles on the windows that judge: `lead 1` ... and `all`.

        Windows whose input the forecaster lacks are left out; nan where none is left.
        """
        parts = [sums(made, observed) for (made,), observed in self.outcomes(forecaster)]
        if not parts:
            return {"all": float("nan")}
        return rmse_by_lead(sum(parts[1:], parts[0]))

    def outcomes(
        self, *forecasters: Forecaster
    ) -> Iterator[tuple[list[xr.DataArray], xr.DataArray]]:
        """Yields what forecasters make of the windows that judge, and what was observed, stack by stack.

        Windows whose input one of them lacks are left out. Dims of all: `(init_time, lead_time,
        channel, y, x)`.
        """
        horizon, init_times = self.config.horizon, self.init_times
        for forecaster in forecasters:
            whole = windows.whole(self.known, forecaster.lags(horizon), horizon)
            init_times = np.intersect1d(init_times, whole)
        each = [backtest(one, self.known, init_times, horizon) for one in forecasters]
        for pairs in zip(*each, strict=True):
            yield [forecast for forecast, _ in pairs], pairs[0][1]

    @cached_property
    def _seen(self) -> list[tuple[NetworkInputs, np.ndarray]]:
        """What the windows that judge show a network, and what was observed, stack by stack."""
        horizon, config = self.config.horizon, self.network
        slots = config.lags(horizon), config.targets(horizon)
        return [
            (
                self.context.inputs(History.of(self.known, one), *slots, horizon, self.weather),
                windows.future(self.known, one, horizon).values,
            )
            for one in pieces(self.known, self.init_times, horizon)
        ]
