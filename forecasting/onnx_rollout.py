"""A recurrent network run by ONNX Runtime, one step at a time: serving without torch.

A file holds one step: the inputs `frame` `(b, c, y, x)` and the states `h0, c0, h1, c1, ...`
`(b, ...)`, float32 and 0 before the first frame; the outputs `next` and the new states `h0_next, ...`
in the same order. The batch is the first dim of all and free.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort


@dataclass(frozen=True)
class OnnxRollout:
    """An exported step as a `Rollout`.

    Attributes:
        session: of the step.
        history: frames that it sees.
    """

    session: Any
    history: int

    @classmethod
    def open(cls, model: Path | bytes, history: int) -> "OnnxRollout":
        """Returns the rollout of an exported step, from its file or its bytes.

        Raises:
            RuntimeError: it is no ONNX file.
        """
        options = ort.SessionOptions()
        source = model if isinstance(model, bytes) else str(model)
        return cls(ort.InferenceSession(source, options), history)

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the frames that the network sees, oldest first; see `Rollout`."""
        return tuple(range(self.history - 1, -1, -1))

    def __call__(self, frames: np.ndarray, horizon: int) -> np.ndarray:
        """Returns the forecast `(b, horizon, c, y, x)`; see `Rollout`."""
        batch, seen = frames.shape[:2]
        inputs = self.session.get_inputs()[1:]
        state = [np.zeros((batch, *one.shape[1:]), np.float32) for one in inputs]
        forecast: list[np.ndarray] = []
        for position in range(seen - 1 + horizon):
            frame = frames[:, position] if position < seen else forecast[-1]
            feeds = {one.name: value for one, value in zip(inputs, state, strict=True)}
            output, *state = self.session.run(None, {"frame": frame, **feeds})
            if position >= seen - 1:
                forecast.append(output)
        return np.stack(forecast, axis=1)
