"""Any network of frames, given the covariates of each step that it forecasts.

The network stays as published; it works on features in place of frames. An input head, a convolution,
makes the features of a frame, of the maps and numbers of its step and of learned features of the cell. An
output head makes of them and of the network's output the change to the newest frame. Where the expected
flow grows, differences from it grow alike: the head sees, and the forecast keeps in part, the newest frame
grown as well. How much of the cell, of its neighbors and of the whole city is kept may differ by cell and
step, so that the network follows days like none before. The forecast itself is fed back. Sizes at line
ends: b batch, t frames, s steps, c channels, m maps, v numbers, d features.

Versions on disk name the weights by the attributes `doors`, `enter`, `told`, `leave`, `keep`, `place`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forecasting.networks.base import NetworkConfig, Recurrent

CELL_FEATURES = 4
"""Learned features of every cell."""
INITIAL_PERSISTENCE = 0.8
"""Part of the newest frame that an untrained network keeps."""


def cell(frame: Tensor) -> Tensor:
    """Returns the frame."""
    return frame


def neighborhood(frame: Tensor) -> Tensor:
    """Returns the mean of each cell and its eight neighbors, those beyond the edge being 0."""
    return F.avg_pool2d(frame, kernel_size=3, stride=1, padding=1)


def city(frame: Tensor) -> Tensor:
    """Returns the mean of all cells, `(b, c, 1, 1)`."""
    return frame.mean(dim=(2, 3), keepdim=True)


KEPT_MEANS: tuple[Callable[[Tensor], Tensor], ...] = (cell, neighborhood, city)
"""Of what a forecast may keep a part, from a frame `(b, c, y, x)`."""


@dataclass(frozen=True)
class CovariateShape:
    """The covariates of a step, and how a network takes them.

    Attributes:
        maps: m, channels of the maps of a step.
        numbers: v, of a step.
        place: whether cells have learned features.
        features: d, that the network takes and puts out for every cell.
        dropout: probability that a whole map, or a number, is 0 in a window in training.
        kernel: cells along the side of the heads' convolutions, an odd number.
        growth: whether the last c maps are the relative growth of the expected flow.
        shares: whether the network puts out, by cell, the part to keep of each of `KEPT_MEANS`.
    """

    maps: int
    numbers: int
    place: bool = True
    features: int = 16
    dropout: float = 0.1
    kernel: int = 1
    growth: bool = False
    shares: bool = False


def inner_config(config: NetworkConfig, covariates: CovariateShape) -> NetworkConfig:
    """Returns the configuration of the network on features, for frames of `config`."""
    return replace(config, channels=covariates.features, output="identity")


class Adapter(nn.Module):
    """Input and output heads around a network.

    Attributes:
        enter: input head.
        told: input head of the numbers.
        leave: output head.
        keep: part of the newest frame that is kept, by channel, and of the same frame grown.
        place: learned features of the cells.
    """

    def __init__(self, config: NetworkConfig, covariates: CovariateShape) -> None:
        super().__init__()
        d, c = covariates.features, config.channels
        cell_features = CELL_FEATURES if covariates.place else 0
        frames = 1 + covariates.growth  # the newest one, and grown
        self.dropout = covariates.dropout
        self.place = nn.Parameter(torch.zeros(cell_features, *config.grid))
        same: dict[str, Any] = {"kernel_size": covariates.kernel, "padding": "same"}
        self.enter = nn.Conv2d(frames * c + covariates.maps + cell_features, d, **same)
        self.told = nn.Linear(covariates.numbers, d)
        outputs = c * (1 + len(KEPT_MEANS) * frames * covariates.shares)
        self.leave = nn.Sequential(
            nn.Conv2d(2 * d, 2 * d, **same), nn.GELU(), nn.Conv2d(2 * d, outputs, kernel_size=1)
        )
        self.keep = nn.Parameter(torch.full((frames * c, 1, 1), INITIAL_PERSISTENCE / frames))
        for value in self.leave[-1].parameters():
            nn.init.zeros_(value)

    def features(self, frame: Tensor, maps: Tensor, numbers: Tensor) -> Tensor:
        """Returns `(b, d, y, x)` of a frame `(b, c, y, x)` with maps `(b, m, y, x)`, numbers `(b, v)`."""
        place = self.place.expand(len(frame), -1, -1, -1)
        of_numbers = self.told(self._dropped(numbers))[..., None, None]
        frames = self.with_growth(frame, maps)
        inputs = torch.cat([frames, self._dropped(maps), place.to(frame.dtype)], dim=1)
        features: Tensor = self.enter(inputs) + of_numbers
        return features

    def forecast(self, newest: Tensor, maps: Tensor, output: Tensor, features: Tensor) -> Tensor:
        """Returns the next frame `(b, c, y, x)` of the newest one and features `(b, d, y, x)`."""
        change: Tensor = self.leave(torch.cat([output, features], dim=1))
        frames, c = self.with_growth(newest, maps), newest.shape[1]
        kept: Tensor = self.keep * frames
        if change.shape[1] > c:
            parts = change[:, c:].chunk(len(KEPT_MEANS), dim=1)
            for part, mean in zip(parts, KEPT_MEANS, strict=True):
                kept = kept + part * mean(frames)
        forecast: Tensor = kept.unflatten(1, (-1, c)).sum(dim=1) + change[:, :c]
        return forecast

    def with_growth(self, frame: Tensor, maps: Tensor) -> Tensor:
        """Returns the frame, and behind it the frame grown, where maps hold the growth."""
        c = frame.shape[1]
        if len(self.keep) == c:
            return frame
        return torch.cat([frame, frame * (1 + maps[:, -c:])], dim=1)

    def _dropped(self, covariates: Tensor) -> Tensor:
        """Returns maps or numbers `(b, k, ...)`, in training some of them 0, as on a typical day."""
        if not self.training or not self.dropout:
            return covariates
        kept = torch.rand(covariates.shape[:2], device=covariates.device) >= self.dropout
        return covariates * kept.reshape(*kept.shape, *[1] * (covariates.dim() - 2))


class RecurrentWithCovariates(Recurrent):
    """A recurrent network that has the covariates of each step."""

    def __init__(
        self, network: Recurrent, config: NetworkConfig, covariates: CovariateShape
    ) -> None:
        super().__init__()
        self.network = network
        self.covariates = covariates
        self.doors = Adapter(config, covariates)

    def step(self, frame: Tensor, state: Any, *covariates: Tensor) -> tuple[Tensor, Any]:
        """Returns the next frame `(b, c, y, x)` and the state of the network.

        Args:
            frame: the newest one, `(b, c, y, x)`.
            state: of the network.
            covariates: of the next frame, maps `(b, m, y, x)` and numbers `(b, v)`.
        """
        maps, numbers = covariates
        features = self.doors.features(frame, maps, numbers)
        output, state = self.network.step(features, state)
        return self.doors.forecast(frame, maps, output, features), state


class BlocksWithCovariates(nn.Module):
    """A network that makes a block of frames at once, called again and again to the horizon.

    The frames that it sees have the covariates of the steps that it makes of them.
    """

    def __init__(
        self, network: nn.Module, config: NetworkConfig, covariates: CovariateShape
    ) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.doors = Adapter(config, covariates)

    def forward(self, frames: Tensor, horizon: int, maps: Tensor, numbers: Tensor) -> Tensor:
        """Returns the forecast.

        Args:
            frames: those that `config.lags(horizon)` names, `(b, t, c, y, x)`.
            horizon: number of frames to forecast, at least 1.
            maps: of the steps that `config.targets(horizon)` names, `(b, s, m, y, x)`.
            numbers: of the same, `(b, s, v)`.

        Returns:
            `(b, horizon, c, y, x)`
        """
        config = self.config
        lags, input_lags = config.lags(horizon), config.lags(1)
        at = {-lag: frame for lag, frame in zip(lags, frames.unbind(1), strict=True)}
        at = {place: frame for place, frame in at.items() if place <= 0}
        for made in range(0, horizon, config.block):
            newest = at[made]
            block_numbers = numbers[:, made : made + config.block].unbind(1)
            block_maps = self._since_newest(maps[:, made : made + config.block])
            features = [
                self.doors.features(at[made - lag], block_maps[n], block_numbers[n])
                for n, lag in zip(self._steps(len(input_lags)), input_lags, strict=True)
            ]
            outputs = self.network(torch.stack(features, dim=1), config.block)
            for index in range(config.block):
                output = outputs[:, index - config.block]
                own = self.doors.features(newest, block_maps[index], block_numbers[index])
                forecast = self.doors.forecast(newest, block_maps[index], output, own)
                at[made + index + 1] = forecast
        return torch.stack([at[lead] for lead in range(1, horizon + 1)], dim=1)

    def _since_newest(self, maps: Tensor) -> tuple[Tensor, ...]:
        """Returns the maps of each step of a block, with the growth since the newest frame."""
        c = self.config.channels
        if len(self.doors.keep) == c:
            return maps.unbind(1)
        growth = (1 + maps[:, :, -c:]).cumprod(dim=1) - 1
        return torch.cat([maps[:, :, :-c], growth], dim=2).unbind(1)

    def _steps(self, frames: int) -> list[int]:
        """Returns the step of a block whose covariates each input frame has, spread evenly."""
        return [n * self.config.block // frames for n in range(frames)]


def with_covariates(
    network: nn.Module, config: NetworkConfig, covariates: CovariateShape
) -> nn.Module:
    """Returns `network`, built for `inner_config(config, covariates)`, as one of frames of `config`."""
    if isinstance(network, Recurrent):
        return RecurrentWithCovariates(network, config, covariates)
    return BlocksWithCovariates(network, config, covariates)
