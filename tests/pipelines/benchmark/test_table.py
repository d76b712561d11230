"""The table of benchmarks: runs, persistence once, published figures, in order."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

from data.errors import FlowcastError
from forecasting.benchmarks import DATASETS
from forecasting.benchmarks.frame_metrics import METRICS
from forecasting.benchmarks.published import read_published
from pipelines.benchmark.table import as_csv, as_markdown, table


def scores(mse: float, horizon: int = 10) -> dict[str, Any]:
    """Figures that can be told apart; every frame has the same."""
    values = {"mse": mse, "mae": 3 * mse, "psnr": 20.5, "ssim": 0.95, "ssim_range_1": 0.9}
    return {name: {"all": value, "by_frame": [value] * horizon} for name, value in values.items()}


def result(mse: float = 25.0, **changes: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "dataset": "moving-mnist",
        "network": "swinlstm-d",
        "scale": "quick",
        "config": {"patch": 2, "grid": [64, 64]},
        "training": {"epochs": 2},
        "data": {"hash": "ab", "settings": {}, "train": 8, "validation": 2, "test": 4, "notes": []},
        "history": 10,
        "horizon": 10,
        "seed": 3,
        "parameters": 18_840_000,
        "multiply_adds": 69_900_000_000,
        "epochs": [
            {"number": 1, "loss": 0.1, "validation": 40.0, "best": True},
            {"number": 2, "loss": 0.05, "validation": 30.0, "best": True},
        ],
        "chosen_epoch": 2,
        "scores": scores(mse),
        "persistence": scores(60.0),
        "machine": {
            "device": "cpu",
            "threads": 1,
            "torch": "2.13.0",
            "sequences_per_second": {"1": 12.5, "16": 40.0},
            "peak_memory_bytes": 512 * 2**20,
            "training_seconds": 3725.0,
        },
    } | changes


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Writes a run's folder and returns it."""

    def write(content: dict[str, Any] | str) -> Path:
        folder = tmp_path / f"run{len(list(tmp_path.glob('run*')))}"
        folder.mkdir()
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / "result.json").write_text(text)
        return folder

    return write


def test_a_run_is_a_row_of_its_figures(write: Any) -> None:
    frame = table([write(result())])
    row = frame[(frame["source"] == "this run") & (frame["network"] == "swinlstm-d")].iloc[0]
    assert row.drop("source").to_dict() == {
        "dataset": "moving-mnist",
        "network": "swinlstm-d",
        "scale": "quick",
        "frames": "10 -> 10",
        "grid": "64x64",
        "test windows": 4,
        "seed": 3,
        "MSE": 25.0,
        "MAE": 75.0,
        "SSIM (data_range 2)": 0.95,
        "SSIM (data_range 1)": 0.9,
        "PSNR": 20.5,
        "parameters": 18_840_000,
        "multiply-adds": 69_900_000_000,
        "sequences/s batch 1": 12.5,
        "sequences/s batch 16": 40.0,
        "peak memory MiB": 512.0,
        "training time s": 3725.0,
        "epochs": 2,
    }


def test_settings_tell_runs_of_one_network_apart(write: Any) -> None:
    frame = table([write(result(settings=["patch=4", "training.epochs=2"]))])
    assert "swinlstm-d (patch=4, training.epochs=2)" in list(frame["network"])


def test_the_published_rows_are_those_of_the_datasets_met(write: Any) -> None:
    frame = table([write(result(dataset="taxibj", history=4, horizon=4))])
    published = frame[frame["source"].str.startswith("published: ")]
    assert set(published["dataset"]) == {"taxibj"}
    assert len(published) == sum(row.dataset == "taxibj" for row in read_published())
    assert len(frame) == len(published) + 2
    swinlstm = published[published["network"] == "SwinLSTM-B"].iloc[0]
    assert swinlstm["MSE"] == pytest.approx(0.303, abs=0.0005)
    assert math.isnan(swinlstm["SSIM (data_range 1)"])


def test_rows_are_sorted_by_dataset_then_horizon_then_error(write: Any) -> None:
    folders = [
        write(result(20.0)),
        write(result(dataset="kth", horizon=20)),
        write(result(10.0)),
        write(result(dataset="kth", horizon=10)),
    ]
    frame = table(folders)
    ours = frame[frame["source"] == "this run"]
    assert list(zip(ours["dataset"], ours["frames"], ours["MSE"], strict=True)) == [
        ("kth", "10 -> 10", 25.0),
        ("kth", "10 -> 10", 60.0),
        ("kth", "10 -> 20", 25.0),
        ("kth", "10 -> 20", 60.0),
        ("moving-mnist", "10 -> 10", 10.0),
        ("moving-mnist", "10 -> 10", 20.0),
        ("moving-mnist", "10 -> 10", 60.0),
    ]
    digits = frame[frame["dataset"] == "moving-mnist"]
    assert digits["MSE"].is_monotonic_increasing
    kth = frame[frame["frames"] == "10 -> 20"]
    assert math.isnan(kth["MSE"].iloc[-1]), "what has no MSE comes last"


