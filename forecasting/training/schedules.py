"""Schedules: the learning rate as part of the highest, by the part of the training that is done."""

import math
from collections.abc import Callable


def one_cycle(progress: float, warm_up: float) -> float:
    """Returns the rate as part of the highest: a linear warm-up, then a cosine down to 1 %."""
    warm = 1.0 if warm_up == 0 else min(1.0, 0.02 + progress / warm_up)
    return warm * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


def constant(progress: float, warm_up: float) -> float:
    """Returns the highest rate throughout, after a linear warm-up."""
    return 1.0 if warm_up == 0 else min(1.0, 0.02 + progress / warm_up)


SCHEDULES: dict[str, Callable[[float, float], float]] = {
    "one-cycle": one_cycle,
    "constant": constant,
}
"""The learning rate as part of the highest, by the part of the training that is done."""
