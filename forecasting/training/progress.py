"""The meter: what a training tells its host, without a GPU being waited for."""

import threading

import torch
from torch import Tensor

from forecasting.training.step import Step

LAG = 16
"""Steps after which a figure of a GPU is looked at: by then it is there, unless the host is far ahead.

A fixed number, so that all processes decide by the same figures at the same step.
"""


class Progress:
    """The figures of the running epoch, on a GPU as they were some steps ago.

    Attributes:
        steps: that were made and were finite.
        loss: their mean.
        bad: whether one was not finite.
        clock: seconds that the first of several processes counts.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._several = step.group.size > 1
        self._late = step.state.device.type == "cuda"
        if self._late:
            self._host = torch.zeros(4, dtype=torch.float64, pin_memory=True)
            self._copied = torch.cuda.Event()
        self._asked = 0  # the step whose figures are on their way, 0 for none
        self._stopping = False
        self.bad = False
        self._done = step.state.step
        self._take(self._figures().tolist(), self._done)

    def look(self, done: int) -> None:
        """Looks at the figures after `done` steps, or at those that have arrived."""
        self._done = done
        if not self._late:
            self._take(self._figures().tolist(), done)
            return
        if self._asked and done - self._asked >= LAG:
            self._copied.synchronize()
            self._take(self._host.tolist(), self._asked)
            self._asked = 0
        if not self._asked:
            self._host.copy_(self._figures(), non_blocking=True)
            self._copied.record()
            self._asked = done

    def settle(self) -> None:
        """Waits for the figures of the newest step."""
        self._take(self._figures().tolist(), self._done)

    def stopping(self, stop: threading.Event | None) -> bool:
        """Returns whether to stop: at once where this process is alone, else with all others."""
        if self._several:
            return self._stopping
        return stop is not None and stop.is_set()

    def _figures(self) -> Tensor:
        return torch.cat([self._step.state.sums, self._step.shared])

    def _take(self, figures: list[float], done: int) -> None:
        total, steps, stopping, self.clock = figures
        self.steps = int(steps)
        self.loss = total / steps if steps else 0.0
        self.bad = self.steps < done
        self._stopping = stopping > 0
