"""Networks: `(frames (b, t, c, y, x), horizon) -> frames`, one file each."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import nn

from forecasting.networks.base import NetworkConfig
from forecasting.networks.convlstm import ConvLSTM, ConvLSTMConfig
from forecasting.networks.predformer import PredFormer, PredFormerConfig
from forecasting.networks.simvp import SimVP, SimVPConfig
from forecasting.networks.stresnet import STResNet, STResNetConfig
from forecasting.networks.swinlstm_b import SwinLSTM, SwinLSTMConfig
from forecasting.networks.swinlstm_d import SwinLSTMD, SwinLSTMDConfig
from forecasting.networks.swinlstm_direct import SwinLSTMDirect, SwinLSTMDirectConfig


class Network(NamedTuple):
    """How a network is made.

    Attributes:
        config: its configuration.
        build: makes the module of a configuration.
        recipe: fields of `TrainingConfig` that its paper trained it with.
    """

    config: type[NetworkConfig]
    build: Callable[[Any], nn.Module]
    recipe: Mapping[str, Any] = MappingProxyType({})


SWINLSTM_RECIPE = {
    "epochs": 2000,
    "learning_rate": 1e-4,
    "weight_decay": 0.0,
    "schedule": "constant",
    "warm_up": 0.0,
}

OPENSTL_RECIPE = {"epochs": 50, "weight_decay": 0.0, "warm_up": 0.1}
PREDFORMER_RECIPE = {"epochs": 200, "learning_rate": 1e-3, "weight_decay": 1e-2}
STRESNET_RECIPE = {
    "epochs": 500,
    "batch": 32,
    "learning_rate": 2e-4,
    "weight_decay": 0.0,
    "schedule": "constant",
    "warm_up": 0.0,
}

NETWORKS: dict[str, Network] = {
    "swinlstm-b": Network(SwinLSTMConfig, SwinLSTM, SWINLSTM_RECIPE),
    "swinlstm-d": Network(SwinLSTMDConfig, SwinLSTMD, SWINLSTM_RECIPE),
    "swinlstm-direct": Network(SwinLSTMDirectConfig, SwinLSTMDirect, SWINLSTM_RECIPE),
    "convlstm": Network(ConvLSTMConfig, ConvLSTM, OPENSTL_RECIPE | {"learning_rate": 5e-4}),
    "simvp": Network(SimVPConfig, SimVP, OPENSTL_RECIPE | {"learning_rate": 5e-4}),
    "predformer": Network(PredFormerConfig, PredFormer, PREDFORMER_RECIPE),
    "st-resnet": Network(STResNetConfig, STResNet, STRESNET_RECIPE),
}


def config_of(name: str, fields: Mapping[str, Any]) -> NetworkConfig:
    """Returns the configuration of the network `name` from fields as JSON holds them.

    Raises:
        KeyError: there is no such network.
        TypeError: a field is unknown.
        ValueError: a value cannot be.
    """
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
    }
    return NETWORKS[name].config(**values)


def write_network(name: str, config: NetworkConfig) -> str:
    """Returns name and configuration of a network as JSON, the same for the same network."""
    return json.dumps([name, asdict(config)], sort_keys=True)