def test_persistence_stands_once_for_the_same_test_frames(write: Any) -> None:
    folders = [
        write(result(20.0)),
        write(result(30.0, seed=4, persistence=scores(60.0 + 1e-9))),
        write(result(30.0, scale="paper", persistence=scores(61.5))),
    ]
    frame = table(folders)
    still = frame[frame["network"] == "persistence"]
    assert still[["scale", "MSE"]].values.tolist() == [["quick", 60.0], ["paper", 61.5]]
    assert still["parameters"].isna().all()


def test_a_machine_that_tells_no_memory_and_a_grid_without_ssim_leave_their_cells_empty(
    write: Any,
) -> None:
    content = result(dataset="simulated-city")
    content["machine"]["peak_memory_bytes"] = None
    content["scores"]["ssim"] = {"all": None, "by_frame": [None] * 10}
    frame = table([write(content)])
    assert len(frame) == 2
    cells = next(csv.DictReader(io.StringIO(as_csv(frame))))
    assert cells["peak memory MiB"] == cells["SSIM (data_range 2)"] == ""
    assert cells["SSIM (data_range 1)"] == "0.9"
    assert "nan" not in as_markdown(frame).lower()


def test_no_folders_are_an_empty_table() -> None:
    frame = table([])
    assert len(frame) == 0
    assert as_markdown(frame).count("\n") == 2


def test_csv_holds_whole_numbers_and_the_full_source(write: Any) -> None:
    frame = table([write(result(1 / 3))])
    rows = list(csv.DictReader(io.StringIO(as_csv(frame))))
    assert len(rows) == len(frame)
    assert rows[0]["MSE"] == "0.33333333"
    assert (rows[0]["parameters"], rows[0]["seed"]) == ("18840000", "3")
    assert rows[0]["training time s"] == "3725"


def test_markdown_is_rounded_for_people(write: Any) -> None:
    text = as_markdown(table([write(result(1234.5678))]))
    lines = text.splitlines()
    assert len({line.count("|") for line in lines}) == 1
    ours = next(line for line in lines if "this run" in line and "swinlstm-d" in line)
    cells = [cell.strip() for cell in ours.strip("|").split("|")]
    assert cells == [
        "moving-mnist",
        "swinlstm-d",
        "quick",
        "10 -> 10",
        "64x64",
        "4",
        "3",
        "1,235",
        "3,704",
        "0.9500",
        "0.9000",
        "20.50",
        "18,840,000",
        "69.90 G",
        "12.50",
        "40.00",
        "512",
        "1 h 02 min",
        "2",
        "this run",
    ]


def test_a_bar_in_a_name_does_not_break_the_table(write: Any) -> None:
    text = as_markdown(table([write(result(dataset="mine", network="a|b"))]))
    assert r"a\|b" in text


def test_a_folder_without_a_result_is_told(tmp_path: Path) -> None:
    with pytest.raises(FlowcastError, match=r"holds no finished run \(no result.json\)"):
        table([tmp_path])


def test_a_result_that_is_no_json_is_told(write: Any) -> None:
    with pytest.raises(FlowcastError, match=r"result\.json cannot be read"):
        table([write("{")])


@pytest.mark.parametrize("content", ["[]", '{"format": 2}'])
def test_a_result_of_another_format_is_told(write: Any, content: str) -> None:
    with pytest.raises(FlowcastError, match="is not of format 1"):
        table([write(content)])


def test_a_result_with_a_part_missing_is_told(write: Any) -> None:
    content = result()
    del content["persistence"]["mae"]
    with pytest.raises(FlowcastError, match=r"result\.json is not whole \(KeyError\('mae'\)\)"):
        table([write(content)])


def test_published_figures_are_in_the_unit_of_our_own() -> None:
    assert {row.dataset for row in read_published()} <= set(DATASETS)
    cells = {"moving-mnist": 64 * 64, "taxibj": 2 * 32 * 32, "kth": 128 * 128}
    for row in read_published():
        count = cells.get(row.dataset, 3 * (256 if "256" in row.note else 128) ** 2)
        if row.mse is not None:
            assert 1e-5 < row.mse / count < 0.05, row
        if row.mse is not None and row.mae is not None:
            assert row.mse / count < row.mae / count, "of errors below 1 the squares are smaller"
        if row.mse is not None and row.psnr is not None:
            # The mean of logarithms lies above the logarithm of the mean, by some dB at most.
            assert -0.2 < row.psnr + 10 * math.log10(row.mse / count) < 4, row
        assert row.ssim is None or 0.7 < row.ssim < 1


def test_no_figure_of_ours_is_left_out_of_the_table(write: Any) -> None:
    labels = [metric.label for metric in METRICS.values()]
    assert set(labels) <= set(table([write(result())]).columns)
