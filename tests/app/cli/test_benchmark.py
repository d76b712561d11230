"""`forecast benchmark`: what it prints, which files it writes, and how it fails."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from forecasting.profiling import cost
from pipelines.benchmark.cost import Cost

Run = Callable[..., tuple[int, str, str]]

TINY = {
    "data.grid": "8,8",
    "data.history": 2,
    "data.horizon": 1,
    "data.weeks": 1,
    "data.train": 16,
    "data.validation": 4,
    "data.test": 6,
    "training.epochs": 2,
}


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are measured for no longer than they must."""
    monkeypatch.setattr(cost, "SECONDS", 0.0)


def settings(**changes: object) -> list[str]:
    return [f"--set={key}={value}" for key, value in {**TINY, **changes}.items()]


def on_city(out: Path, *more: str, widths: str = "4") -> list[str]:
    command = ["benchmark", "run", "--dataset", "simulated-city", "--network", "convlstm"]
    return [*command, "--device", "cpu", "--out", str(out), *settings(widths=widths), *more]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_a_run_prints_its_figures_and_draws_its_pictures(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code, out, err = run(*on_city(folder))
    assert code == 0, err
    assert names(folder) == {
        "result.json",
        "weights.safetensors",
        "samples.npz",
        "samples.png",
        "samples.gif",
        "learning-curve.png",
    }
    for name, kind in (
        ("samples.png", "PNG"),
        ("learning-curve.png", "PNG"),
        ("samples.gif", "GIF"),
    ):
        with Image.open(folder / name) as image:
            assert image.format == kind
            assert min(image.size) > 50
    with Image.open(folder / "samples.gif") as film:
        assert getattr(film, "n_frames", 1) == 3, (
            "two frames that are seen and one that is forecast"
        )
    result = json.loads((folder / "result.json").read_text())
    assert out.startswith("convlstm on simulated-city, 2 -> 1 frames, ")
    assert f"{result['parameters']:,} parameters" in out
    assert f"MSE: {result['scores']['mse']['all']:.4g}" in out
    assert f"persistence: {result['persistence']['mse']['all']:.4g}" in out
    assert f"epoch {result['chosen_epoch']} of 2" in out
    assert f"written to {folder}" in out
    assert "epoch 1: training loss" in err
    assert "epoch 2: training loss" in err

    code, out, err = run(*on_city(folder))
    assert (code, out) == (1, "")
    assert err == (
        f"error: {folder} holds a finished run; add --resume to show it, or name another by --out\n"
    )
    (folder / "samples.png").unlink()
    code, out, err = run(*on_city(folder, "--resume"))
    assert code == 0, err
    assert f"MSE: {result['scores']['mse']['all']:.4g}" in out
    assert "epoch 1: training loss" not in err, "nothing is trained again"
    assert (folder / "samples.png").exists()


@pytest.mark.slow
def test_runs_are_joined_into_a_table_beside_the_published_figures(
    run: Run, write_digits: Callable[..., Path], tmp_path: Path
) -> None:
    digits = write_digits(tmp_path / "mnist")
    sizes = [text for text in settings(widths=4) if "grid" not in text and "weeks" not in text]
    sizes.append("--set=data.side=32")
    folders = [tmp_path / "one", tmp_path / "two"]
    for seed, folder in enumerate(folders):
        command = ["benchmark", "run", "--dataset", "moving-mnist", "--network", "convlstm"]
        place = ["--data", digits, "--out", folder, "--seed", seed, "--device", "cpu"]
        code, out, err = run(*command, *place, *sizes)
        assert code == 0, err
        assert "note: tested on sequences drawn" in out
    code, out, err = run(
        *("benchmark", "table", *folders),
        *("--csv", tmp_path / "t.csv", "--markdown", tmp_path / "t.md"),
    )
    assert code == 0, err
    assert out == (tmp_path / "t.md").read_text()
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    ours = {row["seed"]: float(row["MSE"]) for row in rows if row["network"].startswith("convlstm")}
    assert ours.keys() == {"0", "1"}
    for seed, folder in enumerate(folders):
        scores = json.loads((folder / "result.json").read_text())["scores"]
        assert ours[str(seed)] == pytest.approx(scores["mse"]["all"], rel=1e-6)
    assert any(row["network"] == "persistence" for row in rows)
    assert any(row["source"].startswith("published") for row in rows)


def test_costs_are_printed_and_written(run: Run, tmp_path: Path) -> None:
    arguments = ["--networks", "convlstm", "--grids", "8", "--along", "grid"]
    arguments += ["--history", "2", "--horizon", "2"]
    code, out, err = run(
        "benchmark", "cost", *arguments, "--device", "cpu", "--out", tmp_path / "cost"
    )
    assert code == 0, err
    assert "convlstm 8x8 cpu" in " ".join(out.replace("|", " ").split())
    assert "convlstm 8x8 measured" in err
    assert names(tmp_path / "cost") == {"cost.json", "cost.md", "cost.png"}
    assert (tmp_path / "cost" / "cost.md").read_text() == out
    (row,) = json.loads((tmp_path / "cost" / "cost.json").read_text())
    assert (row["network"], row["side"], row["failed"]) == ("convlstm", 8, "")
    with Image.open(tmp_path / "cost" / "cost.png") as image:
        assert image.format == "PNG"


@pytest.mark.slow
def test_what_could_not_be_measured_is_exit_code_1_after_the_table(run: Run) -> None:
    sizes = ["--networks", "convlstm", "--grids", "1000000", "--along", "grid"]  # terabytes
    code, out, err = run("benchmark", "cost", *sizes, "--device", "cpu")
    assert code == 1
    assert "convlstm 1000000x1000000 cpu failed: " in " ".join(out.replace("|", " ").split())
    error = err.splitlines()[-1]
    assert error.startswith(
        "error: 1 of the figures could not be measured, first convlstm 1000000x"
    )


@pytest.mark.slow
def test_speed_is_printed_and_written(run: Run, tmp_path: Path) -> None:
    parts = ["--parts", "prepare", "--rounds", 2]
    code, out, err = run("benchmark", "speed", "--quick", *parts, "--out", tmp_path / "speed")
    assert code == 0, err
    assert names(tmp_path / "speed") == {"speed.json", "speed.md"}
    assert (tmp_path / "speed" / "speed.md").read_text() == out
    facts = json.loads((tmp_path / "speed" / "speed.json").read_text())
    assert facts["machine"]["peaks"].keys() == {"float32", "bfloat16"}
    figures = {(one["part"], one["contender"]): one for one in facts["figures"]}
    assert not any(one["failed"] for one in figures.values())
    assert all(len(one["rates"]) == 2 and one["rate"] > 0 for one in figures.values())
    assert figures["prepare", "ours"]["ratio"] > 0


@pytest.mark.slow
def test_an_experiment_prints_its_table_and_draws_its_plot(run: Run, tmp_path: Path) -> None:
    sizes = settings(width=8, heads=2, depths=2)
    command = ["benchmark", "experiment", "gate", "--device", "cpu", "--out", tmp_path / "gate"]
    code, out, err = run(*command, *sizes)
    assert code == 0, err
    assert names(tmp_path / "gate") == {"experiment.json", "table.md", "table.csv", "plot.png"}
    assert out == (tmp_path / "gate" / "table.md").read_text()
    assert "swinlstm-b" in out
    assert re.search(r"run 1 of (\d): fused", err)
    with Image.open(tmp_path / "gate" / "plot.png") as image:
        assert image.format == "PNG"
    again = run(*command, *sizes)
    assert again[:2] == (0, out)
    assert "training loss" not in again[2]


@pytest.mark.parametrize("suffix", ["npy", "npz", "h5"])
def test_a_network_is_trained_on_an_array_of_ones_own(
    run: Run, tmp_path: Path, flowcast_home: Path, suffix: str
) -> None:
    frames = np.random.default_rng(0).random((40, 1, 6, 5))
    path = tmp_path / f"own.{suffix}"
    if suffix == "npy":
        np.save(path, frames)
    elif suffix == "npz":
        np.savez(path, frames)
    else:
        with h5py.File(path, "w") as file:
            file["frames"] = frames
    sizes = ["data.history=3", "data.horizon=2", "training.epochs=1", "widths=4"]
    command = ["benchmark", "run", "--network", "convlstm", "--device", "cpu", "--data", path]
    code, out, err = run(*command, *(f"--set={size}" for size in sizes))
    assert code == 0, err
    assert out.startswith("convlstm on array, 3 -> 2 frames, ")
    (folder,) = (flowcast_home / "benchmarks" / "own").iterdir()
    result = json.loads((folder / "result.json").read_text())
    assert result["config"]["grid"] == [6, 5] and result["config"]["channels"] == 1
    assert result["data"]["train"] > result["data"]["validation"] > 0
    assert len(result["scores"]["mse"]["by_frame"]) == 2


def test_the_experiment_cost_is_benchmark_cost(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def costs(along: object, networks: object, sides: object, **options: object) -> list[Cost]:
        assert (along, sides) == (["grid"], [32, 64, 128, 256])
        return [Cost("convlstm", 32, "cpu", failed="too slow for a test")]

    monkeypatch.setattr("pipelines.benchmark.cost.costs", costs)
    code, out, err = run("benchmark", "experiment", "cost", "--out", tmp_path / "cost")
    assert code == 1 and "failed: too slow for a test" in out
    assert "is now: forecast benchmark cost" in err
    assert names(tmp_path / "cost") == {"cost.json", "cost.md", "cost.png"}


@pytest.mark.slow
def test_ctrl_c_ends_a_run_that_goes_on_by_resume(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "app.cli", *on_city(out, "--set=training.minutes=10")]
    process = subprocess.Popen(
        [text.replace("training.epochs=2", "training.epochs=9000") for text in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ.copy(),
        cwd=Path(__file__).parents[3],
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 2:"):
            process.send_signal(signal.SIGINT)
            break
    printed, err = process.communicate(timeout=600)
    assert process.returncode == 1
    assert printed == ""
    assert re.search(
        r"error: stopped after \d+ finished epochs, which are kept, and \d+ steps of the next; .*"
        r" --resume\)\n",
        err,
    )
    assert names(out) == {"checkpoint.safetensors"}


CITY = ["--dataset", "simulated-city", "--network", "convlstm", *settings()]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "--dataset", "mars", "--network", "convlstm"], "there is no dataset 'mars'"),
        (["run", "--dataset", "kth", "--network", "lstm"], "there is no network 'lstm'"),
        (["run", *CITY, "--scale", "huge"], "there is no scale 'huge'; there is quick, paper"),
        (["run", *CITY, "--set", "color=red"], "has no setting 'color'"),
        (["run", *CITY, "--set", "data.seed=many"], "'many' is no value for seed"),
        (["run", *CITY, "--device", "tpu9"], "no device 'tpu9'"),
        (["run", "--dataset", "kth", "--network", "convlstm"], "datasets/kth has no person"),
        (["run", *CITY, "--set", "training.batch=0"], "batch 0"),
        (["table", "no/such/run"], "no/such/run holds no finished run"),
        (["cost", "--networks", "lstm"], "there is no network 'lstm'"),
        (["cost", "--along", "depth"], "there is no axis 'depth'; there is grid, history"),
        (["cost", "--precision", "int4"], "there is no precision 'int4'"),
        (["speed", "--parts", "flight"], "there is no part 'flight'; there is forecast"),
        (["experiment", "speed"], "there is no experiment 'speed'; there is cell, patch"),
        (["experiment", "cell"], "datasets/moving-mnist has no train-images"),
    ],
)
def test_a_failure_is_one_sentence_and_exit_code_1(
    run: Run, arguments: list[str], sentence: str
) -> None:
    code, out, err = run("benchmark", *arguments)
    assert code == 1
    error = err.splitlines()[-1]
    assert error.startswith("error: ")
    assert sentence in error
    assert "Traceback" not in err
    assert out == ""


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "--network", "convlstm"], "name a dataset by --dataset, or an own file"),
        (["run", "--dataset", "kth"], "--network"),
        (["run", *CITY, "--set", "patch"], "'patch' is not of the form KEY=VALUE"),
        (["run", *CITY, "--set", "=4"], "'=4' is not of the form KEY=VALUE"),
        (["run", *CITY, "--set", "patch=2", "--set", "patch=4"], "patch is set twice"),
        (["run", *CITY, "--seed", "-1"], "--seed"),
        (["table"], "DIR"),
        (["cost", "--grids", "32,wide"], "is no list like 32,64,128, each 4 or more"),
        (["cost", "--grids", "2"], "is no list like 32,64,128, each 4 or more"),
        (["cost", "--grids", ""], "is no list like 32,64,128, each 4 or more"),
        (["cost", "--history", "0"], "--history"),
        (["experiment"], "name"),
        (["experiment", "cell", "--data", "mnist"], "'mnist' is not of the form KEY=VALUE"),
        (["experiment", "cell", "--seeds", "0"], "--seeds"),
        (["fly"], "fly"),
    ],
)
def test_wrong_usage_is_exit_code_2(run: Run, arguments: list[str], sentence: str) -> None:
    code, out, err = run("benchmark", *arguments)
    assert code == 2
    assert sentence in " ".join(err.replace("│", " ").split())
    assert out == ""


def test_help_names_every_verb(run: Run) -> None:
    code, out, _ = run("benchmark", "--help")
    assert code == 0
    for verb in ("run", "table", "cost", "speed", "experiment"):
        assert verb in out
