"""What networks have in common: a configuration that knows the frames, and how recurrent ones run."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "identity": Tensor.clone,
}


@dataclass(frozen=True)
class Frames:
    """The frames that a network is to be built for.

    Attributes:
        channels: c.
        grid: rows and columns.
        history: frames that the network sees.
        horizon: frames that it is trained to forecast.
        output: key in `OUTPUTS`: `sigmoid` for frames in [0, 1], `identity` for those without bounds;
            networks that are published without bounds have none.
        day: frames of a day, 0 where there are no days.
        data: key in `DATASETS` whose published size is meant, "" for none.
    """

    channels: int
    grid: tuple[int, int]
    history: int
    horizon: int
    output: str = "sigmoid"
    day: int = 0
    data: str = ""


@dataclass(frozen=True)
class NetworkConfig:
    """What every network's configuration holds; each network adds its own sizes.

    Attributes:
        channels: c, of a frame.
        grid: cells of a frame, `(y, x)`.
        history: frames that the network sees; a recurrent one takes any other number as well.
        output: key in `OUTPUTS`.
    """

    channels: int = 2
    grid: tuple[int, int] = (32, 32)
    history: int = 4
    output: str = "sigmoid"

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise ValueError(f"output {self.output!r} is none of {', '.join(OUTPUTS)}")

    @classmethod
    def of(cls, frames: Frames, **sizes: Any) -> Self:
        """Returns the configuration for `frames` with the given sizes, else the defaults."""
        known = {"history": frames.history, "output": frames.output}
        return cls(channels=frames.channels, grid=frames.grid, **{**known, **sizes})

    @classmethod
    def quick(cls, frames: Frames) -> Self:
        """Returns a size that learns within minutes on two cores."""
        return cls.of(frames)

    @classmethod
    def paper(cls, frames: Frames) -> Self:
        """Returns the published size for `frames.data`, or the nearest to it."""
        return cls.of(frames)

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the frames it sees to forecast `horizon` more, in steps back, oldest first."""
        return tuple(range(self.history - 1, -1, -1))

    @property
    def block(self) -> int:
        """Frames that it makes at once."""
        return self.history

    def targets(self, horizon: int) -> tuple[int, ...]:
        """Returns the steps after the newest frame whose covariates it takes, in the order of time.

        They are those that it makes, beyond the horizon too: a forecast must not depend on its length.
        """
        made = -(-horizon // self.block) * self.block
        return tuple(range(1, made + 1))


class RecurrentConfig(NetworkConfig):
    """What the configurations of recurrent networks hold: they put out a frame for each they see."""

    @property
    def block(self) -> int:
        """One frame."""
        return 1

    def targets(self, horizon: int) -> tuple[int, ...]:
        """Returns the steps that it puts out, those within the past too, in the order of time."""
        return tuple(range(2 - self.history, horizon + 1))


class Recurrent(nn.Module, ABC):
    """A network that takes one frame at a time and keeps a state.

    Attributes:
        recompute: whether training keeps only the states between the steps and computes each step
            again on the way back: less memory for more time (arXiv 1604.06174).
    """

    recompute: bool = False

    @abstractmethod
    def step(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Returns the next frame `(b, c, y, x)` and the new state; the first state is None."""

    def forward(self, frames: Tensor, horizon: int, *covariates: Tensor) -> Tensor:
        """Returns every one-step-ahead output over the past and `horizon - 1` steps beyond.

        The true frames are fed while there are any, then the network's own outputs (SwinLSTM,
        arXiv 2308.09891, section 3.3): the last `horizon` outputs are the forecast.

        Args:
            frames: `(b, t, c, y, x)`, t at least 1.
            horizon: number of frames to forecast, at least 1.
            covariates: of each step, `(b, t - 1 + horizon, ...)`; none for a network on frames alone.

        Returns:
            `(b, t - 1 + horizon, c, y, x)`
        """
        state = None
        outputs: list[Tensor] = []
        for position in range(frames.shape[1] - 1 + horizon):
            frame = frames[:, position] if position < frames.shape[1] else outputs[-1]
            output, state = self._step(frame, state, *(one[:, position] for one in covariates))
            outputs.append(output)
        return torch.stack(outputs, dim=1)

    def _step(self, frame: Tensor, state: Any, *covariates: Tensor) -> tuple[Tensor, Any]:
        step: Callable[..., tuple[Tensor, Any]] = self.step  # some take covariates
        if self.recompute and self.training:
            made: tuple[Tensor, Any] = checkpoint(
                step, frame, state, *covariates, use_reentrant=False
            )
            return made
        return step(frame, state, *covariates)


class Autoregressive(nn.Module):
    """A network that makes its frames itself and is fed them where they serve as input.

    Attributes:
        to_frames: makes frames of what the network puts out, `(b, s, c, y, x)`, and of the newest
            frame that it saw, `(b, 1, c, y, x)`, before they are fed back; the output as it is,
            unless a wrapper such as `residual` sets it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.to_frames: Callable[[Tensor, Tensor], Tensor] = unchanged


def unchanged(output: Tensor, newest: Tensor) -> Tensor:
    """Returns the output."""
    return output


def block_by_block(block: Callable[[Tensor], Tensor], frames: Tensor, horizon: int) -> Tensor:
    """Returns `horizon` frames by a network that makes several at once, fed its own where it must.

    Args:
        block: takes `(b, t, c, y, x)` and returns the frames that follow, `(b, s, c, y, x)`.
        frames: `(b, t, c, y, x)`.
        horizon: number of frames to forecast, at least 1.

    Returns:
        `(b, horizon, c, y, x)`
    """
    history = frames.shape[1]
    made = block(frames)
    while made.shape[1] < horizon:
        seen = torch.cat([frames, made], dim=1)[:, -history:]
        made = torch.cat([made, block(seen)], dim=1)
    return made[:, :horizon]
