"""SwinLSTM-direct: the cells of a SwinLSTM-B see the past, and their last output makes every lead at once.

The paper's network is fed its own forecasts instead; this one is what that is compared with. Sizes at
line ends: b batch, t frames, s frames made at once, c channels.
"""

from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor

from forecasting.networks.base import Autoregressive, Frames, NetworkConfig, block_by_block
from forecasting.networks.swinlstm_b import SwinLSTM, SwinLSTMConfig
from forecasting.networks.swinlstm_parts import RECONSTRUCTIONS


@dataclass(frozen=True)
class SwinLSTMDirectConfig(SwinLSTMConfig):
    """Size of a SwinLSTM-direct.

    Attributes:
        ahead: s, frames that it makes at once; for more of them it is fed its own.
    """

    ahead: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ahead < 1:
            raise ValueError(f"{self.ahead} frames ahead are less than 1")

    @classmethod
    def of(cls, frames: Frames, **sizes: Any) -> Self:
        """Returns the configuration for `frames` with the given sizes, else the defaults."""
        return super().of(frames, **{"ahead": frames.horizon, **sizes})

    @property
    def block(self) -> int:
        """Those that it makes at once."""
        return self.ahead

    def targets(self, horizon: int) -> tuple[int, ...]:
        """Returns the steps after the newest frame that it makes."""
        return NetworkConfig.targets(self, horizon)


class SwinLSTMDirect(Autoregressive):
    """A SwinLSTM-B whose reconstruction has the channels of all leads."""

    def __init__(self, config: SwinLSTMDirectConfig) -> None:
        super().__init__()
        self.config = config
        self.recurrent = SwinLSTM(config)
        self.recurrent.reconstruct = RECONSTRUCTIONS[config.reconstruction](
            config.width, config.ahead * config.channels, config.patch
        )

    def forward(self, frames: Tensor, horizon: int) -> Tensor:
        """Returns `(b, horizon, c, y, x)` for `(b, t, c, y, x)`, t being the history."""
        return block_by_block(self._following, frames, horizon)

    def _following(self, frames: Tensor) -> Tensor:
        """Returns the s frames that follow."""
        state = None
        for frame in frames.unbind(1):
            output, state = self.recurrent.step(frame, state)
        ahead = output.unflatten(1, (self.config.ahead, self.config.channels))
        return self.to_frames(ahead, frames[:, -1:])
