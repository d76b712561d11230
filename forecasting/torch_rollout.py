"""A network run by torch: as it is trained, and where a version has no export."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from forecasting.models import NETWORKS, config_of
from forecasting.models.network import NetworkConfig
from forecasting.models.residual import residual

BATCH = 64


@dataclass(frozen=True)
class TorchRollout:
    """A network as a `Rollout`, on the device where it is.

    Attributes:
        network: takes `(b, t, c, y, x)` and a horizon.
        config: of the network; it names the frames that the network sees.
    """

    network: nn.Module
    config: NetworkConfig

    def lags(self, horizon: int) -> tuple[int, ...]:
        """Returns the frames that the network sees, oldest first; see `Rollout`."""
        return self.config.lags(horizon)

    def __call__(self, frames: np.ndarray, horizon: int) -> np.ndarray:
        """Returns the last `horizon` outputs `(b, horizon, c, y, x)`, batch by batch."""
        device = next(self.network.parameters()).device
        self.network.eval()
        with torch.inference_mode():
            forecasts = [
                self.network(batch.to(device), horizon)[:, -horizon:].cpu()
                for batch in torch.from_numpy(frames).split(BATCH)
            ]
        return torch.cat(forecasts).numpy()


def build_network(name: str, config: NetworkConfig) -> nn.Module:
    """Returns the untrained network of a city's forecaster: the one called `name`, on changes."""
    return residual(NETWORKS[name].build(config))


def weights_of(network: nn.Module) -> dict[str, np.ndarray]:
    """Returns the weights of a network by name."""
    return {name: value.cpu().numpy() for name, value in network.state_dict().items()}


def restore(
    name: str, fields: Mapping[str, Any], weights: Mapping[str, np.ndarray]
) -> TorchRollout:
    """Returns the network of a city's forecaster with trained weights, on the CPU.

    Args:
        name: key in `NETWORKS`.
        fields: of its configuration, as JSON holds them.
        weights: as `weights_of` returned them.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError: they do not belong together.
    """
    config = config_of(name, fields)
    network = build_network(name, config)
    network.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    return TorchRollout(network, config)
