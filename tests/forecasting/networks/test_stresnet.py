import dataclasses

import pytest
import torch
from torch import Tensor, nn

from forecasting.networks.base import Frames
from forecasting.networks.stresnet import STResNet, STResNetConfig
from forecasting.profiling.cost import multiply_adds, parameters

TAXIBJ = Frames(2, (32, 32), 4, 4, day=48, data="taxibj")
PLAIN = STResNetConfig(
    channels=1, grid=(2, 2), output="identity", closeness=1, period=1, trend=1, day=4
)
"""Three branches that see a single frame each."""


def run(network: nn.Module, frames: Tensor, horizon: int) -> Tensor:
    with torch.inference_mode():
        outputs: Tensor = network.eval()(frames, horizon)
    return outputs


def days(count: int) -> Tensor:
    """`(1, count, 1, 2, 2)`: frame after frame with its number in every cell."""
    return torch.arange(count, dtype=torch.float32).view(1, count, 1, 1, 1).expand(-1, -1, 1, 2, 2)


def seen(config: STResNetConfig, series: Tensor, horizon: int) -> Tensor:
    return series[:, [-1 - lag for lag in config.lags(horizon)]]


# Size


def test_the_papers_network_has_the_parameters_of_the_published_layers() -> None:
    # DeepST, models/STResNet.py: 3x3 convolutions with bias: to 64 filters, twelve units of two,
    # to the 2 channels; then one weight a channel and cell. Without the external features.
    units = 12 * 2 * (9 * 64 * 64 + 64)
    leave = 9 * 64 * 2 + 2
    closeness = (9 * 3 * 2 * 64 + 64) + units + leave
    period = trend = (9 * 1 * 2 * 64 + 64) + units + leave
    fusion = 3 * 2 * 32 * 32
    network = STResNet(STResNetConfig.paper(TAXIBJ))
    assert parameters(network) == closeness + period + trend + fusion == 2_674_374


def test_a_step_takes_the_multiply_adds_of_its_convolutions() -> None:
    config = STResNetConfig.paper(TAXIBJ)
    cells, weights = 32 * 32, 9 * (3 + 1 + 1) * 2 * 64 + 3 * (24 * 9 * 64 * 64 + 9 * 64 * 2)
    with torch.device("meta"):
        network = STResNet(config)
        past = torch.empty(1, len(config.lags(4)), 2, 32, 32)
    assert multiply_adds(network, past, 4) == 4 * cells * weights


def test_where_there_are_no_days_it_is_its_closeness_branch_alone() -> None:
    frames = Frames(1, (64, 64), 10, 10, data="moving-mnist")
    for config in (STResNetConfig.quick(frames), STResNetConfig.paper(frames)):
        assert (config.closeness, config.period, config.trend, config.day) == (10, 0, 0, 0)
        assert config.lags(10) == config.lags(30) == tuple(range(9, -1, -1))
        network = STResNet(config)
        assert len(network.branches) == 1
        assert len(network.weights) == 0


# The frames that it sees


def test_it_sees_the_newest_frames_and_the_same_slots_of_the_day_and_the_week_before() -> None:
    config = STResNetConfig.paper(TAXIBJ)
    assert config.lags(1) == (335, 47, 2, 1, 0)
    assert config.lags(3) == (335, 334, 333, 47, 46, 45, 2, 1, 0)
    longer = dataclasses.replace(config, closeness=2, period=2, trend=2)
    assert longer.lags(2) == (671, 670, 335, 334, 95, 94, 47, 46, 1, 0)


def test_it_sees_each_frame_once() -> None:
    config = dataclasses.replace(PLAIN, closeness=3, day=3)
    assert config.lags(2) == (20, 19, 2, 1, 0)
    assert config.lags(3) == (20, 19, 18, 2, 1, 0)


def test_past_the_nearest_day_it_sees_its_own_forecast_of_that_slot() -> None:
    # Days of 4 frames: the fifth step ahead has its day before in the first step ahead.
    config = dataclasses.replace(PLAIN, trend=0)
    assert config.periods(5) == [-1]
    assert config.lags(5) == config.lags(4)
    assert min(config.lags(100)) == 0
    torch.manual_seed(0)
    network = STResNet(config)
    series = torch.rand(2, 40, 1, 2, 2)
    longer = run(network, seen(config, series, 6), 6)
    made = torch.cat([series, longer[:, :1]], dim=1)
    # One step later, with the first forecast taken for true, the day before lies in the past.
    again = run(network, seen(config, made, 5), 5)
    assert torch.allclose(longer[:, 1:], again, atol=1e-6)


# The forecast


def network_of_frames(weights: tuple[float, float, float]) -> STResNet:
    """A network whose branches pass on the frame they see, fused with a weight for each."""
    network = STResNet(PLAIN)
    network.branches = nn.ModuleList(nn.Identity() for _ in weights)
    for parameter, weight in zip(network.weights, weights, strict=True):
        nn.init.constant_(parameter, weight)
    return network


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ((1, 0, 0), [27, 27, 27, 27]),
        ((0, 1, 0), [24, 25, 26, 27]),
        ((0, 0, 1), [0, 1, 2, 3]),
        ((0, 0.5, 0.25), [12, 12.75, 13.5, 14.25]),
    ],
    ids=["closeness", "period", "trend", "both"],
)
def test_each_lead_takes_its_own_frames_of_the_day_and_the_week(
    weights: tuple[float, float, float], expected: list[float]
) -> None:
    # A week of four frames a day: the last is 27, a day before the next is 24, a week before 0.
    frames = seen(PLAIN, days(28), 4)
    assert run(network_of_frames(weights), frames, 4)[0, :, 0, 1, 1].tolist() == expected


class Sum(nn.Module):
    """Adds up the frames that stand as channels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum(dim=1, keepdim=True)


def test_closeness_feeds_back_its_own_outputs() -> None:
    config = dataclasses.replace(PLAIN, closeness=2, period=0, trend=0, day=0)
    network = STResNet(config)
    network.branches = nn.ModuleList([Sum()])
    frames = torch.tensor([1.0, 1.0]).view(1, 2, 1, 1, 1).expand(1, 2, 1, 2, 2)
    assert run(network, frames, 6)[0, :, 0, 0, 0].tolist() == [2, 3, 5, 8, 13, 21]


def test_without_days_it_takes_any_number_of_frames() -> None:
    torch.manual_seed(0)
    network = STResNet(dataclasses.replace(PLAIN, closeness=3, period=0, trend=0, day=0))
    frames = torch.rand(2, 5, 1, 2, 2)
    assert torch.equal(run(network, frames, 2), run(network, frames[:, -3:], 2))
    # Before the oldest frame it takes there to have been more like it.
    single = frames[:, :1]
    assert torch.equal(run(network, single, 2), run(network, single.expand(-1, 3, 1, 2, 2), 2))


def test_with_days_any_other_number_of_frames_than_the_lags_is_refused() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        STResNet(PLAIN)(torch.rand(1, 4, 1, 2, 2), 2)
