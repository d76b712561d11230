"""What runs a network over a horizon: the interface of torch and ONNX Runtime alike."""

from typing import Protocol

import numpy as np


class Rollout(Protocol):
    """A trained network as a function of arrays."""

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the frames that it sees to forecast `horizon` more, in steps back, oldest first."""

    def targets(self, horizon: int) -> tuple[int, ...]:
        """Returns the steps after the newest frame that it is told of, 1 to `horizon` among them."""

    def __call__(self, frames: np.ndarray, horizon: int, *shown: np.ndarray) -> np.ndarray:
        """Returns the forecast of each sequence.

        Args:
            frames: float32, scaled, `(b, t, c, y, x)`, t frames as `lags` names them; any b.
            horizon: frames to forecast, 1 or more.
            shown: to a network with a context, of each step that `targets` names: maps
                `(b, s, m, y, x)` and numbers `(b, s, v)`, float32.

        Returns:
            float32 `(b, horizon, c, y, x)`
        """
