"""ST-ResNet: residual convolutions on the newest frames, on the same slot of past days and of weeks.

Source: Zhang, Zheng, Qi: Deep Spatio-Temporal Residual Networks for Citywide Crowd Flows Prediction,
AAAI 2017, arXiv 1610.00081, and their code, DeepST. Without its external features (weather, holidays)
and, as their code by default, without batch norm. Sizes at line ends: b batch, c channels, d width.
"""

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forecasting.networks.base import OUTPUTS, Autoregressive, Frames, NetworkConfig

WEEK = 7


@dataclass(frozen=True)
class STResNetConfig(NetworkConfig):
    """Size of an ST-ResNet; the defaults are the paper's best for TaxiBJ.

    Attributes:
        history: of no effect; `lags` follow from the next four.
        closeness: newest frames seen.
        period: days of which the slot that is forecast is seen.
        trend: weeks of which the slot that is forecast is seen.
        day: frames of a day; 0 where there are no days, nor then period and trend.
        residual_units: of two convolutions each, in every branch.
        width: d, features in a branch.
    """

    closeness: int = 3
    period: int = 1
    trend: int = 1
    day: int = 48
    residual_units: int = 12
    width: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.closeness < 1:
            raise ValueError(f"closeness {self.closeness} is less than 1")
        if min(self.period, self.trend, self.day) < 0:
            raise ValueError(
                f"period {self.period}, trend {self.trend} or day {self.day} is below 0"
            )
        if not self.day and (self.period or self.trend):
            raise ValueError(
                f"period {self.period} and trend {self.trend} need the frames of a day; "
                "set day, or both to 0"
            )

    @classmethod
    def quick(cls, frames: Frames) -> Self:
        """Returns two residual units of width 32, or 16 on more than 32 x 32 cells."""
        width = 16 if max(frames.grid) > 32 else 32
        return cls._of_days(frames, residual_units=2, width=width)

    @classmethod
    def paper(cls, frames: Frames) -> Self:
        """Returns the size published for TaxiBJ; without days, its closeness branch alone."""
        return cls._of_days(frames)

    @classmethod
    def _of_days(cls, frames: Frames, **sizes: int) -> Self:
        if frames.day:
            return cls.of(frames, output="identity", day=frames.day, **sizes)
        return cls.of(
            frames, output="identity", closeness=frames.history, period=0, trend=0, day=0, **sizes
        )

    @property
    def block(self) -> int:
        """One frame."""
        return 1

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the frames it sees to forecast `horizon` more, in steps back, oldest first."""
        leads = range(1, horizon + 1)
        far = {lag for lead in leads for lag in (*self.periods(lead), *self.trends(lead))}
        past = {lag for lag in far if lag >= 0}
        return tuple(sorted(past | set(range(self.closeness)), reverse=True))

    def periods(self, lead: int) -> list[int]:
        """Returns the lags of the days before the frame `lead` steps ahead, oldest first.

        One below 0 is itself ahead: `-lag` steps.
        """
        return [days * self.day - lead for days in range(self.period, 0, -1)]

    def trends(self, lead: int) -> list[int]:
        """Returns the lags of the weeks before the frame `lead` steps ahead, oldest first."""
        return [weeks * WEEK * self.day - lead for weeks in range(self.trend, 0, -1)]


class STResNet(Autoregressive):
    """A branch for closeness, period and trend each, summed with a weight for every cell."""

    def __init__(self, config: STResNetConfig) -> None:
        super().__init__()
        self.config = config
        seen = [count for count in (config.closeness, config.period, config.trend) if count]
        self.branches = nn.ModuleList(Branch(config, count) for count in seen)
        # As published: a single branch has no weights, and they begin between 0 and 1.
        self.weights = nn.ParameterList(
            torch.rand(config.channels, *config.grid) for _ in seen if len(seen) > 1
        )

    def forward(self, frames: Tensor, horizon: int) -> Tensor:
        """Returns the forecast, made step by step from its own outputs where they are newest.

        Args:
            frames: those that `config.lags(horizon)` names, in that order, `(b, t, c, y, x)`;
                without period and trend any other number as well.
            horizon: number of frames to forecast, at least 1.

        Returns:
            `(b, horizon, c, y, x)`
        """
        config = self.config
        at: dict[int, Tensor] = {}
        if config.day:
            at = dict(zip(config.lags(horizon), frames.unbind(1), strict=True))
        newest = list(frames.unbind(1))
        newest = newest[:1] * (config.closeness - len(newest)) + newest[-config.closeness :]
        for lead in range(1, horizon + 1):
            parts = [
                newest[-config.closeness :],
                [at[lag] for lag in config.periods(lead)],
                [at[lag] for lag in config.trends(lead)],
            ]
            made = self._next([torch.cat(part, dim=1) for part in parts if part])
            at[-lead] = self.to_frames(made[:, None], newest[-1][:, None])[:, 0]
            newest.append(at[-lead])
        return torch.stack(newest[-horizon:], dim=1)

    def _next(self, parts: list[Tensor]) -> Tensor:
        """Returns one frame `(b, c, y, x)` from the frames of each branch, as channels."""
        made = [branch(part) for branch, part in zip(self.branches, parts, strict=True)]
        if len(made) > 1:
            made = [weight * part for weight, part in zip(self.weights, made, strict=True)]
        return OUTPUTS[self.config.output](torch.stack(made).sum(dim=0))


class Branch(nn.Module):
    """Convolution, residual units, convolution, all 3x3; ReLU before each but the first."""

    def __init__(self, config: STResNetConfig, count: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(count * config.channels, config.width, kernel_size=3, padding=1)
        self.units = nn.Sequential(
            *(ResidualUnit(config.width) for _ in range(config.residual_units))
        )
        self.leave = nn.Conv2d(config.width, config.channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns `(b, c, y, x)` for the frames as channels."""
        output: Tensor = self.leave(F.relu(self.units(self.enter(x))))
        return output


class ResidualUnit(nn.Module):
    """Two convolutions after a ReLU each, and what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution1 = nn.Conv2d(width, width, kernel_size=3, padding=1)
        self.convolution2 = nn.Conv2d(width, width, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns `(b, d, y, x)` for `(b, d, y, x)`."""
        output: Tensor = x + self.convolution2(F.relu(self.convolution1(F.relu(x))))
        return output
