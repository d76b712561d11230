"""Residual: a network that forecasts the change from the newest frame, for frames without bounds."""

from typing import Any

import torch
from torch import Tensor, nn

from forecasting.networks.base import Autoregressive, Recurrent


class StepResidual(Recurrent):
    """Adds the newest frame to each output of a recurrent `network`, times a gain that is learnt.

    The gain begins at 0: untrained, it is persistence exactly (after ReZero, arXiv 2003.04887).
    """

    def __init__(self, network: Recurrent) -> None:
        super().__init__()
        self.network = network
        self.gain = nn.Parameter(torch.zeros(()))

    def step(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Returns the next frame `(b, c, y, x)` and the state of the network within."""
        change, state = self.network.step(frame, state)
        return frame + self.gain * change, state


class AutoregressiveResidual(nn.Module):
    """Adds the newest frame to what a self-fed `network` puts out, before it is fed back."""

    def __init__(self, network: Autoregressive) -> None:
        super().__init__()
        self.network = network
        self.gain = nn.Parameter(torch.zeros(()))
        network.to_frames = self._changed

    def forward(self, frames: Tensor, horizon: int) -> Tensor:
        """Returns `(b, horizon, c, y, x)` for `(b, t, c, y, x)`."""
        forecast: Tensor = self.network(frames, horizon)
        return forecast

    def _changed(self, change: Tensor, newest: Tensor) -> Tensor:
        return newest + self.gain * change


class Residual(nn.Module):
    """Adds the newest frame to all outputs of a `network` that makes its forecast at once."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, frames: Tensor, horizon: int) -> Tensor:
        """Returns `(b, horizon, c, y, x)` for `(b, t, c, y, x)`."""
        change: Tensor = self.network(frames, horizon)[:, -horizon:]
        return frames[:, -1:] + self.gain * change


def residual(network: nn.Module) -> nn.Module:
    """Returns `network` as one that forecasts changes; what is fed back to it are whole frames."""
    if isinstance(network, Recurrent):
        return StepResidual(network)
    return (
        AutoregressiveResidual(network)
        if isinstance(network, Autoregressive)
        else Residual(network)
    )
