"""A network run by torch: as it is trained, and where a version has no export."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from forecasting.networks import NETWORKS, config_of
from forecasting.networks.base import NetworkConfig
from forecasting.networks.residual import residual
from forecasting.networks.with_covariates import CovariateShape, inner_config, with_covariates

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

    def targets(self, horizon: int) -> tuple[int, ...]:
        """Returns the steps that the network is told of; see `Rollout`."""
        return self.config.targets(horizon)

    def __call__(self, frames: np.ndarray, horizon: int, *shown: np.ndarray) -> np.ndarray:
        """Returns the last `horizon` outputs `(b, horizon, c, y, x)`, batch by batch."""
        device = next(self.network.parameters()).device
        self.network.eval()
        whole = [torch.from_numpy(one).split(BATCH) for one in (frames, *shown)]
        with torch.inference_mode():
            forecasts = []
            for batch, *more in zip(*whole, strict=True):
                told = (one.to(device) for one in more)
                forecasts.append(self.network(batch.to(device), horizon, *told)[:, -horizon:].cpu())
        return torch.cat(forecasts).numpy()


def build_network(
    name: str, config: NetworkConfig, around: CovariateShape | None = None
) -> nn.Module:
    """Returns the untrained network of a city's forecaster.

    Args:
        name: key in `NETWORKS`.
        config: of its frames.
        around: what it is shown beside them; None for the bare network, on changes.
    """
    if around is None:
        return residual(NETWORKS[name].build(config))
    return with_covariates(NETWORKS[name].build(inner_config(config, around)), config, around)


def weights_of(network: nn.Module) -> dict[str, np.ndarray]:
    """Returns the weights of a network by name."""
    return {name: value.cpu().numpy() for name, value in network.state_dict().items()}


def restore(
    name: str,
    fields: Mapping[str, Any],
    around: Mapping[str, Any] | None,
    weights: Mapping[str, np.ndarray],
) -> TorchRollout:
    """Returns the network of a city's forecaster with trained weights, on the CPU.

    Args:
        name: key in `NETWORKS`.
        fields: of its configuration, as JSON holds them.
        around: fields of its `CovariateShape`, None for none.
        weights: as `weights_of` returned them.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError: they do not belong together.
    """
    config = config_of(name, fields)
    network = build_network(name, config, CovariateShape(**around) if around else None)
    network.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    return TorchRollout(network, config)
