"""The contract of every network, alone and as the network of a city's forecaster."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from forecasting.models import NETWORKS
from forecasting.models.reconstruction import RECONSTRUCTIONS
from forecasting.neural import build_network

SMALL: dict[str, dict[str, Any]] = {
    "swinlstm-b": {"patch": 2, "width": 8, "window": 2, "depths": (2,), "heads": (2,)},
}
KINDS = [
    *((name, {}) for name in NETWORKS),
    *(("swinlstm-b", {"reconstruction": name}) for name in RECONSTRUCTIONS),
    ("swinlstm-b", {"output": "identity"}),
]


def config_of(name: str, changes: dict[str, Any]) -> Any:
    return NETWORKS[name].config(channels=2, grid=(6, 5), **SMALL[name] | changes)


@pytest.fixture(params=["alone", "residual"])
def build(request: pytest.FixtureRequest) -> Any:
    """How a network is built: alone, or from change to change."""
    return {
        "alone": lambda name, config: NETWORKS[name].build(config),
        "residual": build_network,
    }[request.param]


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    kind: tuple[str, dict[str, Any]] = request.param
    return kind


@pytest.fixture
def network(build: Any, kind: tuple[str, dict[str, Any]]) -> nn.Module:
    torch.manual_seed(0)
    built: nn.Module = build(kind[0], config_of(*kind))
    return built.eval()


@pytest.fixture
def frames() -> Tensor:
    return torch.rand(3, 4, 2, 6, 5, generator=torch.Generator().manual_seed(1))


def test_every_network_is_under_this_contract() -> None:
    assert SMALL.keys() == NETWORKS.keys()


@pytest.mark.parametrize(("past", "horizon"), [(1, 1), (1, 3), (4, 1), (4, 6)])
def test_outputs_are_frames_one_step_ahead(
    network: nn.Module, frames: Tensor, past: int, horizon: int
) -> None:
    outputs = network(frames[:, :past], horizon)
    assert outputs.shape == (3, past - 1 + horizon, 2, 6, 5)
    assert outputs.dtype == torch.float32


def test_a_shorter_horizon_is_the_start_of_a_longer_one(network: nn.Module, frames: Tensor) -> None:
    assert torch.equal(network(frames, 2), network(frames, 4)[:, :5])


def test_a_stack_equals_its_single_samples(network: nn.Module, frames: Tensor) -> None:
    single = torch.cat([network(frame, 3) for frame in frames.split(1)])
    assert torch.allclose(network(frames, 3), single, atol=1e-5)


def test_an_output_depends_on_no_later_frame(network: nn.Module, frames: Tensor) -> None:
    later = frames.clone()
    later[:, 2:] += 1
    before, after = network(frames, 2), network(later, 2)
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 2:], after[:, 2:])


def test_evaluation_knows_no_chance(network: nn.Module, frames: Tensor) -> None:
    assert torch.equal(network(frames, 2), network(frames, 2))


def test_the_same_seed_builds_the_same_network(
    build: Any, kind: tuple[str, dict[str, Any]], network: nn.Module
) -> None:
    torch.manual_seed(0)
    again = build(kind[0], config_of(*kind)).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in network.state_dict().items())


def test_weights_saved_and_loaded_give_the_same_outputs(
    build: Any,
    kind: tuple[str, dict[str, Any]],
    network: nn.Module,
    frames: Tensor,
    tmp_path: Path,
) -> None:
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    torch.manual_seed(5)
    other = build(kind[0], config_of(*kind)).eval()
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(other(frames, 3), network(frames, 3))


def test_a_configuration_survives_json(kind: tuple[str, dict[str, Any]]) -> None:
    config = config_of(*kind)
    fields = json.loads(json.dumps(asdict(config)))
    values = {
        key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
    }
    assert NETWORKS[kind[0]].config(**values) == config


def test_the_residual_adds_the_frame_to_what_the_network_gives(
    kind: tuple[str, dict[str, Any]], frames: Tensor
) -> None:
    name, config = kind[0], config_of(*kind)
    torch.manual_seed(0)
    alone = NETWORKS[name].build(config).eval()
    torch.manual_seed(0)
    residual = build_network(name, config).eval()
    assert torch.equal(residual(frames, 1), frames)  # untrained it is persistence
    nn.init.constant_(residual.gain, 0.5)
    assert torch.allclose(residual(frames, 1), alone(frames, 1) / 2 + frames, atol=1e-6)
