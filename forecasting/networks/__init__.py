"""Networks: `(frames (b, t, c, y, x), horizon) -> frames`, one file each, one entry each in `NETWORKS`.

Help texts, comparisons, tables of costs, the README's table and what serves by ONNX follow from an entry.
Nothing here imports torch: an entry names its code, which is loaded where it is first asked for.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from data.errors import FlowcastError

if TYPE_CHECKING:
    from torch import nn

    from forecasting.networks.base import NetworkConfig

DEFAULT = "swinlstm-b"
"""Key in `NETWORKS` of the network of cities."""


@dataclass(frozen=True)
class Network:
    """A network's entry.

    Attributes:
        code: its module and class, `module:Class`; `ClassConfig` beside it is its configuration.
        summary: what it is, in a line, for help texts and tables.
        paper: where it is published, for people; "" for nowhere.
        paper_training: fields of `TrainingConfig` that its paper trained it with.
        epochs: of a city's fit where windows are many.
        variant_of: the network that it differs from in one thing, "" for none; a comparison of all
            networks leaves variants out.
        onnx: function that writes one step of it as ONNX, `module:function`; "" for a network that torch
            serves. See `forecasting.onnx_export.export.Writer`.
    """

    code: str
    summary: str
    paper: str = ""
    paper_training: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 10
    variant_of: str = ""
    onnx: str = ""

    @property
    def config(self) -> "type[NetworkConfig]":
        """Returns the class of its configuration."""
        found: type[NetworkConfig] = resolve_name(f"{self.code}Config")
        return found

    @property
    def build(self) -> "Callable[[Any], nn.Module]":
        """Returns what makes the module of a configuration."""
        found: Callable[[Any], nn.Module] = resolve_name(self.code)
        return found


SWINLSTM_PAPER = "arXiv 2308.09891"
SWINLSTM_TRAINING = {
    "epochs": 2000,
    "learning_rate": 1e-4,
    "weight_decay": 0.0,
    "schedule": "constant",
    "warm_up": 0.0,
}
SWINLSTM_EPOCHS = 6
"""A validation week asks for more, but days like none before are forecast worse after them."""
OPENSTL_TRAINING = {"epochs": 50, "learning_rate": 5e-4, "weight_decay": 0.0, "warm_up": 0.1}

NETWORKS: dict[str, Network] = {
    "swinlstm-b": Network(
        "forecasting.networks.swinlstm_b:SwinLSTM",
        "SwinLSTM at one resolution",
        paper=SWINLSTM_PAPER,
        paper_training=SWINLSTM_TRAINING,
        epochs=SWINLSTM_EPOCHS,
        onnx="forecasting.onnx_export.swinlstm:write_b",
    ),
    "swinlstm-d": Network(
        "forecasting.networks.swinlstm_d:SwinLSTMD",
        "SwinLSTM as encoder and decoder",
        paper=SWINLSTM_PAPER,
        paper_training=SWINLSTM_TRAINING,
        epochs=SWINLSTM_EPOCHS,
        variant_of="swinlstm-b",
        onnx="forecasting.onnx_export.swinlstm:write_d",
    ),
    "swinlstm-direct": Network(
        "forecasting.networks.swinlstm_direct:SwinLSTMDirect",
        "SwinLSTM-B that makes all leads at once",
        paper_training=SWINLSTM_TRAINING,
        epochs=SWINLSTM_EPOCHS,
        variant_of="swinlstm-b",
    ),
    "convlstm": Network(
        "forecasting.networks.convlstm:ConvLSTM",
        "ConvLSTM in the sizes of OpenSTL",
        paper="arXiv 1506.04214",
        paper_training=OPENSTL_TRAINING,
    ),
    "simvp": Network(
        "forecasting.networks.simvp:SimVP",
        "SimVP with gated spatiotemporal attention",
        paper="arXiv 2211.12509",
        paper_training=OPENSTL_TRAINING,
    ),
    "predformer": Network(
        "forecasting.networks.predformer:PredFormer",
        "PredFormer, attention over space and time in turn",
        paper="arXiv 2410.04733",
        paper_training={"epochs": 200, "learning_rate": 1e-3, "weight_decay": 1e-2},
    ),
    "st-resnet": Network(
        "forecasting.networks.stresnet:STResNet",
        "ST-ResNet: closeness, period and trend of a city; closeness alone of videos",
        paper="arXiv 1610.00081",
        paper_training={
            "epochs": 500,
            "batch": 32,
            "learning_rate": 2e-4,
            "weight_decay": 0.0,
            "schedule": "constant",
            "warm_up": 0.0,
        },
    ),
}


def entry_of(name: str) -> Network:
    """Returns the entry of a network.

    Raises:
        FlowcastError: there is no such network.
    """
    if name not in NETWORKS:
        raise FlowcastError(f"there is no network {name!r}; there is {', '.join(NETWORKS)}")
    return NETWORKS[name]


def peers() -> tuple[str, ...]:
    """Returns the networks that a comparison of all networks runs beside the default one."""
    return tuple(
        name for name, entry in NETWORKS.items() if name != DEFAULT and not entry.variant_of
    )


def networks_help() -> str:
    """Returns the networks with what they are, for the help of an option."""
    return "; ".join(
        f"{name}: {entry.summary}{' (default)' * (name == DEFAULT)}"
        for name, entry in NETWORKS.items()
    )


def networks_markdown() -> str:
    """Returns the networks as a Markdown table, for the README."""
    lines = ["| network | what it is | published | a champion serves by |", "|---|---|---|---|"]
    for name, entry in NETWORKS.items():
        number = entry.paper.removeprefix("arXiv ")
        paper = f"[{entry.paper}](https://arxiv.org/abs/{number})" if number else "for comparison"
        runtime = "ONNX Runtime" if entry.onnx else "torch"
        lines.append(f"| `{name}` | {entry.summary} | {paper} | {runtime} |")
    return "\n".join(lines)


def config_of(name: str, fields: Mapping[str, Any]) -> "NetworkConfig":
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


def write_network(name: str, config: "NetworkConfig") -> str:
    """Returns name and configuration of a network as JSON, the same for the same network."""
    return json.dumps([name, asdict(config)], sort_keys=True)
