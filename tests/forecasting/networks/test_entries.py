"""A network is its file and its entry in NETWORKS: all else that names networks follows from it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data.errors import FlowcastError
from forecasting.networks import NETWORKS, Network, networks_markdown
from forecasting.networks.base import Frames, NetworkConfig, Recurrent, RecurrentConfig
from forecasting.onnx_export.export import export
from forecasting.onnx_export.graph import Graph
from forecasting.onnx_export.swinlstm import StepGraph
from forecasting.onnx_export.tokens import Weights
from pipelines.benchmark import cost

ROOT = Path(__file__).parents[3]
REGISTERED = """
import json, sys
from typer.testing import CliRunner
from forecasting.networks import NETWORKS, Network, networks_markdown
NETWORKS["fading"] = Network("nowhere:Fading", "the newest frame, fading")
from app.cli.main import app
verbs = (["train"], ["benchmark", "run"])
helps = [" ".join(CliRunner().invoke(app, [*verb, "--help"]).output.split()) for verb in verbs]
assert "torch" not in sys.modules
from pipelines.compare.contestants import ALL, CONTESTANTS
names = [one.family for one in CONTESTANTS]
print(json.dumps([helps, names, ALL, networks_markdown()]))
"""
"""What a process finds where a network is registered before anything else is imported."""


class Fading(Recurrent):
    """The newest frame, each channel by a factor of its own."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.kept = nn.Parameter(torch.full((config.channels, 1, 1), 0.9))

    def step(self, frame: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.kept * frame, state


class FadingConfig(RecurrentConfig):
    """Of frames alone."""

    @classmethod
    def of(cls, frames: Frames, **sizes: Any) -> "FadingConfig":
        return super().of(frames, **{"output": "identity", **sizes})


def write_fading(graph: Graph, frame: str, config: FadingConfig, weights: Weights) -> StepGraph:
    """Returns a step without a state."""
    step = StepGraph(graph, "fused")
    step.output = graph.add("Mul", frame, weights["kept"].astype(np.float32))
    return step


@pytest.fixture
def fading(monkeypatch: pytest.MonkeyPatch) -> str:
    """A network that is registered for one test."""
    entry = Network(f"{__name__}:Fading", "fades", onnx=f"{__name__}:write_fading")
    monkeypatch.setitem(NETWORKS, "fading", entry)
    return "fading"


def test_help_comparisons_and_tables_name_a_network_that_is_registered() -> None:
    done = subprocess.run(
        [sys.executable, "-c", REGISTERED],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "400"},
        capture_output=True,
        text=True,
        check=True,
    )
    helps, families, everything, table = json.loads(done.stdout.splitlines()[-1])
    for text in helps:
        assert "fading: the newest frame, fading" in text
    assert families.count("fading") == 2  # on flow alone and with covariates
    assert "fading" in everything
    assert "| `fading` | the newest frame, fading | for comparison | torch |" in table


def test_cost_measures_a_network_that_is_registered(
    fading: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In this process, for a child of its own would not have the entry.
    monkeypatch.setattr(cost, "measured", lambda blank, scale: cost._network(blank, scale, 1))
    (row,) = cost.costs(["grid"], [fading], [4], history=2, horizon=2, device="cpu")
    assert (row.network, row.parameters, row.failed) == (fading, 1, "")
    assert f"{fading} 4x4" in " ".join(cost.cost_markdown([row]).replace("|", " ").split())


def test_a_network_whose_entry_names_a_writer_is_exported(fading: str) -> None:
    config = NETWORKS[fading].config.quick(Frames(2, (4, 5), 3, 2))
    network = NETWORKS[fading].build(config).eval()
    assert export(fading, network, config).difference < 1e-6


def test_a_network_whose_entry_names_none_is_not(
    fading: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NETWORKS, fading, Network(f"{__name__}:Fading", "fades"))
    with pytest.raises(FlowcastError, match="fading cannot be exported"):
        export(fading, nn.Identity(), NetworkConfig())


def test_the_readme_has_the_table_of_networks() -> None:
    table = "\n".join(("", networks_markdown(), "<!-- end of networks -->"))
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NETWORKS)
def test_an_entry_says_what_help_and_tables_need(name: str) -> None:
    entry = NETWORKS[name]
    assert 10 < len(entry.summary) < 90
    assert issubclass(entry.config, NetworkConfig)
    assert not entry.variant_of or entry.variant_of in NETWORKS
    assert not entry.paper or entry.paper.startswith("arXiv ")
