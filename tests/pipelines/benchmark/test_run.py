"""Runs of the benchmark: what they write, that it is right, that they can be killed and gone on with."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from data.city import load_city
from data.errors import FlowcastError
from data.store.store import Store
from forecasting.city.recipe import Recipe
from forecasting.networks import NETWORKS, Network
from forecasting.networks.base import NetworkConfig
from forecasting.profiling import cost
from forecasting.training.hardware import Computing
from forecasting.training.loop import Batch, CheckpointDue
from forecasting.training.state import Epoch
from pipelines.benchmark.plan import RunPlan, open_task, plan
from pipelines.benchmark.result import Finished, load_network, read_result
from pipelines.benchmark.run import run
from pipelines.forecast.live import forecast
from pipelines.train.city import RunOptions, train
from pipelines.train.version import Trained

CPU = torch.device("cpu")
ON_CPU = Computing("cpu")
CITY = {
    "data.grid": "8,8",
    "data.weeks": "1",
    "data.train": "48",
    "data.validation": "8",
    "data.test": "10",
    "data.horizon": "3",
    "training.epochs": "3",
    "training.batch": "8",
}
DIGITS = {
    "data.side": "32",
    "data.history": "3",
    "data.horizon": "2",
    "data.train": "32",
    "data.validation": "6",
    "data.test": "10",
    "training.epochs": "3",
    "training.batch": "8",
}
SIZES = {
    "swinlstm-b": {"width": "8", "depths": "2", "heads": "2", "patch": "4"},
    "convlstm": {"widths": "4,4"},
}
KEYS = {
    "format",
    "dataset",
    "network",
    "scale",
    "settings",
    "config",
    "training",
    "data",
    "history",
    "horizon",
    "seed",
    "parameters",
    "multiply_adds",
    "epochs",
    "chosen_epoch",
    "scores",
    "persistence",
    "samples",
    "facts",
    "machine",
}


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are measured for no longer than they must."""
    monkeypatch.setattr(cost, "SECONDS", 0.0)


def on_city(network: str = "convlstm", seed: int = 0, **changes: str) -> RunPlan:
    settings = {**CITY, **SIZES.get(network, {}), **changes}
    return plan("simulated-city", network, "quick", settings, seed)


def on_digits(network: str = "swinlstm-b", seed: int = 0) -> RunPlan:
    return plan("moving-mnist", network, "quick", {**DIGITS, **SIZES.get(network, {})}, seed)


def finish(events: Iterator[Batch | Epoch | Finished]) -> Finished:
    *_, last = events
    assert isinstance(last, Finished)
    return last


def refuse_constant(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


def strict(folder: Path) -> dict[str, Any]:
    text = (folder / "result.json").read_text(encoding="utf-8")
    result: dict[str, Any] = json.loads(text, parse_constant=refuse_constant)
    return result


def without_machine(folder: Path) -> dict[str, Any]:
    return {key: value for key, value in strict(folder).items() if key != "machine"}


def assert_same_run(one: Path, two: Path) -> None:
    assert without_machine(one) == without_machine(two)
    name = "weights.safetensors"
    assert (one / name).read_bytes() == (two / name).read_bytes()
    with np.load(one / "samples.npz") as ours, np.load(two / "samples.npz") as theirs:
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours)


@pytest.fixture
def digits(write_digits: Callable[..., Path], tmp_path: Path) -> Path:
    return write_digits(tmp_path / "mnist")


# What is written


