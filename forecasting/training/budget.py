"""The clock of a training: how many epochs there will be, and how far it is."""

import math
import time
from collections.abc import Callable

from forecasting.training.schedules import SCHEDULES
from forecasting.training.state import TrainingState


class Budget:
    """Plans the epochs: as many as the configuration says, or as fit into its minutes."""

    def __init__(
        self,
        state: TrainingState,
        shared: bool = False,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begins to count.

        Args:
            state: of the training.
            shared: whether several processes go by one budget: then it stands until `set`.
            timer: seconds, of which differences count.
        """
        self._state, self._shared, self._timer = state, shared, timer
        self._limit = math.inf if state.config.minutes is None else state.config.minutes * 60
        self._before = self._finished() + state.seconds
        self._begun = timer()
        self._told = self._before

    def _finished(self) -> float:
        return self._state.history[-1].seconds if self._state.history else 0.0

    def own(self) -> float:
        """Returns the seconds that this process counts, the training's earlier parts included."""
        return self._before + self._timer() - self._begun

    def set(self, seconds: float) -> None:
        """Sets a shared budget, which never goes back."""
        self._told = max(self._told, seconds)

    def seconds(self) -> float:
        """Returns how long the training has taken, its earlier parts included."""
        return self._told if self._shared else self.own()

    def running(self) -> float:
        """Returns how long the running epoch has taken."""
        return self.seconds() - self._finished()

    def epochs(self, share: float = 0.0) -> int:
        """Returns how many epochs there will be, `share` of the running one being done."""
        done = len(self._state.history)
        if math.isinf(self._limit) or done + share == 0:
            return self._state.config.epochs
        # What is left of an epoch by a quarter or less is worth beginning another.
        fit = int(self._limit / max(self.seconds() / (done + share), 1e-9) + 0.25)
        return min(self._state.config.epochs, max(fit, math.ceil(done + share)))

    def another(self) -> bool:
        """Returns whether another epoch is to begin, or one that was broken off to go on."""
        done = len(self._state.history)
        if done >= self._state.config.epochs or self._state.exhausted():
            return False
        return self._state.step > 0 or done < self.epochs()

    def over(self) -> bool:
        """Returns whether the minutes are spent."""
        return self.seconds() > self._limit

    def progress(self, share: float) -> float:
        """Returns the part of the whole training that is done, the running epoch included."""
        by_epochs = (len(self._state.history) + share) / self._state.config.epochs
        return min(1.0, max(by_epochs, self.seconds() / self._limit))

    def rate(self, share: float) -> float:
        """Returns the learning rate as part of the highest."""
        config = self._state.config
        return SCHEDULES[config.schedule](self.progress(share), config.warm_up)

    def left(self, share: float) -> float:
        """Returns the seconds until the end at the speed so far."""
        progress = self.progress(share)
        if progress == 0:
            return 0.0
        return max(
            0.0, min(self.seconds() * (1 - progress) / progress, self._limit - self.seconds())
        )
