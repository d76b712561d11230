"""The contract of every network with covariates."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from forecasting.networks import NETWORKS, config_of
from forecasting.networks.base import NetworkConfig, Recurrent
from forecasting.networks.residual import StepResidual, residual
from forecasting.networks.with_covariates import (
    Adapter,
    BlocksWithCovariates,
    CovariateShape,
    RecurrentWithCovariates,
    inner_config,
)
from forecasting.rollout.torch_rollout import build_network, restore, weights_of

GRID = (6, 5)
SMALL: dict[str, dict[str, Any]] = {
    "swinlstm-b": {"patch": 2, "width": 8, "window": 2, "depths": (2,), "heads": (2,)},
    "swinlstm-d": {
        **{"patch": 1, "width": 8, "window": 2, "down_depths": (2,), "down_heads": (2,)},
        **{"up_depths": (2,), "up_heads": (4,)},
    },
    "swinlstm-direct": {
        **{"patch": 2, "width": 8, "window": 2, "depths": (2,), "heads": (2,), "ahead": 4},
    },
    "convlstm": {"patch": 2, "widths": (4, 4), "kernel": 3},
    "simvp": {"features": 4, "layers": 2, "width": 8, "blocks": 3, "mlp_ratio": 2},
    "predformer": {"patch": 2, "width": 8, "heads": 2, "layers": 1, "mlp_ratio": 2},
    "st-resnet": {"period": 2, "trend": 1, "day": 6, "residual_units": 1, "width": 8},
}
AROUND = {
    "all": CovariateShape(maps=6, numbers=8, features=8),
    "no maps": CovariateShape(maps=0, numbers=3, features=8),
    "no numbers": CovariateShape(maps=2, numbers=0, features=8),
    "places alone": CovariateShape(maps=0, numbers=0, features=8),
    "no places": CovariateShape(maps=6, numbers=8, place=False, features=8),
    "shares": CovariateShape(maps=6, numbers=8, features=8, shares=True),
}
# Of layers for nothing torch says that there is nothing to begin with.
pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
KINDS = [
    *((name, "all") for name in NETWORKS),
    *((name, around) for name in ("swinlstm-b", "simvp") for around in AROUND if around != "all"),
]
LENGTH = 42
"""Frames of a series: a week of six frames a day, the longest that st-resnet looks back."""


class Given(NamedTuple):
    """A series, and what is told of each slot from the newest but three on."""

    frames: Tensor
    maps: Tensor
    numbers: Tensor

    def to(self, config: NetworkConfig, horizon: int) -> tuple[Tensor, int, Tensor, Tensor]:
        """What a network is given to forecast so far."""
        seen = [LENGTH - 1 - lag for lag in config.lags(horizon)]
        told = [target + 3 for target in config.targets(horizon)]
        return self.frames[:, seen], horizon, self.maps[:, told], self.numbers[:, told]


@pytest.fixture(params=KINDS, ids=", ".join)
def kind(request: pytest.FixtureRequest) -> tuple[str, str]:
    kind: tuple[str, str] = request.param
    return kind


@pytest.fixture
def config(kind: tuple[str, str]) -> NetworkConfig:
    fields = {"channels": 2, "grid": GRID, "output": "identity", **SMALL[kind[0]]}
    return config_of(kind[0], fields)


@pytest.fixture
def around(kind: tuple[str, str]) -> CovariateShape:
    return AROUND[kind[1]]


@pytest.fixture
def untrained(kind: tuple[str, str], config: NetworkConfig, around: CovariateShape) -> nn.Module:
    torch.manual_seed(0)
    return build_network(kind[0], config, around).eval()


@pytest.fixture
def network(untrained: nn.Module) -> nn.Module:
    """One whose weights have all left their beginnings."""
    with torch.no_grad():
        for parameter in untrained.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return untrained


@pytest.fixture
def given(around: CovariateShape) -> Given:
    generator = torch.Generator().manual_seed(1)
    frames = torch.randn(3, LENGTH, 2, *GRID, generator=generator)
    maps = torch.randn(3, 20, around.maps, *GRID, generator=generator)
    return Given(frames, maps, torch.randn(3, 20, around.numbers, generator=generator))


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    """A group of this process alone."""
    dist.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1
    )
    yield
    dist.destroy_process_group()


def forecast(network: nn.Module, given: Given, config: NetworkConfig, horizon: int) -> Tensor:
    outputs: Tensor = network(*given.to(config, horizon))
    return outputs[:, -horizon:]


def test_every_network_is_under_this_contract() -> None:
    assert {name for name, _ in KINDS} == SMALL.keys() == NETWORKS.keys()


@pytest.mark.parametrize("horizon", [1, 4, 7])
def test_the_last_outputs_are_the_forecast(
    network: nn.Module, given: Given, config: NetworkConfig, horizon: int
) -> None:
    outputs = network(*given.to(config, horizon))
    before = config.history - 1 if isinstance(network, Recurrent) else 0
    assert outputs.shape == (3, before + horizon, 2, *GRID)
    assert outputs.isfinite().all()


def test_a_network_is_told_of_the_steps_that_it_makes(
    network: nn.Module, config: NetworkConfig
) -> None:
    if isinstance(network, RecurrentWithCovariates):
        assert config.targets(3) == (-2, -1, 0, 1, 2, 3)
        return
    # SimVP, PredFormer and the direct head make four frames at once, ST-ResNet one.
    assert isinstance(network, BlocksWithCovariates)
    assert config.targets(4) == (1, 2, 3, 4)
    assert len(config.targets(5)) == (5 if config.block == 1 else 8)


def test_a_shorter_horizon_is_the_start_of_a_longer_one(
    network: nn.Module, given: Given, config: NetworkConfig
) -> None:
    longest = forecast(network, given, config, 6)
    for horizon in (1, 2, 4):
        shorter = forecast(network, given, config, horizon)
        torch.testing.assert_close(shorter, longest[:, :horizon], atol=1e-6, rtol=1e-5)


def test_untrained_it_keeps_a_share_of_the_newest_frame(
    untrained: nn.Module, given: Given, config: NetworkConfig
) -> None:
    newest = given.frames[:, -1]
    # Frames that are made at once are changes to the same one.
    turns = [-(-lead // config.block) for lead in range(1, 6)]
    expected = torch.stack([0.8**turn * newest for turn in turns], dim=1)
    torch.testing.assert_close(forecast(untrained, given, config, 5), expected)


def test_a_forecast_depends_on_all_that_is_shown(
    network: nn.Module, given: Given, config: NetworkConfig
) -> None:
    whole = forecast(network, given, config, 3)
    frames, horizon, maps, numbers = given.to(config, 3)
    for position in range(frames.shape[1]):
        other = frames.clone()
        other[:, position] += 1
        assert not torch.equal(network(other, horizon, maps, numbers)[:, -3:], whole)
    for shown in (maps, numbers):
        for place in range(shown.shape[2]):
            before = shown[:, :, place].clone()
            shown[:, :, place] += 1
            assert not torch.equal(network(frames, horizon, maps, numbers)[:, -3:], whole)
            shown[:, :, place] = before


def test_a_stack_equals_its_single_samples(
    network: nn.Module, given: Given, config: NetworkConfig
) -> None:
    single = [forecast(network, Given(*(part[[n]] for part in given)), config, 3) for n in range(3)]
    torch.testing.assert_close(
        forecast(network, given, config, 3), torch.cat(single), atol=1e-5, rtol=1e-4
    )


def test_a_gradient_reaches_every_parameter(
    network: nn.Module, given: Given, config: NetworkConfig
) -> None:
    outputs = network.train()(*given.to(config, 5))
    (outputs - torch.rand_like(outputs)).square().mean().backward()
    dead = [
        name
        for name, parameter in network.named_parameters()
        if parameter.numel() and (parameter.grad is None or not parameter.grad.any())
    ]
    assert dead == []


@pytest.mark.usefixtures("process_group")
def test_data_parallel_training_need_not_look_for_unused_parameters(
    untrained: nn.Module, given: Given, config: NetworkConfig
) -> None:
    parallel = DistributedDataParallel(untrained.train())
    optimizer = torch.optim.AdamW(
        untrained.parameters(), lr=torch.tensor(1e-3), fused=True
    )  # as trainings have it
    before = {name: value.clone() for name, value in untrained.state_dict().items()}
    for _ in range(3):
        optimizer.zero_grad()
        outputs = parallel(*given.to(config, 3))
        (outputs - 1).square().mean().backward()
        optimizer.step()
    same = [
        name for name, value in untrained.named_parameters() if torch.equal(value, before[name])
    ]
    assert [name for name in same if before[name].numel()] == []


def test_weights_are_restored_from_arrays(
    network: nn.Module, kind: tuple[str, str], given: Given, config: NetworkConfig
) -> None:
    around = vars(AROUND[kind[1]])
    rollout = restore(kind[0], vars(config), around, weights_of(network))
    frames, horizon, maps, numbers = given.to(config, 3)
    again = rollout(frames.numpy(), horizon, maps.numpy(), numbers.numpy())
    torch.testing.assert_close(torch.from_numpy(again), forecast(network, given, config, 3))


# Adapter


def test_in_training_whole_maps_and_numbers_are_dropped_at_times() -> None:
    config = config_of("swinlstm-b", {"grid": GRID, **SMALL["swinlstm-b"]})
    doors = Adapter(config, CovariateShape(maps=4, numbers=5, dropout=0.25))
    torch.manual_seed(0)
    maps = doors._dropped(torch.ones(2000, 4, *GRID))
    assert set(maps.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(maps.amin((2, 3)), maps.amax((2, 3)))
    assert maps.mean() == pytest.approx(0.75, abs=0.02)
    assert doors.eval()._dropped(torch.ones(9, 5)).all()


def test_shares_are_of_a_cell_of_those_around_it_and_of_all_as_they_grow() -> None:
    config = config_of("swinlstm-b", {"grid": (3, 4), **SMALL["swinlstm-b"]})
    doors = Adapter(config, CovariateShape(maps=2, numbers=0, growth=True, shares=True))
    shares = torch.tensor([0.5, 0.25, -1.0, 2.0, 0.125, 3.0]).repeat_interleave(2)
    with torch.no_grad():
        doors.keep.zero_()
        doors.leave[-1].bias.copy_(torch.cat([torch.tensor([7.0, 0.0]), shares]))
    frame = torch.randint(-9, 9, (1, 2, 3, 4)).float()
    growth = torch.randint(-1, 3, (1, 2, 3, 4)).float()
    features = torch.zeros(1, 16, 3, 4)
    made = doors.forecast(frame, growth, features, features)
    cell = (1, 2)  # in the middle of the rows 0 to 2 and the columns 1 to 3
    for channel, change in enumerate((7.0, 0.0)):
        own, larger = frame[0, channel], (frame * (1 + growth))[0, channel]
        near, far = own[:, 1:].sum() / 9, larger[:, 1:].sum() / 9
        expected = 0.5 * own[cell] + 0.25 * larger[cell] - near + 2 * far
        expected += 0.125 * own.sum() / 12 + 3 * larger.sum() / 12 + change
        torch.testing.assert_close(made[0, channel][cell], expected)


def test_the_network_within_takes_and_gives_features() -> None:
    config = config_of("convlstm", {"channels": 2, "grid": GRID, **SMALL["convlstm"]})
    within = inner_config(config, CovariateShape(6, 8, features=12))
    assert (within.channels, within.grid, within.output) == (12, GRID, "identity")
    assert within.history == config.history


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_plain_is_the_bare_network_on_changes(name: str) -> None:
    config = config_of(name, {"channels": 2, "grid": GRID, "output": "identity", **SMALL[name]})
    torch.manual_seed(0)
    ours = build_network(name, config, None).eval()
    torch.manual_seed(0)
    theirs = residual(NETWORKS[name].build(config)).eval()
    assert type(ours) is type(theirs)
    frames = torch.randn(2, len(config.lags(3)), 2, *GRID)
    for network in (ours, theirs):
        nn.init.ones_(network.gain)
    assert torch.equal(ours(frames, 3), theirs(frames, 3))
    assert isinstance(ours, StepResidual) == isinstance(NETWORKS[name].build(config), Recurrent)
