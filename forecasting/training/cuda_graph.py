"""A step of training captured as one CUDA graph."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from forecasting.training.batches import Windows

WARM_UP = 3
"""Steps before one is captured: enough for all that torch makes on first use."""


class CudaGraphStep:
    """A step on a GPU as one CUDA graph: one launch in place of thousands.

    As torch's notes on CUDA graphs ask of a whole training step: some steps on a side stream first,
    then the capture on that stream, with no gradients there, so that they are made in the graph's own
    memory; from then on the inputs are copied to where the captured ones were. The steps before the
    capture are steps of the training; capturing itself computes nothing.
    """

    def __init__(self, work: Callable[[Windows], None], forget: Callable[[], None]) -> None:
        """Prepares to capture.

        Args:
            work: a step on windows, always of the same shapes.
            forget: drops the gradients.
        """
        self._work, self._forget = work, forget
        self._stream = torch.cuda.Stream()
        self._warm = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, windows: Windows) -> None:
        """Makes a step."""
        if self._warm < WARM_UP:
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                self._forget()
                self._work(windows)
            torch.cuda.current_stream().wait_stream(self._stream)
            self._warm += 1
            return
        if self._graph is None:
            self._windows = tuple(part.clone() for part in windows)
            graph = torch.cuda.CUDAGraph()
            self._forget()
            with torch.cuda.graph(graph, stream=self._stream):
                self._work(self._windows)
            self._graph = graph
        for kept, part in zip(self._windows, windows, strict=True):
            kept.copy_(part)
        self._graph.replay()

    def drop(self) -> None:
        """Forgets the graph and its memory; the next steps warm up and capture anew."""
        self._graph, self._warm = None, 0


def _persistent_buffers(network: nn.Module) -> list[Tensor]:
    """Returns the buffers that are weights too, such as the running means of a normalization."""
    parameters = {name for name, _ in network.named_parameters()}
    state = network.state_dict(keep_vars=True)
    return [value for name, value in state.items() if name not in parameters]
