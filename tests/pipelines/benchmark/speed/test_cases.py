"""The benchmark of speed: what it compares does the same work, and its figures are what they say."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from data.errors import FlowcastError
from forecasting.profiling.cost import profile
from forecasting.profiling.machine import Machine
from pipelines.benchmark.speed.cases import (
    CASES,
    TINY,
    NoiseArchive,
    Setting,
    SpeedPlan,
    WindowDataset,
    forecast_by_onnx,
    forecast_by_torch,
    ours,
    reference,
    windows_by_position,
    windows_one_by_one,
)
from pipelines.benchmark.speed.harness import Figure
from pipelines.benchmark.speed.table import missed, speed_markdown, write_speed

# What competes


@pytest.mark.parametrize("case", CASES)
def test_every_way_to_forecast_gives_what_the_reference_gives(case: str) -> None:
    setting = Setting(replace(CASES[case], **TINY), batch=2)
    expected = forecast_by_torch(setting, reference).output
    assert expected is not None
    assert expected.shape == (2, 4, 2, 16, 16)
    for way in (
        partial(forecast_by_torch, build=ours),
        partial(forecast_by_onnx, precision="float32"),
    ):
        work = way(setting)
        assert work.output is not None
        assert np.abs(work.output - expected).max() < 1e-5
        assert work.units == 2


def test_windows_are_the_same_however_they_are_made() -> None:
    flow = NoiseArchive(slots=30, side=3, gap=12).flow()
    cut, (past, future) = windows_by_position(flow), windows_one_by_one(flow)
    assert len(cut) == len(past) == 2 * (12 - 7)  # of 12, 12 and 6 slots in a row
    taken = cut.take(torch.arange(len(cut)))
    assert np.array_equal(taken[0], past) and np.array_equal(taken[1], future)
    items = WindowDataset(flow)
    assert len(items) == len(cut)
    assert torch.equal(items[7][1], taken[1][7])


def test_a_profile_tells_matrix_products_from_the_rest() -> None:
    matrix = torch.rand(300, 300)
    cpu = torch.device("cpu")
    products = profile(lambda: matrix @ matrix, cpu)
    others = profile(lambda: matrix.sin(), cpu)
    assert products["product_share"] > 0.5 > others["product_share"] == 0
    assert products["launches"] >= 1


# Plans, tables and files


def test_a_quick_plan_requires_nothing_and_a_whole_one_what_is_asked() -> None:
    quick = [one for case in SpeedPlan(quick=True).works() for one in case.variants]
    assert quick and all(one.speed is None and one.memory is None for one in quick)
    cases = {(one.part, one.case): one for one in SpeedPlan().works()}
    required = {
        one.name: one.speed for one in cases["forecast", "p4w8, batch 1"].variants if one.speed
    }
    assert required == {"ONNX Runtime, float32": 2.2, "ONNX Runtime, int8": 3.2}
    steps = {one.name: one for one in cases["training", "p2w4, batch 16"].variants}
    assert (steps["ours, bfloat16"].speed, steps["ours, bfloat16"].memory) == (1.5, 0.6)
    assert all(one.variants[0].speed is None for one in cases.values())


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"parts": ("fly",)}, "no part 'fly'; there is forecast, training"),
        ({"cases": ("p8",)}, "no case 'p8'; there is p4w8, p2w4"),
    ],
)
def test_what_there_is_not_is_one_sentence(wrong: dict[str, tuple[str]], sentence: str) -> None:
    with pytest.raises(FlowcastError, match=sentence):
        SpeedPlan(**wrong)


MACHINE = Machine("Abacus", 2, "cpu", 2, {"float32": 50e9}, {"torch": "2"})
FIGURES = [
    Figure("forecast", "p", "plain", "sequences", (9.0, 10.0, 12.0), (1.0, 1.0, 1.0), None, 2**22),
    Figure(
        *("forecast", "p", "ours", "sequences", (18.0, 25.0, 24.0), (2.0, 2.5, 2.0), 2.2),
        *(2**21, 0.5, 0.4, 3e-7, {"precision": "float32", "multiply_adds": 1e9}),
    ),
    Figure("feed", "q", "ours", "windows", failed="out of memory"),
]


def test_the_table_has_medians_and_what_is_not_reached_is_told(tmp_path: Path) -> None:
    text = speed_markdown(SpeedPlan(), MACHINE, FIGURES)
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines()]
    (cells,) = [row for row in rows if row[:2] == ["p", "ours"]]
    assert cells == [
        *("p", "ours", "24 sequences", "2.00", "2.2", "2", "0.500", "0.4", "3.0e-07", "48%")
    ]
    assert "100 GFLOP/s in float32" in text
    assert "feed, q, ours failed: out of memory" in text
    speed, memory = missed(FIGURES)
    assert "2.00 times the reference's speed, required is 2.2" in speed
    assert "0.50 of the reference's memory, allowed is 0.4" in memory
    paths = write_speed(tmp_path / "out", SpeedPlan(), MACHINE, FIGURES)
    assert [path.name for path in paths] == ["speed.json", "speed.md"]
    facts = json.loads(paths[0].read_text())
    assert [one["contender"] for one in facts["figures"]] == ["plain", "ours", "ours"]
    assert [one["ratio"] for one in facts["figures"]] == [1.0, 2.0, None]
    assert paths[1].read_text() == text
