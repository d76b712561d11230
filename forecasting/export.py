"""Export: a trained network as a file that serves without torch, checked before it may serve."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from forecasting.models.network import NetworkConfig

Step = Callable[[nn.Module, NetworkConfig], bytes]

EXPORTS: dict[str, Step] = {}
"""For each network that can be exported, what writes one step of it as ONNX."""


@dataclass(frozen=True)
class Export:
    """A network as ONNX.

    Attributes:
        model: content of the file.
        precision: of its matrix products, `float32` or `int8`.
        difference: the largest from what torch gives, of scaled frames.
    """

    model: bytes
    precision: str
    difference: float
