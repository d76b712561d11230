"""Costs, against arithmetic by hand."""

import subprocess
import sys
import time

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forecasting.networks import NETWORKS
from forecasting.networks.base import Frames
from forecasting.profiling import cost

CPU = torch.device("cpu")


class Alone(nn.Module):
    """One layer in the place of a network."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, frames: Tensor, horizon: int) -> Tensor:
        result: Tensor = self.layer(frames)
        return result


class Attention(nn.Module):
    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.masked = masked

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.zeros(x.shape[-2], x.shape[-2]) if self.masked else None
        return F.scaled_dot_product_attention(x, x, x, attn_mask=mask)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Linear(7, 11), 7 * 11 + 11),
        (nn.Conv2d(3, 4, kernel_size=5, bias=False), 3 * 4 * 25),
        (nn.LayerNorm(6), 12),
        (nn.Linear(7, 11).requires_grad_(False), 0),
        (nn.BatchNorm2d(5), 10),  # its running means are no parameters
    ],
)
def test_parameters_are_the_numbers_that_are_trained(layer: nn.Module, expected: int) -> None:
    assert cost.parameters(Alone(layer)) == expected


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        # 5 rows, each of 11 outputs, each a sum over 7.
        (nn.Linear(7, 11), (1, 5, 7), 5 * 11 * 7),
        # 6x5 cells of 4 outputs, each a sum over 3 channels and 3x3 cells.
        (nn.Conv2d(3, 4, 3, padding=1), (1, 3, 6, 5), 6 * 5 * 4 * 3 * 9),
        (nn.Conv2d(3, 4, 2, stride=2), (1, 3, 6, 4), 3 * 2 * 4 * 3 * 4),
        # Two groups of 2 -> 2 channels.
        (nn.Conv2d(4, 4, 3, padding=1, groups=2), (1, 4, 6, 5), 6 * 5 * 4 * 2 * 9),
        # Every one of the 6x5 cells of 3 channels is spread over 3x3 cells of 4 channels.
        (nn.ConvTranspose2d(3, 4, 3, 2, 1, 1), (1, 3, 6, 5), 6 * 5 * 3 * 4 * 9),
        # 3 heads: 5x5 products of queries and keys over 8, then 5x8 sums over 5 values.
        (Attention(masked=False), (1, 3, 5, 8), 3 * (5 * 5 * 8 + 5 * 8 * 5)),
        (Attention(masked=True), (1, 3, 5, 8), 3 * (5 * 5 * 8 + 5 * 8 * 5)),
        (nn.ReLU(), (1, 5, 7), 0),
    ],
)
def test_multiply_adds_are_those_of_the_definition(
    layer: nn.Module, shape: tuple[int, ...], expected: int
) -> None:
    assert cost.multiply_adds(Alone(layer), torch.rand(shape), 1) == expected


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_counted_and_a_longer_forecast_costs_no_less(name: str) -> None:
    counts = []
    for horizon in (2, 6):
        frames = Frames(1, (16, 16), 4, horizon)
        config = NETWORKS[name].config.quick(frames)
        network = NETWORKS[name].build(config)
        past = cost.seen(config, frames, 1, CPU)
        assert past.shape == (1, len(config.lags(horizon)), 1, 16, 16)
        counts.append(cost.multiply_adds(network, past, horizon))
        assert cost.parameters(network) > 0
    assert 0 < counts[0] <= counts[1]


def test_the_time_is_the_median_without_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "SECONDS", 0.0)
    seconds = iter([0.5, 0.02, 0.02, 0.02, 0.3])
    median = cost.median_seconds(lambda: time.sleep(next(seconds, 0.02)), CPU)
    assert median == pytest.approx(0.02, abs=0.03)


def test_what_is_trained_for_its_time_still_trains() -> None:
    network = Alone(nn.Conv3d(3, 3, 1))
    past = torch.rand(1, 3, 1, 4, 4)
    seconds = [
        measure(network, past, 1) for measure in (cost.training_seconds, cost.forecast_seconds)
    ]
    assert all(0 < each < 1 for each in seconds)
    assert all(value.isfinite().all() for value in network.parameters())


PEAK = """
from forecasting.profiling.cost import peak_memory
import torch
before = peak_memory(torch.device("cpu"))
kept = torch.ones(25 * 2**20)  # 100 MiB
print(before, peak_memory(torch.device("cpu")))
"""


def test_memory_is_that_of_the_process_alone_in_bytes() -> None:
    kept = torch.ones(150 * 2**20)  # 600 MiB here, of which a process that we start has none
    told = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    before, after = map(int, told.stdout.split())
    assert 50 * 2**20 < before < 600 * 2**20
    assert 90 * 2**20 < after - before < 150 * 2**20
    assert cost.peak_memory(CPU) > kept.nbytes
