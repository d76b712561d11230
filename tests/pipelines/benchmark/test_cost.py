"""Costs of networks, measured in processes of their own."""

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import FlowcastError
from forecasting.networks import NETWORKS
from forecasting.networks.base import Frames
from pipelines.benchmark.cost import costs, growth


@given(
    st.lists(st.integers(2, 2000), min_size=2, max_size=8, unique=True),
    st.floats(-1, 3),
    st.floats(1e-6, 1e6),
)
def test_growth_is_the_power_of_the_number_of_cells(
    sides: list[int], power: float, factor: float
) -> None:
    values = [factor * (side * side) ** power for side in sides]
    assert growth(sides, values) == pytest.approx(power, abs=1e-6)


def test_growth_by_hand() -> None:
    # Twice the side are four times the cells.
    assert growth([16, 32], [10, 40]) == pytest.approx(1)
    assert growth([16, 32, 64], [3, 48, 768]) == pytest.approx(2)
    assert growth([16, 32], [5, 5]) == pytest.approx(0)
    # What was too small to be measured does not count.
    assert growth([8, 16, 32], [0, 10, 40]) == pytest.approx(1)


@pytest.mark.parametrize("values", [[], [1.0], [0.0, 1.0]])
def test_growth_is_unknown_with_fewer_than_two_figures(values: list[float]) -> None:
    assert math.isnan(growth([16.0, 32.0][: len(values)], values))


def test_a_network_is_measured_in_a_process_of_its_own() -> None:
    (small,) = costs(["convlstm"], [8], history=2, horizon=2, device="cpu")
    assert (small.network, small.side, small.device, small.failed) == ("convlstm", 8, "cpu", "")
    config = NETWORKS["convlstm"].config.quick(Frames(1, (64, 64), 2, 2))  # the size of all grids
    network = NETWORKS["convlstm"].build(config)
    assert small.parameters == sum(value.numel() for value in network.parameters())
    # Two cells of width 32 on 2x2 patches of 16 cells, filters of 3x3, then 32 -> 16; three steps.
    cells = 9 * ((16 + 32) * 4 * 32 + (32 + 32) * 4 * 32) + 32 * 16
    assert small.multiply_adds == 3 * 4 * cells
    assert 0 < small.forecast_seconds < small.training_seconds
    assert 0 <= small.forecast_bytes <= small.training_bytes < 2**30
    assert small.training_bytes > 0


def test_an_unknown_network_or_device_is_one_sentence_before_anything_is_measured() -> None:
    with pytest.raises(FlowcastError, match="no network 'lstm'; there is swinlstm-b"):
        next(costs(["convlstm", "lstm"], [8], device="cpu"))
    with pytest.raises(FlowcastError, match="no device 'tpu9'"):
        next(costs(["convlstm"], [8], device="tpu9"))


@pytest.mark.parametrize(("name", "side"), [*product(NETWORKS, [4, 5, 16])])
def test_every_network_can_be_built_for_small_frames(name: str, side: int) -> None:
    config = NETWORKS[name].config.quick(Frames(1, (side, side), 10, 10))
    assert config.grid == (side, side)
    NETWORKS[name].build(config)
