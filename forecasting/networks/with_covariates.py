"""Contextual: any network of frames, shown beside each frame what is known of the step it forecasts.

The network within stays as it is published; it works on features in place of frames. A small
convolution makes the features of a frame, the maps and numbers that come with its step and learnt
features of the cell; another one makes of them and of what the network puts out the change to the
newest frame. Where the expected flow grows, differences from it grow alike: the newest frame is shown,
and kept in part, grown so too. How much of it is kept may differ from cell to cell and step to step, and
so what is added of the cells around and of the whole city: a network that puts out shares of what is
seen follows days like none before. What is fed back is the forecast itself. Sizes at line ends: b batch,
t frames, s steps, c channels, m maps, v numbers, d features.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forecasting.networks.base import NetworkConfig, Recurrent

PLACE = 4
"""Learnt features of every cell."""
KEPT = 0.8
"""Share of the newest frame that an untrained network keeps."""


def itself(seen: Tensor) -> Tensor:
    """Returns what is seen."""
    return seen


def nearby(seen: Tensor) -> Tensor:
    """Returns the mean of each cell and the eight around it, those beyond the edge being 0."""
    return F.avg_pool2d(seen, kernel_size=3, stride=1, padding=1)


def everywhere(seen: Tensor) -> Tensor:
    """Returns the mean of all cells, `(b, c, 1, 1)`."""
    return seen.mean(dim=(2, 3), keepdim=True)


FIELDS: tuple[Callable[[Tensor], Tensor], ...] = (itself, nearby, everywhere)
"""Of what shares are put out: each takes what is seen, `(b, c, y, x)`."""


@dataclass(frozen=True)
class Surroundings:
    """What is shown beside the frames.

    Attributes:
        maps: m, channels of the maps of a step.
        numbers: v, of a step.
        place: whether cells have features of their own.
        features: d, that the network within takes and puts out for every cell.
        dropout: probability that a whole map, or a number, is hidden from a window in training.
        kernel: cells along the side of what the doors look at, an odd number.
        growth: whether the last c maps tell by what part the expected flow grows.
        shares: whether the network tells for each cell what share of what is seen it keeps.
    """

    maps: int
    numbers: int
    place: bool = True
    features: int = 16
    dropout: float = 0.1
    kernel: int = 1
    growth: bool = False
    shares: bool = False


def inner(config: NetworkConfig, around: Surroundings) -> NetworkConfig:
    """Returns the configuration of the network within, for frames of `config`."""
    return replace(config, channels=around.features, output="identity")


class Doors(nn.Module):
    """The ways into the network within and out of it.

    Attributes:
        keep: share of the newest frame that is kept, by channel, and of the same frame grown.
    """

    def __init__(self, config: NetworkConfig, around: Surroundings) -> None:
        super().__init__()
        d, c = around.features, config.channels
        place, kinds = PLACE if around.place else 0, 1 + around.growth
        self.dropout = around.dropout
        self.place = nn.Parameter(torch.zeros(place, *config.grid))
        same: dict[str, Any] = {"kernel_size": around.kernel, "padding": "same"}
        self.enter = nn.Conv2d(kinds * c + around.maps + place, d, **same)
        self.told = nn.Linear(around.numbers, d)
        made = c * (1 + len(FIELDS) * kinds * around.shares)
        self.leave = nn.Sequential(
            nn.Conv2d(2 * d, 2 * d, **same), nn.GELU(), nn.Conv2d(2 * d, made, kernel_size=1)
        )
        self.keep = nn.Parameter(torch.full((kinds * c, 1, 1), KEPT / kinds))
        last = self.leave[-1]
        for value in last.parameters():
            nn.init.zeros_(value)

    def features(self, frame: Tensor, maps: Tensor, numbers: Tensor) -> Tensor:
        """Returns `(b, d, y, x)` of a frame `(b, c, y, x)` with maps `(b, m, y, x)`, numbers `(b, v)`."""
        place = self.place.expand(len(frame), -1, -1, -1)
        told = self.told(self._hidden(numbers))[..., None, None]
        seen = self.both(frame, maps)
        whole = torch.cat([seen, self._hidden(maps), place.to(frame.dtype)], dim=1)
        features: Tensor = self.enter(whole) + told
        return features

    def forecast(self, newest: Tensor, maps: Tensor, output: Tensor, features: Tensor) -> Tensor:
        """Returns the next frame `(b, c, y, x)` of the newest one and features `(b, d, y, x)`."""
        change: Tensor = self.leave(torch.cat([output, features], dim=1))
        seen, c = self.both(newest, maps), newest.shape[1]
        kept: Tensor = self.keep * seen
        if change.shape[1] > c:
            shares = change[:, c:].chunk(len(FIELDS), dim=1)
            for share, of in zip(shares, FIELDS, strict=True):
                kept = kept + share * of(seen)
        forecast: Tensor = kept.unflatten(1, (-1, c)).sum(dim=1) + change[:, :c]
        return forecast

    def both(self, frame: Tensor, maps: Tensor) -> Tensor:
        """Returns the frame, and behind it the same as grown, where growth is told."""
        c = frame.shape[1]
        if len(self.keep) == c:
            return frame
        return torch.cat([frame, frame * (1 + maps[:, -c:])], dim=1)

    def _hidden(self, shown: Tensor) -> Tensor:
        """Returns maps or numbers `(b, k, ...)`, in training some of them as if they were usual."""
        if not self.training or not self.dropout:
            return shown
        kept = torch.rand(shown.shape[:2], device=shown.device) >= self.dropout
        return shown * kept.reshape(*kept.shape, *[1] * (shown.dim() - 2))


class ContextualStep(Recurrent):
    """A recurrent network between its doors: it is told at each step of the step that it forecasts."""

    def __init__(self, network: Recurrent, config: NetworkConfig, around: Surroundings) -> None:
        super().__init__()
        self.network = network
        self.around = around
        self.doors = Doors(config, around)

    def step(self, frame: Tensor, state: Any, *shown: Tensor) -> tuple[Tensor, Any]:
        """Returns the next frame `(b, c, y, x)` and the state of the network within.

        Args:
            frame: the newest one, `(b, c, y, x)`.
            state: of the network within.
            shown: of the next frame, maps `(b, m, y, x)` and numbers `(b, v)`.
        """
        maps, numbers = shown
        features = self.doors.features(frame, maps, numbers)
        output, state = self.network.step(features, state)
        return self.doors.forecast(frame, maps, output, features), state


class ContextualBlocks(nn.Module):
    """A network that makes some frames at once, between its doors, again and again to the horizon.

    What it is told with its frames is of the steps that it makes of them.
    """

    def __init__(self, network: nn.Module, config: NetworkConfig, around: Surroundings) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.doors = Doors(config, around)

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
        lags, seen = config.lags(horizon), config.lags(1)
        at = {-lag: frame for lag, frame in zip(lags, frames.unbind(1), strict=True)}
        at = {place: frame for place, frame in at.items() if place <= 0}
        for made in range(0, horizon, config.block):
            newest = at[made]
            told = numbers[:, made : made + config.block].unbind(1)
            whole = self._grown(maps[:, made : made + config.block])
            features = [
                self.doors.features(at[made - lag], whole[n], told[n])
                for n, lag in zip(self._told(len(seen)), seen, strict=True)
            ]
            outputs = self.network(torch.stack(features, dim=1), config.block)
            for index in range(config.block):
                output = outputs[:, index - config.block]
                own = self.doors.features(newest, whole[index], told[index])
                at[made + index + 1] = self.doors.forecast(newest, whole[index], output, own)
        return torch.stack([at[lead] for lead in range(1, horizon + 1)], dim=1)

    def _grown(self, maps: Tensor) -> tuple[Tensor, ...]:
        """Returns the maps of each step of a block, with the growth since the frames before it."""
        c = self.config.channels
        if len(self.doors.keep) == c:
            return maps.unbind(1)
        growth = (1 + maps[:, :, -c:]).cumprod(dim=1) - 1
        return torch.cat([maps[:, :, :-c], growth], dim=2).unbind(1)

    def _told(self, seen: int) -> list[int]:
        """Returns of which step of a block each of the frames is told: they share them evenly."""
        return [n * self.config.block // seen for n in range(seen)]


def contextual(network: nn.Module, config: NetworkConfig, around: Surroundings) -> nn.Module:
    """Returns `network`, built for `inner(config, around)`, as one of frames of `config`."""
    if isinstance(network, Recurrent):
        return ContextualStep(network, config, around)
    return ContextualBlocks(network, config, around)
