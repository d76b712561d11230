"""Rollout: how a recurrent network turns past frames into coming ones."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]


def rollout(step: Step, frames: Tensor, horizon: int) -> Tensor:
    """Returns every one-step-ahead output over the past frames and `horizon - 1` steps beyond.

    The true frames are fed while there are any, then the network's own outputs (SwinLSTM,
    arXiv 2308.09891, section 3.3): the last `horizon` outputs are the forecast.

    Args:
        step: takes a frame `(b, c, y, x)` and a state (None at first), returns the next frame and
            the new state.
        frames: `(b, t, c, y, x)`, t at least 1.
        horizon: number of frames to forecast, at least 1.

    Returns:
        `(b, t - 1 + horizon, c, y, x)`
    """
    state = None
    outputs: list[Tensor] = []
    for position in range(frames.shape[1] - 1 + horizon):
        frame = frames[:, position] if position < frames.shape[1] else outputs[-1]
        output, state = step(frame, state)
        outputs.append(output)
    return torch.stack(outputs, dim=1)
