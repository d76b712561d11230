"""Residual: a recurrent network that forecasts the change from one frame to the next."""

from typing import Any

import torch
from torch import Tensor, nn

from forecasting.models.rollout import rollout


class Residual(nn.Module):
    """Adds the newest frame to each output of `network`, times a gain that is learnt.

    The gain begins at 0: untrained, it is persistence exactly (after ReZero, arXiv 2003.04887).
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, frames: Tensor, horizon: int) -> Tensor:
        """Returns `(b, t - 1 + horizon, c, y, x)` for `(b, t, c, y, x)`, as `rollout` does."""
        return rollout(self.step, frames, horizon)

    def step(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Returns the next frame `(b, c, y, x)` and the state of the network within."""
        change, state = self.network.step(frame, state)
        return frame + self.gain * change, state
