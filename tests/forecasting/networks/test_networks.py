"""The contract of every network, alone and as the network of a city's forecaster."""

import json
from collections.abc import Iterator
from itertools import product
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


LEVELS = {"down_depths": (2, 2), "down_heads": (2, 4), "up_depths": (2, 2), "up_heads": (4, 2)}
PADDED: dict[str, tuple[dict[str, Any], tuple[int, int], tuple[int, int]]] = {
    # 7x5 cells are 4x3 tokens of 2x2, which need 4x4 for windows of 2x2: 8x8 cells.
    "swinlstm-b": ({}, (7, 5), (8, 8)),
    "swinlstm-direct": ({}, (7, 5), (8, 8)),
    # 11x15 cells are 6x8 tokens of 2x2; 6 do not halve twice into windows of 2x2, 8 do: 16x16 cells.
    "swinlstm-d": ({"patch": 2, **LEVELS}, (11, 15), (16, 16)),
    "convlstm": ({"patch": 4}, (7, 5), (8, 8)),
    "simvp": ({"layers": 4}, (7, 5), (8, 8)),
    "predformer": ({"patch": 4}, (7, 5), (8, 8)),
}
"""What each network that pads its frames makes of a grid: a change of it, the grid, the padded one."""
DEEP: dict[str, dict[str, Any]] = {
    "swinlstm-b": {"grid": (7, 9), "depths": (4, 3), "heads": (2, 4)},
    "swinlstm-d": {"grid": (14, 18), "patch": 2, **LEVELS},
}
CHANCES = [
    *((name, "drop_path") for name in ("swinlstm-b", "swinlstm-d", "swinlstm-direct", "simvp")),
    *(("predformer", chance) for chance in ("drop_path", "dropout")),
]
REFUSED: dict[str, list[tuple[dict[str, Any], str]]] = {
    "swinlstm-b": [
        ({"patch": 3}, "patch 3 is not a power of two"),
        ({"patch": 0}, "patch 0 is not a power of two"),
        ({"depths": (2, 2)}, "2 depths but 1 heads"),
        ({"depths": (), "heads": ()}, "0 depths but 0 heads"),
        ({"heads": (3,)}, "width 8 does not divide into"),
        ({"reconstruction": "magic"}, "'magic' is none of transposed, bilinear, linear"),
        ({"gate": "open"}, "'open' is none of fused, separate"),
        ({"window": 0}, "a window of 0 tokens"),
        ({"depths": (0,)}, "not all at least 1"),
        ({"drop_path": 1.0}, "no probability below 1"),
    ],
    "swinlstm-d": [
        ({"patch": 3}, "patch 3 is not a power of two"),
        ({**LEVELS, "up_depths": (2,)}, "2 levels down but 1 up"),
        ({**LEVELS, "down_heads": (2,)}, "2 depths but 1 heads"),
        ({**LEVELS, "down_depths": (), "up_depths": ()}, "0 depths but 2 heads"),
        ({**LEVELS, "down_heads": (3, 4)}, "width 8 does not divide into 3 heads"),
        ({**LEVELS, "up_heads": (4, 3)}, "width 16 does not divide into 3 heads"),
        ({**LEVELS, "up_heads": (5, 2)}, "width 32 does not divide into 5 heads"),
        ({"gate": "open"}, "'open' is none of fused, separate"),
        ({"reconstruction": "magic"}, "'magic' is none of transposed, bilinear, linear"),
    ],
    "convlstm": [
        ({"patch": 0}, "a patch of 0 cells"),
        ({"widths": ()}, "are not one or more"),
        ({"widths": (4, 0)}, "are not one or more, all at least 1"),
        ({"kernel": 4}, "kernel 4 is not odd"),
    ],
    "simvp": [
        ({"features": 3}, "features 3 do not divide into 2 groups"),
        ({"layers": 3}, "layers 3 is not 2, 4, 6"),
        ({"blocks": 1}, "blocks 1 is less than 2"),
        ({"drop_path": 1.0}, "drop_path 1.0 is no probability below 1"),
    ],
    "predformer": [
        ({"patch": 0}, "a patch of 0 cells"),
        ({"heads": 3}, "width 8 does not divide into 3 heads"),
        ({"order": ""}, "'' is not made of s and t"),
        ({"order": "sxt"}, "'sxt' is not made of s and t"),
        ({"layers": 0}, "layers 0 is less than 1"),
        ({"dropout": 1.0}, "is no probability below 1"),
        ({"drop_path": -0.1}, "is no probability below 1"),
    ],
    "st-resnet": [
        ({"closeness": 0}, "closeness 0 is less than 1"),
        ({"trend": -1, "day": 4}, "trend -1 or day 4 is below 0"),
        ({"period": 1, "trend": 1}, "period 1 and trend 1 need the frames of a day"),
    ],
}
"""Configurations that cannot be built, and what is said of them."""


def config_of(name: str, changes: dict[str, Any]) -> Any:
    return NETWORKS[name].config(**{"channels": 2, "grid": (6, 5), **SMALL[name], **changes})


def seen(config: NetworkConfig, series: Tensor, horizon: int) -> Tensor:
    """The frames of a series that a network sees before it forecasts what follows the last."""
    return series[:, [-1 - lag for lag in config.lags(horizon)]]


