"""Networks: `(frames (b, t, c, y, x), horizon) -> frames`, one file each."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from forecasting.models.swinlstm import SwinLSTM, SwinLSTMConfig


class Network(NamedTuple):
    """How a network is made: its configuration, a frozen dataclass, and the module it builds."""

    config: Callable[..., Any]
    build: Callable[[Any], nn.Module]


NETWORKS: dict[str, Network] = {
    "swinlstm-b": Network(SwinLSTMConfig, SwinLSTM),
}
