"""Computing: on what and how a network is trained; what is computed stays the same."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from data.errors import FlowcastError
from forecasting.networks.base import Recurrent

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""What matrix products are computed in; weights and their updates are float32 throughout."""


@dataclass(frozen=True)
class Computing:
    """How a training runs; it may change between a training and its resumption.

    Attributes:
        device: `auto`, `cpu`, `cuda`.
        precision: key in `PRECISIONS`.
        compiled: whether torch compiles the network, and on a GPU captures the whole step.
        recompute: whether inner values are computed again on the way back in place of kept, for
            less memory and about a third more time (gradient checkpointing, arXiv 1604.06174).
    """

    device: str = "auto"
    precision: str = "float32"
    compiled: bool = False
    recompute: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r} is none of {', '.join(PRECISIONS)}")


def pick_device(name: str) -> torch.device:
    """Returns the device called `name`; `auto` is the GPU where there is one.

    Raises:
        FlowcastError: this machine has no such device.
    """
    chosen = name
    if name == "auto":
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(chosen)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise FlowcastError(
            f"this machine has no device {name!r}; use --device auto, cpu or cuda"
        ) from error
    return device


@contextmanager
def prepared(network: nn.Module, computing: Computing) -> Iterator[None]:
    """Sets what `computing` asks of a network, and takes it back.

    Compiled is one step of a recurrence, which is the same at every frame, or else the whole network.

    Raises:
        FlowcastError: there is no compiler, or nothing to recompute by.
    """
    if computing.recompute and not isinstance(network, Recurrent):
        raise FlowcastError(
            "--recompute is for networks that take one frame at a time, which this one does not; "
            "leave it out"
        )
    if computing.compiled and shutil.which(os.environ.get("CXX", "g++")) is None:
        raise FlowcastError(
            "torch cannot compile the network, for there is no C++ compiler; install g++, or train "
            "without --compile"
        )
    changes: dict[str, Any] = {}
    if computing.recompute:
        changes["recompute"] = True
    if computing.compiled:
        what = "step" if isinstance(network, Recurrent) else "forward"
        changes[what] = torch.compile(getattr(network, what), dynamic=False)
    own = vars(network)
    before = {name: own[name] for name in changes if name in own}
    own.update(changes)
    try:
        yield
    finally:
        for name in changes:
            del own[name]
        own.update(before)
