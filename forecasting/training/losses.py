"""Losses: what a training makes small, a mean over all that a network puts out."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

DELTA = 0.3
"""Weighted error from which on Huber's loss grows linearly, in frames' units."""


def squared(outputs: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
    """Returns the mean squared error, the paper's loss."""
    if weight is None:
        return F.mse_loss(outputs, targets)
    return F.mse_loss(outputs * weight, targets * weight)


def huber(outputs: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
    """Returns Huber's loss, which large errors do not rule: squares up to `DELTA`, then a line.

    Source: Huber: Robust Estimation of a Location Parameter, 1964. Divided by `DELTA`, so that its
    gradient is of the size of an absolute error's.
    """
    if weight is not None:
        outputs, targets = outputs * weight, targets * weight
    return F.huber_loss(outputs, targets, delta=DELTA) / DELTA


LOSSES: dict[str, Callable[..., Tensor]] = {"squared": squared, "huber": huber}
"""Each takes outputs, targets and what their errors are multiplied by."""


def loss_of(name: str, weight: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns the loss called `name` of outputs and targets `(b, s, c, y, x)`."""
    return partial(LOSSES[name], weight=weight)