def test_a_run_writes_its_folder_whole(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    events = list(run(on_city(), out=folder, computing=ON_CPU))
    finished = events[-1]
    assert isinstance(finished, Finished)
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    assert names == {"result.json", "weights.safetensors", "samples.npz"}
    result = strict(folder)
    assert result.keys() == KEYS
    assert result == finished.result == read_result(folder)
    asked = {**CITY, **SIZES["convlstm"]}
    assert result["settings"] == sorted(f"{key}={text}" for key, text in asked.items())
    assert result["config"]["grid"] == [8, 8]
    assert result["config"]["widths"] == [4, 4]
    assert (result["history"], result["horizon"], result["seed"]) == (4, 3, 0)
    assert (result["training"]["epochs"], result["training"]["horizon"]) == (3, 3)
    assert [result["data"][part] for part in ("train", "validation", "test")] == [48, 8, 10]
    assert len(result["data"]["hash"]) == 64
    told = [event for event in events if isinstance(event, Epoch)]
    assert [epoch["validation"] for epoch in result["epochs"]] == [
        epoch.validation for epoch in told
    ]
    assert result["machine"].keys() >= {"device", "threads", "torch", "sequences_per_second"}
    assert all(rate > 0 for rate in result["machine"]["sequences_per_second"].values())
    assert result["machine"]["training_seconds"] == told[-1].seconds


def ssim(forecast: np.ndarray, observed: np.ndarray, data_range: float) -> float:
    clipped = forecast.clip(0, 1).astype(np.float64)
    similarity = structural_similarity(
        clipped, observed.astype(np.float64), channel_axis=0, data_range=data_range
    )
    return float(similarity)


def figures(forecast: np.ndarray, observed: np.ndarray) -> dict[str, list[float]]:
    """The figures of the tables by frame, as SWINLSTM.md's section 7 defines them."""
    errors = forecast.astype(np.float64) - observed
    clipped = forecast.clip(0, 1).astype(np.float64) - observed
    psnr = -10 * np.log10((clipped**2).mean((2, 3, 4)))
    leads = range(forecast.shape[1])
    pairs = [list(zip(forecast[:, lead], observed[:, lead], strict=True)) for lead in leads]
    return {
        "mse": (errors**2).sum((2, 3, 4)).mean(0).tolist(),
        "mae": np.abs(errors).sum((2, 3, 4)).mean(0).tolist(),
        "psnr": psnr.mean(0).tolist(),
        "ssim": [float(np.mean([ssim(f, o, 2) for f, o in lead])) for lead in pairs],
        "ssim_range_1": [float(np.mean([ssim(f, o, 1) for f, o in lead])) for lead in pairs],
    }


@pytest.mark.parametrize("network", ["swinlstm-b", "convlstm"])
def test_the_scores_are_those_of_the_weights_on_the_test_windows(
    network: str, tmp_path: Path
) -> None:
    chosen = on_city(network)
    finished = finish(run(chosen, out=tmp_path / "run", computing=ON_CPU))
    loaded = load_network(finished.folder, CPU)
    test = open_task(chosen, None, CPU).test
    past, future = test.take(torch.arange(len(test)))
    with torch.inference_mode():
        forecast = loaded(past, 3)[:, -3:]
    for scores, made in (
        (finished.result["scores"], forecast),
        (finished.result["persistence"], past[:, -1:].expand(-1, 3, -1, -1, -1)),
    ):
        expected = figures(made.numpy(), future.numpy())
        assert scores.keys() == expected.keys()
        for name, by_frame in expected.items():
            assert scores[name]["by_frame"] == pytest.approx(by_frame, rel=1e-5, abs=1e-6), name
            assert scores[name]["all"] == pytest.approx(np.mean(by_frame), rel=1e-5, abs=1e-6)


@pytest.mark.slow
def test_weights_and_scores_are_those_of_the_epoch_with_the_lowest_validation_error(
    tmp_path: Path,
) -> None:
    chosen = on_city(
        **{
            "training.learning_rate": "0.3",  # at which the network soon dies
            "training.schedule": "constant",
            "training.epochs": "4",
        }
    )
    result = finish(run(chosen, out=tmp_path / "run", computing=ON_CPU)).result
    errors = [epoch["validation"] for epoch in result["epochs"]]
    assert result["chosen_epoch"] == 1 + int(np.argmin(errors)) < 4, "else it is too easy"
    assert [epoch["best"] for epoch in result["epochs"]] == [
        error < min(errors[:number], default=np.inf) for number, error in enumerate(errors)
    ]
    task, network = open_task(chosen, None, CPU), load_network(tmp_path / "run", CPU)
    for windows, error in (
        (task.validation, min(errors)),
        (task.test, result["scores"]["mse"]["all"]),
    ):
        past, future = windows.take(torch.arange(len(windows)))
        with torch.inference_mode():
            wrong = (network(past, 3)[:, -3:] - future).double()
        assert float((wrong**2).sum((2, 3, 4)).mean()) == pytest.approx(error, rel=1e-5)


def test_samples_are_windows_of_the_test_part_with_their_forecasts(
    digits: Path, tmp_path: Path
) -> None:
    chosen = on_digits()
    finished = finish(run(chosen, digits, tmp_path / "run", computing=ON_CPU))
    assert finished.result["samples"] == [0, 3, 6]  # of ten, evenly spread
    past, future = open_task(chosen, digits, CPU).test.take(torch.tensor([0, 3, 6]))
    with np.load(finished.folder / "samples.npz") as samples:
        np.testing.assert_array_equal(samples["past"], past)
        np.testing.assert_array_equal(samples["observed"], future)
        assert samples["forecast"].shape == (3, 2, 1, 32, 32)
        with torch.inference_mode():
            forecast = load_network(finished.folder, CPU)(past, 2)[:, -2:]
        np.testing.assert_allclose(samples["forecast"], forecast, atol=1e-6)


@pytest.mark.slow
def test_the_seed_decides_the_training_and_not_what_is_tested(digits: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "again", "other")]
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        finish(run(on_digits("convlstm", seed), digits, folder, computing=ON_CPU))
    assert_same_run(folders[0], folders[1])
    one, other = strict(folders[0]), strict(folders[2])
    assert one["scores"] != other["scores"]
    assert one["persistence"] == other["persistence"]
    assert one["data"]["hash"] == other["data"]["hash"]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow
