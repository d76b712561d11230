"""Networks as a Forecaster: vehicles outside, scaled frames and their context inside.

Nothing here needs torch: a rollout runs a network, by torch (`torch_rollout`) or by ONNX Runtime
(`onnx_rollout`).
"""

from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from forecasting.covariates.covariates import Covariates
from forecasting.forecaster import label_forecast
from forecasting.history import History
from forecasting.rollout.rollout import Rollout
from forecasting.trees.forecaster import Trees


@dataclass(frozen=True)
class NeuralForecaster:
    """Trained networks of one kind, whose mean is the forecast, with what they are shown.

    Trees that see the same may have a share in it, at the leads that they were grown for, and so may
    networks that see frames of the flow alone and forecast the flow itself, at the leads that they were
    trained for: they err differently.

    Attributes:
        rollouts: the members, which differ in their weights alone.
        context: of the city.
        name: for tables and for the store.
        runtime: what runs the networks: `torch`, or `onnxruntime` and the precision.
        weather: dims `(time, variable)`, from when each value is known; of each forecast it sees what
            was known then.
        trees: None for none.
        share: of the trees beside the networks that see the same, 0 to 1.
        raw: networks that see frames alone; None for none.
        raw_weight: of the forecast that is theirs, 0 to 1; the rest is that of networks and trees.
    """

    rollouts: tuple[Rollout, ...]
    context: Covariates
    name: str
    runtime: str = "torch"
    weather: xr.DataArray | None = None
    trees: Trees | None = None
    share: float = 0.0
    raw: "NeuralForecaster | None" = None
    raw_weight: float = 0.0

    def with_trees(self, trees: Trees, share: float) -> "NeuralForecaster":
        """Returns the forecaster with trees that have a share in it."""
        return replace(self, name=f"{self.name}+trees", trees=trees, share=share)

    def with_raw(self, raw: "NeuralForecaster", share: float) -> "NeuralForecaster":
        """Returns the forecaster with networks that see frames alone and have a share in it."""
        return replace(self, raw=raw, raw_weight=share)

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the slots that it cannot do without, oldest first."""
        seen = {*self.rollouts[0].lags(horizon), *(self.trees.lags if self.trees else ())}
        if self.raw is not None:
            seen |= {*self.raw.lags(self._near(horizon))}
        return tuple(sorted(seen, reverse=True))

    def optional_lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the slots of days and weeks before, which may be missing."""
        first = self.rollouts[0]
        slots = {*self.context.optional_lags(first.lags(horizon), first.targets(horizon))}
        if self.trees is not None:
            slots |= {*self.context.optional_lags(self.trees.lags, self.trees.targets(horizon))}
        return tuple(sorted(slots, reverse=True))

    def __call__(self, history: History, horizon: int) -> xr.DataArray:
        """Returns the forecast of `horizon` steps, in vehicles; as `Forecaster` says."""
        first = self.rollouts[0]
        slots = first.lags(horizon), first.targets(horizon)
        seen = self.context.inputs(history, *slots, horizon, self.weather)
        shown = () if self.context.config.raw_flow else (seen.maps, seen.vector)
        outputs = sum(rollout(seen.frames, horizon, *shown) for rollout in self.rollouts)
        mean = np.asarray(outputs) / np.float32(len(self.rollouts)) * self.context.scale
        if self.trees is not None:
            slots = self.trees.lags, self.trees.targets(horizon)
            told = self.context.inputs(history, *slots, horizon, self.weather)
            theirs = self.trees.differences(told, self.context.scale)
            ours = mean[:, : theirs.shape[1]]
            ours += np.float32(self.share) * (theirs - ours)
        forecast = seen.base + mean
        if self.raw is not None:
            near = self._near(horizon)
            ours = forecast[:, :near] = np.maximum(forecast[:, :near], 0)
            theirs = self.raw(history, near).values
            forecast[:, :near] += np.float32(self.raw_weight) * (theirs - ours)
        return label_forecast(forecast, history)

    def _near(self, horizon: int) -> int:
        """Returns how many leads are those that networks were trained for, of which the shares are known."""
        return min(horizon, self.context.horizon)
