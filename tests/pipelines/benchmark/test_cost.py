"""Costs of networks along their axes, measured in processes of their own."""

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import FlowcastError
from forecasting.networks import NETWORKS
from forecasting.networks.base import Frames
from pipelines.benchmark.cost import Cost, cost_markdown, cost_panels, costs, exponent


@given(
    st.lists(st.integers(2, 2000), min_size=2, max_size=8, unique=True),
    st.floats(-1, 3),
    st.floats(1e-6, 1e6),
)
def test_an_exponent_is_the_power_of_the_size(
    sizes: list[int], power: float, factor: float
) -> None:
    values = [factor * float(size) ** power for size in sizes]
    assert exponent(sizes, values) == pytest.approx(power, abs=1e-6)


def test_exponents_by_hand() -> None:
    assert exponent([256, 1024], [10, 40]) == pytest.approx(1)
    assert exponent([256, 1024, 4096], [3, 48, 768]) == pytest.approx(2)
    assert exponent([16, 32], [5, 5]) == pytest.approx(0)
    # What was too small to be measured does not count.
    assert exponent([64, 256, 1024], [0, 10, 40]) == pytest.approx(1)


@pytest.mark.parametrize("values", [[], [1.0], [0.0, 1.0]])
def test_an_exponent_is_unknown_with_fewer_than_two_figures(values: list[float]) -> None:
    assert math.isnan(exponent([16.0, 32.0][: len(values)], values))


@pytest.mark.slow
def test_a_network_is_measured_in_a_process_of_its_own() -> None:
    (small,) = costs(["grid"], ["convlstm"], [8], history=2, horizon=2, device="cpu")
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
        next(costs(["grid"], ["convlstm", "lstm"], [8], device="cpu"))
    with pytest.raises(FlowcastError, match="no device 'tpu9'"):
        next(costs(["grid"], ["convlstm"], [8], device="tpu9"))


@pytest.mark.parametrize(("name", "side"), [*product(NETWORKS, [4, 5, 16])])
def test_every_network_can_be_built_for_small_frames(name: str, side: int) -> None:
    config = NETWORKS[name].config.quick(Frames(1, (side, side), 10, 10))
    assert config.grid == (side, side)
    NETWORKS[name].build(config)


# Tables and panels


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines()]


def row(seconds: float, **fields: object) -> Cost:
    known = {"network": "a", "side": 32, "device": "cpu", "forecast_seconds": seconds}
    return Cost(**{**known, **fields})  # type: ignore[arg-type]


ROWS = [
    row(1.0, side=16, training_seconds=3.0, peak=50e9, forecast_share=0.25, training_share=0.5),
    row(4.0, side=32, training_seconds=48.0),
    row(2.0, axis="history", history=2),
    row(2.0, axis="history", history=8),
    row(5.0, axis="cities", cities=1),
    row(80.0, axis="cities", cities=4),
    Cost("a", 32, "cpu", axis="cities", cities=8, failed="out of memory"),
]


def test_each_axis_is_fitted_in_its_own_count() -> None:
    panels = {(one.x_label, one.title): one for one in cost_panels(ROWS)}
    grid = panels["cells of a frame", "forecast, ms"]
    assert grid.lines == {"a": ([256, 1024], [1000, 4000])}
    assert grid.exponents["a"] == pytest.approx(1)
    assert panels["cells of a frame", "training step, ms"].exponents["a"] == pytest.approx(2)
    assert panels["frames that are seen", "forecast, ms"].exponents["a"] == pytest.approx(0)
    cities = panels["cities, forecast one after the other", "forecast, ms"]
    assert cities.lines == {"a": ([1, 4], [5000, 80000])}
    assert cities.exponents["a"] == pytest.approx(2)
    assert len(panels) == 4, "what was not measured has no panel"


def test_the_text_tells_figures_failures_powers_and_shares() -> None:
    text = cost_markdown(ROWS)
    rows = cells(text)
    assert ["a", "32x32", "8", "failed: out of memory"] in rows
    assert ["a", "32x32", "4", "80,000.0"] in rows
    assert ["forecast", "cells of a frame", "a", "1.00 (1.00)"] in rows
    assert "100 GFLOP/s" in text
    assert ["a", "16x16", "0", "0", "25%", "50%"] in rows


def test_costs_are_written_in_their_units() -> None:
    known = Cost("a", 8, "cpu", 1000, 2_000_000_000, 0.25, 0.5, 2**20, 2**21)
    rows = cells(cost_markdown([known, Cost("b", 8, "cpu", failed="out of memory")]))
    assert rows[2] == ["a", "8x8", "cpu", "1,000", "2.000", "250.0", "500.0", "1.0", "2.0"]
    assert rows[3] == ["b", "8x8", "cpu", "", "", "failed: out of memory", "", "", ""]


def test_an_unknown_axis_is_one_sentence() -> None:
    with pytest.raises(FlowcastError, match="no axis 'depth'; there is grid, history"):
        next(costs(["depth"], ["convlstm"], [8], device="cpu"))