def test_every_network_forecasts_more_frames_than_it_sees(name: str, tmp_path: Path) -> None:
    history, horizon = 2, 5
    lengths = {"data.history": str(history), "data.horizon": str(horizon)}
    chosen = on_city(name, **lengths, **{"training.epochs": "1", "data.train": "4"})
    finished = finish(run(chosen, out=tmp_path / "run", computing=ON_CPU))
    assert (finished.result["history"], finished.result["horizon"]) == (history, horizon)
    assert len(finished.result["scores"]["mse"]["by_frame"]) == horizon
    assert finished.samples["past"].shape == (3, history, 2, 8, 8)
    assert finished.samples["forecast"].shape == (3, horizon, 2, 8, 8)
    assert np.isfinite(finished.samples["forecast"]).all()


def test_a_figure_that_is_not_there_is_null(tmp_path: Path) -> None:
    chosen = on_city(**{"data.grid": "6,6", "training.epochs": "1"})  # too small for SSIM
    finish(run(chosen, out=tmp_path / "run", computing=ON_CPU))
    assert strict(tmp_path / "run")["scores"]["ssim"] == {"all": None, "by_frame": [None] * 3}


def test_settings_are_laid_over_the_published_size_and_recipe(tmp_path: Path) -> None:
    chosen = plan("simulated-city", "convlstm", "paper", {**CITY, **SIZES["convlstm"]})
    result = finish(run(chosen, out=tmp_path / "run", computing=ON_CPU)).result
    assert result["scale"] == "paper"
    assert (result["config"]["widths"], result["config"]["kernel"]) == ([4, 4], 5)
    training = result["training"]
    # OpenSTL trains it without weight decay at 5e-4.
    assert (training["weight_decay"], training["learning_rate"]) == (0, 5e-4)
    assert (training["epochs"], len(result["epochs"])) == (3, 3)


# Stopped, killed, gone on with


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_same_result(digits: Path, tmp_path: Path) -> None:
    whole, halted = tmp_path / "whole", tmp_path / "halted"
    finish(run(on_digits(), digits, whole, computing=ON_CPU))
    stop = threading.Event()
    events = []
    with pytest.raises(FlowcastError, match=r"stopped after 1 finished epochs, .*--resume"):
        for event in run(on_digits(), digits, halted, computing=ON_CPU, stop=stop):
            events.append(event)
            if isinstance(event, Batch) and event.epoch == 2:
                stop.set()
    assert isinstance(events[-1], CheckpointDue)
    assert not (halted / "result.json").exists()
    with pytest.raises(FlowcastError, match="holds an unfinished run; add --resume"):
        next(run(on_digits(), digits, halted, computing=ON_CPU))
    again = list(run(on_digits(), digits, halted, computing=ON_CPU, resume=True))
    assert [event.number for event in again if isinstance(event, Epoch)] == [2, 3]
    assert_same_run(whole, halted)
    assert not (halted / "checkpoint.safetensors").exists()


