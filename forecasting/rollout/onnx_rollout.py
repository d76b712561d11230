"""A recurrent network run by ONNX Runtime, one step at a time: serving without torch.

A file holds one step: the inputs `frame` `(b, c, y, x)` and the states `h0, c0, h1, c1, ...`
`(b, ...)`, float32 and 0 before the first frame; the outputs `next` and the new states `h0_next, ...`
in the same order. Where the network is shown more, `maps` `(b, m, y, x)` and `numbers` `(b, v)` of the
next frame stand between. The batch is the first dim of all and free.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from forecasting.profiling.memory import available_cores

SHOWN = ("maps", "numbers")
"""Inputs of a step that tell of the next frame."""
PIECE = 4
"""Windows that a worker runs at a time: it bounds the memory, and 1 to 8 take the same time each."""


class OnnxRollout:
    """An exported step as a `Rollout`.

    A single piece is run by all threads together, a larger stack by as many workers of one thread
    each, which wait for nobody.

    Attributes:
        history: frames that it sees.
        threads: that it uses, at least 1.
    """

    def __init__(self, model: str | bytes, history: int, threads: int) -> None:
        self._model = model
        self.history, self.threads = history, threads

    @classmethod
    def open(cls, model: Path | bytes, history: int, threads: int | None = None) -> "OnnxRollout":
        """Returns the rollout of an exported step, from its file or its bytes.

        Args:
            model: as `export` wrote it.
            history: frames that it sees.
            threads: to use, by default one for each core that the process may use.

        Raises:
            RuntimeError: it is no ONNX file.
        """
        source = model if isinstance(model, bytes) else str(model)
        rollout = cls(source, history, threads or available_cores())
        rollout._together.get_inputs()
        return rollout

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the frames that the network sees, oldest first; see `Rollout`."""
        return tuple(range(self.history - 1, -1, -1))

    def targets(self, horizon: int) -> tuple[int, ...]:
        """Returns the steps that the network is told of; see `Rollout`."""
        return tuple(range(2 - self.history, horizon + 1))

    def __call__(self, frames: np.ndarray, horizon: int, *shown: np.ndarray) -> np.ndarray:
        """Returns the forecast `(b, horizon, c, y, x)`; see `Rollout`."""
        b, _, *frame = frames.shape
        forecast = np.empty((b, horizon, *frame), dtype=np.float32)
        size = PIECE if self.threads == 1 else max(1, min(PIECE, b // self.threads))
        given = frames, *shown
        pieces = [slice(start, start + size) for start in range(0, b, size)]
        if len(pieces) <= 1 or self.threads == 1:
            for piece in pieces:
                _run(self._together, forecast[piece], *(one[piece] for one in given))
            return forecast
        session = self._alone
        with ThreadPoolExecutor(min(self.threads, len(pieces))) as workers:
            waiting = [
                workers.submit(_run, session, forecast[piece], *(one[piece] for one in given))
                for piece in pieces
            ]
            for one in waiting:
                one.result()
        return forecast

    @cached_property
    def _together(self) -> Any:
        return session_of(self._model, self.threads)

    @cached_property
    def _alone(self) -> Any:
        return session_of(self._model, 1)


def session_of(model: str | bytes, threads: int) -> Any:
    """Returns a session of ONNX Runtime for a file or its bytes.

    Raises:
        RuntimeError: it is no ONNX file.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads spin on for some 40 ms after a step, so that the next one finds them awake: 5 to 10 %.
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # those of the runtime have no base of their own
        raise RuntimeError(f"the exported model cannot be opened: {error}") from error


def _run(session: Any, forecast: np.ndarray, frames: np.ndarray, *shown: np.ndarray) -> None:
    """Fills `forecast` `(b, horizon, c, y, x)` for `frames` `(b, t, c, y, x)` and what is shown."""
    b, seen = frames.shape[:2]
    names = [one.name for one in session.get_outputs()]
    inputs = session.get_inputs()
    told = [one for one in inputs if one.name in SHOWN]
    states = [one for one in inputs if one.name not in ("frame", *SHOWN)]
    state: Sequence[Any] = [_value(np.zeros((b, *one.shape[1:]), np.float32)) for one in states]
    output: Any = None
    for position in range(seen - 1 + forecast.shape[1]):
        frame = _value(frames[:, position]) if position < seen else output
        feeds = {one.name: value for one, value in zip(states, state, strict=True)}
        feeds |= {one.name: _value(shown[SHOWN.index(one.name)][:, position]) for one in told}
        # As values of the runtime the states and the frames fed back are not copied.
        output, *state = session.run_with_ort_values(names, {"frame": frame, **feeds})
        if position >= seen - 1:
            forecast[:, position - seen + 1] = output.numpy()


def _value(array: np.ndarray) -> Any:
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array, dtype=np.float32))