def run(network: nn.Module, frames: Tensor, horizon: int) -> Tensor:
    """The outputs in evaluation mode."""
    with torch.inference_mode():
        outputs: Tensor = network.eval()(frames, horizon)
    return outputs


def without_gradient(network: nn.Module) -> list[str]:
    """Names of the parameters that the last backward did not reach."""
    return [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]


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
    assert without_gradient(network) == []


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


@pytest.mark.parametrize("reconstruction", RECONSTRUCTIONS)
@pytest.mark.parametrize("name", ["swinlstm-b", "swinlstm-d"])
def test_frames_keep_their_size(name: str, reconstruction: str) -> None:
    for patch, grid in product([1, 2, 4, 8], [(16, 12), (20, 10), (7, 5), (1, 1)]):
        changes: dict[str, Any] = {"grid": grid, "patch": patch, "window": 4}
        changes |= LEVELS if name == "swinlstm-d" else {}
        config = config_of(name, {**changes, "reconstruction": reconstruction})
        outputs = run(NETWORKS[name].build(config), torch.rand(1, 2, 2, *grid), 1)
        assert outputs.shape == (1, 2, 2, *grid)
        assert outputs.isfinite().all()


@pytest.mark.parametrize("name", PADDED)
def test_padding_adds_cells_of_nothing_after_the_last_row_and_column(name: str) -> None:
    changes, grid, whole = PADDED[name]
    configs = [config_of(name, {"history": 3, **changes, "grid": one}) for one in (grid, whole)]
    torch.manual_seed(0)
    small, large = (NETWORKS[name].build(config) for config in configs)
    large.load_state_dict(small.state_dict())
    # A recurrent network is fed what it gave: of its first output alone the padding is nothing.
    frames, horizon = (1, 1) if isinstance(small, Recurrent) else (3, 3)
    past = torch.rand(2, frames, 2, *grid)
    padded = F.pad(past, (0, whole[1] - grid[1], 0, whole[0] - grid[0]))
    outputs = run(large, padded, horizon)[..., : grid[0], : grid[1]]
    assert torch.allclose(run(small, past, horizon), outputs, atol=1e-6)


def test_frames_lie_in_0_to_1_with_a_sigmoid_and_anywhere_without(
    kind: tuple[str, dict[str, Any]],
) -> None:
    name, changes = kind
    configs = [config_of(name, {**changes, "output": one}) for one in ("sigmoid", "identity")]
    torch.manual_seed(0)
    bounded, free = (NETWORKS[name].build(config) for config in configs)
    free.load_state_dict(bounded.state_dict())
    frames = 50 * torch.randn(4, len(configs[0].lags(2)), 2, 6, 5)
    outputs, unbounded = run(bounded, frames, 2), run(free, frames, 2)
    assert outputs.min() >= 0
    assert outputs.max() <= 1
    assert unbounded.min() < 0
    # What comes after the first output may follow from outputs that were fed.
    assert torch.allclose(unbounded[:, :1].sigmoid(), outputs[:, :1], atol=1e-6)


@pytest.mark.parametrize(("name", "chance"), CHANCES)
def test_chance_is_off_in_evaluation(name: str, chance: str) -> None:
    none = {"drop_path": 0.0, **({"dropout": 0.0} if name == "predformer" else {})}
    torch.manual_seed(0)
    never = NETWORKS[name].build(config_of(name, {"history": 3, **none}))
    network = NETWORKS[name].build(config_of(name, {"history": 3, **none, chance: 0.5}))
    network.load_state_dict(never.state_dict())
    frames = torch.rand(4, 3, 2, 6, 5)
    expected = run(never, frames, 3)
    if not any(isinstance(layer, nn.BatchNorm2d) for layer in never.modules()):
        assert torch.equal(never.train()(frames, 3), expected)
    assert torch.equal(run(network, frames, 3), expected)
    assert not torch.equal(network.train()(frames, 3), expected)


@pytest.mark.parametrize("name", ["simvp", "predformer"])
def test_beyond_the_history_it_goes_on_from_its_own_frames(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name].build(config_of(name, {"history": 3}))
    frames = torch.rand(2, 3, 2, 6, 5)
    first = run(network, frames, 3)
    second = run(network, first, 3)
    assert torch.equal(run(network, frames, 5), torch.cat([first, second], dim=1)[:, :5])


@pytest.mark.parametrize(
    "change",
    [*({"reconstruction": one} for one in RECONSTRUCTIONS), *({"gate": one} for one in GATES)],
    ids=str,
)
@pytest.mark.parametrize("name", DEEP)
def test_one_backward_reaches_every_parameter_of_a_deep_one(
    name: str, change: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    config = config_of(name, DEEP[name] | change)
    network = NETWORKS[name].build(config).train()
    frames = torch.rand(4, 6, 2, *config.grid)
    F.mse_loss(network(frames[:, :3], 3), frames[:, 1:]).backward()
    assert without_gradient(network) == []


@pytest.mark.parametrize(
    ("name", "wrong", "told"),
    [
        *((name, *case) for name, cases in REFUSED.items() for case in cases),
        *((name, {"output": "tanh"}, "'tanh' is none of sigmoid, identity") for name in NETWORKS),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused(
    name: str, wrong: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        config_of(name, wrong)
