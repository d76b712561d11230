"""The contract of every network, alone and as the network of a city's forecaster."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from forecasting import networks
from forecasting.networks import NETWORKS
from forecasting.networks.base import Frames, NetworkConfig, Recurrent
from forecasting.networks.swinlstm_parts import GATES, RECONSTRUCTIONS
from forecasting.rollout.torch_rollout import build_network

SMALL: dict[str, dict[str, Any]] = {
    "swinlstm-b": {"patch": 2, "width": 8, "window": 2, "depths": (2,), "heads": (2,)},
    "swinlstm-d": {
        "patch": 1,
        "width": 8,
        "window": 2,
        "down_depths": (2,),
        "down_heads": (2,),
        "up_depths": (2,),
        "up_heads": (4,),
    },
    "swinlstm-direct": {
        **{"patch": 2, "width": 8, "window": 2, "depths": (2,), "heads": (2,), "ahead": 3},
    },
    "convlstm": {"patch": 2, "widths": (4, 4), "kernel": 3},
    "simvp": {"features": 4, "layers": 2, "width": 8, "blocks": 3, "mlp_ratio": 2},
    "predformer": {"patch": 2, "width": 8, "heads": 2, "layers": 1, "mlp_ratio": 2},
    "st-resnet": {"period": 0, "trend": 0, "day": 0, "residual_units": 1, "width": 8},
}
KINDS = [
    *((name, {}) for name in NETWORKS),
    *(("swinlstm-b", {"reconstruction": name}) for name in RECONSTRUCTIONS),
    ("swinlstm-b", {"output": "identity"}),
    *((name, {"gate": gate}) for name in ("swinlstm-b", "swinlstm-d") for gate in GATES),
    ("simvp", {"layers": 4}),
    ("predformer", {"order": "tsst", "patch": 4}),
    ("st-resnet", {"period": 2, "trend": 1, "day": 6}),
]
RECURRENT = [kind for kind in KINDS if issubclass(NETWORKS[kind[0]].build, Recurrent)]
BOUNDED = {"swinlstm-b", "swinlstm-d", "swinlstm-direct"}
"""Only SwinLSTM is published with a sigmoid at its end."""
LENGTH = 42
"""Frames of a series: a week of six frames a day, the longest that a kind looks back."""


def config_of(name: str, changes: dict[str, Any]) -> Any:
    return NETWORKS[name].config(channels=2, grid=(6, 5), **SMALL[name] | changes)


def seen(config: NetworkConfig, series: Tensor, horizon: int) -> Tensor:
    """The frames of a series that a network sees before it forecasts what follows the last."""
    return series[:, [-1 - lag for lag in config.lags(horizon)]]


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
def config(kind: tuple[str, dict[str, Any]]) -> NetworkConfig:
    config: NetworkConfig = config_of(*kind)
    return config


@pytest.fixture
def network(build: Any, kind: tuple[str, dict[str, Any]], config: NetworkConfig) -> nn.Module:
    """With the gain of a residual away from 0, where it would be persistence."""
    torch.manual_seed(0)
    built: nn.Module = build(kind[0], config)
    if hasattr(built, "gain"):
        nn.init.constant_(built.gain, 0.5)
    return built.eval()


@pytest.fixture
def series() -> Tensor:
    return torch.rand(3, LENGTH, 2, 6, 5, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    """A group of this process alone."""
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1
    )
    yield
    dist.destroy_process_group()


def take_two_steps(network: nn.Module, frames: Tensor, horizon: int) -> None:
    parallel = DistributedDataParallel(network.train())
    optimizer = torch.optim.AdamW(parallel.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        parallel(frames, horizon).square().mean().backward()
        optimizer.step()


def test_every_network_is_under_this_contract() -> None:
    assert SMALL.keys() == NETWORKS.keys()


@pytest.mark.parametrize("horizon", [1, 3, 4, 6])
def test_the_last_outputs_are_the_forecast(
    network: nn.Module, config: NetworkConfig, series: Tensor, horizon: int
) -> None:
    past = seen(config, series, horizon)
    outputs = network(past, horizon)
    before = past.shape[1] - 1 if isinstance(network, Recurrent) else 0
    assert outputs.shape == (3, before + horizon, 2, 6, 5)
    assert outputs.dtype == torch.float32
    assert outputs.isfinite().all()


@pytest.mark.parametrize("kind", RECURRENT, indirect=True, ids=str)
@pytest.mark.parametrize(("past", "horizon"), [(1, 1), (1, 3), (4, 6), (7, 2)])
def test_a_recurrent_network_takes_any_number_of_frames(
    network: nn.Module, series: Tensor, past: int, horizon: int
) -> None:
    assert isinstance(network, Recurrent)
    assert network(series[:, :past], horizon).shape == (3, past - 1 + horizon, 2, 6, 5)


@pytest.mark.parametrize("kind", RECURRENT, indirect=True, ids=str)
def test_an_output_depends_on_no_later_frame(network: nn.Module, series: Tensor) -> None:
    frames = series[:, :4]
    later = frames.clone()
    later[:, 2:] += 1
    before, after = network(frames, 2), network(later, 2)
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 2:], after[:, 2:])


def test_a_shorter_horizon_is_the_start_of_a_longer_one(
    network: nn.Module, config: NetworkConfig, series: Tensor
) -> None:
    longest = network(seen(config, series, 6), 6)[:, -6:]
    for horizon in (2, 4):
        shorter = network(seen(config, series, horizon), horizon)[:, -horizon:]
        assert torch.equal(shorter, longest[:, :horizon])


def test_the_forecast_depends_on_every_frame_that_is_seen(
    network: nn.Module, config: NetworkConfig, series: Tensor
) -> None:
    frames = seen(config, series, 3)
    forecast = network(frames, 3)[:, -3:]
    for position in range(frames.shape[1]):
        other = frames.clone()
        other[:, position] += 1
        assert not torch.equal(network(other, 3)[:, -3:], forecast)


def test_a_stack_equals_its_single_samples(
    network: nn.Module, config: NetworkConfig, series: Tensor
) -> None:
    frames = seen(config, series, 3)
    single = torch.cat([network(frame, 3) for frame in frames.split(1)])
    assert torch.allclose(network(frames, 3), single, atol=1e-5)


def test_evaluation_knows_no_chance(
    network: nn.Module, config: NetworkConfig, series: Tensor
) -> None:
    frames = seen(config, series, 2)
    assert torch.equal(network(frames, 2), network(frames, 2))


def test_the_same_seed_builds_the_same_network(
    build: Any, kind: tuple[str, dict[str, Any]], config: NetworkConfig
) -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(build(kind[0], config).state_dict())
    first, again, other = states
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not all(torch.equal(value, other[name]) for name, value in first.items())


def test_weights_saved_and_loaded_give_the_same_outputs(
    build: Any,
    kind: tuple[str, dict[str, Any]],
    config: NetworkConfig,
    network: nn.Module,
    series: Tensor,
    tmp_path: Path,
) -> None:
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    torch.manual_seed(5)
    other = build(kind[0], config).eval()
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    frames = seen(config, series, 3)
    assert torch.equal(other(frames, 3), network(frames, 3))


def test_a_configuration_survives_json(
    kind: tuple[str, dict[str, Any]], config: NetworkConfig
) -> None:
    name, fields = json.loads(networks.write_network(kind[0], config))
    assert name == kind[0]
    assert networks.config_of(name, fields) == config


def test_the_residual_adds_the_frame_to_what_the_network_gives(
    kind: tuple[str, dict[str, Any]], config: NetworkConfig, series: Tensor
) -> None:
    name, frames = kind[0], seen(config, series, 1)
    torch.manual_seed(0)
    alone = NETWORKS[name].build(config).eval()
    torch.manual_seed(0)
    residual = build_network(name, config).eval()
    known = frames if isinstance(alone, Recurrent) else frames[:, -1:]
    assert torch.equal(residual(frames, 1), known)  # untrained it is persistence
    nn.init.constant_(residual.gain, 0.5)
    assert torch.allclose(residual(frames, 1), alone(frames, 1) / 2 + known, atol=1e-6)


@pytest.mark.parametrize(("name", "turn"), [("simvp", 4), ("predformer", 4), ("st-resnet", 1)])
def test_what_a_residual_feeds_back_are_frames_and_not_changes(name: str, turn: int) -> None:
    config = NETWORKS[name].config(channels=2, grid=(6, 5), history=4, **SMALL[name])
    torch.manual_seed(0)
    network = build_network(name, config).eval()
    nn.init.constant_(network.gain, 0.5)
    frames = torch.rand(2, 4, 2, 6, 5) + 100
    both = network(frames, 2 * turn)
    first = network(frames, turn)
    second = network(torch.cat([frames, first], dim=1)[:, -4:], turn)
    assert torch.allclose(both, torch.cat([first, second], dim=1), atol=1e-3)
    assert not torch.allclose(first, second, atol=1e-3)


def test_one_backward_reaches_every_parameter(
    network: nn.Module, config: NetworkConfig, series: Tensor
) -> None:
    torch.manual_seed(0)
    outputs = network.train()(seen(config, series, 3), 3)
    F.mse_loss(outputs, torch.rand_like(outputs)).backward()
    dead = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert dead == []


@pytest.mark.usefixtures("process_group")
def test_data_parallel_training_need_not_look_for_unused_parameters(
    build: Any, kind: tuple[str, dict[str, Any]], config: NetworkConfig, series: Tensor
) -> None:
    torch.manual_seed(0)
    take_two_steps(build(kind[0], config), seen(config, series, 3), 3)


@pytest.mark.usefixtures("process_group")
def test_data_parallel_training_stops_at_an_unused_parameter(series: Tensor) -> None:
    config = config_of("convlstm", {})
    network = NETWORKS["convlstm"].build(config)
    network.unused = nn.Parameter(torch.zeros(1))
    with pytest.raises(RuntimeError, match="not used in producing loss"):
        take_two_steps(network, seen(config, series, 3), 3)


@pytest.mark.parametrize("scale", ["quick", "paper"])
@pytest.mark.parametrize(
    "frames",
    [
        Frames(1, (64, 64), 3, 2, data="moving-mnist"),
        Frames(2, (32, 32), 3, 2, data="taxibj"),
        Frames(2, (32, 32), 3, 2, output="identity", day=48),
        Frames(2, (16, 12), 3, 2, output="identity", day=24),
        Frames(2, (9, 17), 3, 4),
        Frames(1, (128, 128), 3, 2, data="kth"),
        Frames(3, (128, 128), 3, 2, data="human36m"),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", NETWORKS)
def test_both_sizes_fit_any_frames(name: str, frames: Frames, scale: str) -> None:
    config = getattr(NETWORKS[name].config, scale)(frames)
    assert (config.channels, config.grid) == (frames.channels, frames.grid)
    output = frames.output if name in BOUNDED else "identity"
    assert (config.history, config.output) == (frames.history, output)
    network = NETWORKS[name].build(config).eval()
    if scale == "paper":
        return
    assert sum(parameter.numel() for parameter in network.parameters()) < 1_000_000
    past = torch.rand(1, len(config.lags(frames.horizon)), frames.channels, *frames.grid)
    with torch.inference_mode():
        forecast = network(past, frames.horizon)[:, -frames.horizon :]
    assert forecast.shape == (1, frames.horizon, frames.channels, *frames.grid)