KILLED = """
import json, os, signal, sys
from pathlib import Path
from forecasting.training.loop import Batch
from pipelines.benchmark.run import run
from pipelines.benchmark.plan import plan

chosen = plan("simulated-city", "swinlstm-b", "quick", json.loads(sys.argv[1]))
for event in run(chosen, None, Path(sys.argv[2])):
    if isinstance(event, Batch) and event.epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_same_result(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings = json.dumps({**CITY, **SIZES["swinlstm-b"]})
    process = subprocess.run(
        [sys.executable, "-c", KILLED, settings, str(killed)],
        env=os.environ.copy(),
        cwd=Path(__file__).parents[3],
        timeout=600,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL
    assert (killed / "checkpoint.safetensors").exists()
    finish(run(on_city("swinlstm-b"), out=whole, computing=ON_CPU))
    again = list(run(on_city("swinlstm-b"), out=killed, computing=ON_CPU, resume=True))
    assert [event.number for event in again if isinstance(event, Epoch)] == [3]
    assert_same_run(whole, killed)


def test_a_finished_run_is_shown_at_once_and_not_run_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = finish(run(on_city(), out=folder, computing=ON_CPU))
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.name[0] != "."}
    (again,) = run(on_city(), out=folder, computing=ON_CPU, resume=True)
    assert isinstance(again, Finished)
    assert again.result == first.result
    assert again.samples.keys() == first.samples.keys()
    assert all(np.array_equal(again.samples[key], first.samples[key]) for key in first.samples)
    assert times == {path: path.stat().st_mtime_ns for path in times}
    with pytest.raises(FlowcastError, match=r"holds a finished run; add --resume .*--out"):
        next(run(on_city(), out=folder, computing=ON_CPU))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"training.epochs": "4"}, "training"),
        ({"data.test": "9"}, "data"),
        ({"data.seed": "1"}, "data"),
        ({"widths": "5"}, "network"),
    ],
)
def test_another_run_s_folder_is_refused(changes: dict[str, str], key: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    finish(run(on_city(**{"training.epochs": "1"}), out=folder, computing=ON_CPU))
    with pytest.raises(
        FlowcastError, match=f"finished run of another {key}.*; name another folder"
    ):
        next(
            run(
                on_city(**{"training.epochs": "1", **changes}),
                out=folder,
                computing=ON_CPU,
                resume=True,
            )
        )


@pytest.mark.slow
def test_a_run_in_another_precision_is_another_run(flowcast_home: Path, tmp_path: Path) -> None:
    low = Computing("cpu", precision="bfloat16")
    chosen = on_city(**{"training.epochs": "1"})
    finished = finish(run(chosen, computing=low))
    assert finished.folder.name == f"{chosen.name}-bfloat16"
    computing = {"device": "cpu", "precision": "bfloat16", "compiled": False, "recompute": False}
    assert finished.result["machine"]["computing"] == computing
    assert finished.result["facts"]["precision"] == "bfloat16"
    with pytest.raises(FlowcastError, match=r"run of another precision.*; name another"):
        next(run(chosen, out=finished.folder, computing=ON_CPU, resume=True))
    folder = tmp_path / "run"
    for event in run(on_city(), out=folder, computing=ON_CPU):
        if isinstance(event, Epoch):
            break
    with pytest.raises(FlowcastError, match="the precision has changed since"):
        next(run(on_city(), out=folder, computing=low, resume=True))


def test_an_unfinished_run_of_another_kind_is_not_gone_on_with(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for event in run(on_city(), out=folder, computing=ON_CPU):
        if isinstance(event, Epoch):
            break
    with pytest.raises(FlowcastError, match="the network has changed since"):
        next(run(on_city(widths="5"), out=folder, computing=ON_CPU, resume=True))


def test_only_one_run_writes_a_folder_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with (
        filelock.FileLock(folder / ".lock"),
        pytest.raises(FlowcastError, match=f"another run is writing {folder}"),
    ):
        next(run(on_city(), out=folder, computing=ON_CPU))


def test_runs_go_to_the_home_where_no_folder_is_named(digits: Path, flowcast_home: Path) -> None:
    (flowcast_home / "datasets").mkdir(parents=True)
    digits.rename(flowcast_home / "datasets" / "moving-mnist")
    finished = finish(run(on_digits("convlstm"), computing=ON_CPU))
    assert finished.folder.parent == flowcast_home / "benchmarks" / "moving-mnist"
    assert on_digits("convlstm").name == finished.folder.name
    assert on_digits("convlstm", seed=1).name != finished.folder.name


# Refused


@pytest.mark.parametrize(
    ("asked", "settings", "sentence"),
    [
        (("mars", "convlstm", "quick"), {}, "no dataset 'mars'; there is moving-mnist, taxibj, kth"),
        (("kth", "lstm", "quick"), {}, "no network 'lstm'; there is swinlstm-b, swinlstm-d"),
        (("kth", "convlstm", "huge"), {}, "no scale 'huge'; there is quick, paper"),
        (("kth", "convlstm", "quick"), {"data.color": "1"}, "has no setting 'color'; it has hist"),
        (("kth", "convlstm", "quick"), {"training.time": "1"}, "has no setting 'time'; it has epochs"),
        (("kth", "convlstm", "quick"), {"model.patch": "1"}, r"no setting 'model\.patch'; write"),
        (("kth", "convlstm", "quick"), {"kth:data.size": "8"}, "no setting 'kth:data.size'"),
        (("kth", "convlstm", "quick"), {"training.epochs": "ten"}, "'ten' is no value for epochs"),
        (("kth", "convlstm", "quick"), {"training.epochs": "0"}, "epochs 0"),
        (("kth", "convlstm", "quick"), {"training.minutes": "0"}, "minutes 0"),
        (("kth", "convlstm", "quick"), {"data.horizon": "0"}, "horizon 0 is less than 1"),
        (("kth", "convlstm", "quick"), {"history": "3"}, "history follows from the .*set data.hist"),
        (("kth", "convlstm", "quick"), {"grid": "9,9"}, "grid follows from the dataset; .*data.size"),
        (("kth", "convlstm", "quick"), {"training.seed": "3"}, "the seed is set by --seed"),
    ],
)  # fmt: skip
def test_what_cannot_be_planned_is_one_sentence(
    asked: tuple[str, str, str], settings: Mapping[str, str], sentence: str
) -> None:
    with pytest.raises(FlowcastError, match=sentence) as refusal:
        plan(*asked, settings)
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"patch": "two"}, "'two' is no value for patch"),
        ({"heads": "3"}, "ConvLSTMConfig has no setting 'heads'; it has channels"),
        ({"kernel": "2"}, "these settings do not go together: kernel 2 is not odd"),
        ({"data.weeks": "0"}, "0 weeks is too short"),
        ({"data.horizon": "300"}, "there are 0 windows of 4 . 300 frames"),
    ],
)
def test_what_cannot_be_run_is_one_sentence_and_leaves_no_folder(
    changes: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(FlowcastError, match=sentence) as refusal:
        next(run(on_city(**changes), out=tmp_path / "run", computing=ON_CPU))
    assert len(str(refusal.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_missing_data_and_a_missing_device_are_one_sentence(
    tmp_path: Path, flowcast_home: Path
) -> None:
    with pytest.raises(FlowcastError, match=str(flowcast_home / "datasets" / "moving-mnist")):
        next(run(on_digits(), computing=ON_CPU))
    with pytest.raises(FlowcastError, match="no device 'tpu9'"):
        next(run(on_city(), out=tmp_path / "run", computing=Computing("tpu9")))


def test_a_folder_without_a_whole_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FlowcastError, match="holds no finished run"):
        load_network(tmp_path, CPU)
    folder = tmp_path / "run"
    finish(run(on_city(**{"training.epochs": "1"}), out=folder, computing=ON_CPU))
    (folder / "weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(FlowcastError, match=r"cannot be loaded .*; run it again"):
        load_network(folder, CPU)
    (folder / "result.json").write_text('{"format": 0}')
    with pytest.raises(FlowcastError, match="is not of format 1"):
        read_result(folder)


# A network of one's own


class Fading(nn.Module):
    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.kept = nn.Parameter(torch.ones(config.channels, 1, 1))

    def forward(self, frames: Tensor, horizon: int) -> Tensor:
        return (self.kept * frames[:, -1:]).expand(-1, horizon, -1, -1, -1)


FadingConfig = NetworkConfig


@pytest.fixture
def fading(monkeypatch: pytest.MonkeyPatch) -> str:
    """A network of three lines, registered in the one place where networks are."""
    monkeypatch.setitem(NETWORKS, "fading", Network(f"{__name__}:Fading", "for a test"))
    return "fading"


def test_a_network_of_three_lines_runs_through_the_benchmark(fading: str, tmp_path: Path) -> None:
    finished = finish(run(on_city(fading), out=tmp_path / "run", computing=ON_CPU))
    assert finished.result["network"] == fading
    assert finished.result["parameters"] == 2
    loaded = load_network(finished.folder, CPU)
    past = torch.rand(1, 4, 2, 8, 8)
    expected = loaded.state_dict()["kept"] * past[:, -1]
    assert torch.equal(loaded(past, 2)[:, 1], expected)
    untrained = finished.result["persistence"]["mse"]["all"]  # what it is before it is trained
    assert finished.result["scores"]["mse"]["all"] == pytest.approx(untrained, rel=0.2)
    assert (loaded.state_dict()["kept"] != 1).all()


@pytest.mark.slow
def test_a_network_of_three_lines_is_trained_for_a_city_and_forecasts(
    fading: str, small_home: Path
) -> None:
    city, store = load_city("small"), Store()
    # The version's name has the second and the seed.
    recipe = Recipe.from_options(network=fading, ensemble_size=1, trees=False, epochs=1, seed=7)
    *_, trained = train(store, city, recipe, options=RunOptions(ON_CPU))
    assert isinstance(trained, Trained)
    made = forecast(store, city, 3, model=trained.manifest.version)
    assert made.attrs["forecaster"] == fading
    assert made.attrs["model_version"] == trained.manifest.version
    assert made.shape == (1, 3, 2, 6, 5)
    assert np.isfinite(made.values).all()
    assert made.values.max() > 0
