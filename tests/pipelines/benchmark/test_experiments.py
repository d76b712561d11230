"""Experiments in the smallest size: their runs, their files, and that nothing is run twice."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from data.errors import FlowcastError
from forecasting.benchmarks.transforms import STRENGTHS
from forecasting.networks import NETWORKS
from forecasting.networks.base import Frames
from forecasting.profiling import cost
from forecasting.training.hardware import Computing
from pipelines.benchmark.experiments import (
    DEFAULTS,
    EXPERIMENTS,
    Outcome,
    RunStarted,
    experiment,
)
from pipelines.benchmark.plan import plan
from pipelines.benchmark.result import Finished
from pipelines.benchmark.run import run

TINY = {
    "training.epochs": "1",
    "data.train": "8",
    "data.validation": "4",
    "data.test": "4",
    "data.history": "2",
    "data.horizon": "2",
}
CITY = TINY | {"data.grid": "8,8", "data.weeks": "1", "width": "8", "heads": "2", "depths": "2"}
DIGITS = TINY | {"moving-mnist:data.side": "32"}


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are measured for no longer than they must."""
    monkeypatch.setattr(cost, "SECONDS", 0.0)


@pytest.fixture
def digits(write_digits: Callable[..., Path], tmp_path: Path) -> Path:
    return write_digits(tmp_path / "mnist")


def done(events: Iterator[Any]) -> tuple[Outcome, list[Any]]:
    *before, last = events
    assert isinstance(last, Outcome)
    return last, before


def refuse_constant(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


def facts_of(outcome: Outcome) -> dict[str, Any]:
    text = (outcome.folder / "experiment.json").read_text(encoding="utf-8")
    facts: dict[str, Any] = json.loads(text, parse_constant=refuse_constant)
    return facts


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


# What is run


@pytest.mark.parametrize("scale", ["quick", "paper"])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_run_of_an_experiment_can_be_planned(name: str, scale: str) -> None:
    for trial in EXPERIMENTS[name].runs:
        made = plan(trial.dataset, trial.network, scale, trial.settings)
        config = NETWORKS[made.network].config
        frames = Frames(1, (64, 64), made.data.history, made.data.horizon, data=made.dataset)
        assert set(made.sizes) <= set(
            vars((config.paper if scale == "paper" else config.quick)(frames))
        )


def test_what_is_not_named_is_what_a_quick_network_has_by_itself() -> None:
    config = NETWORKS["swinlstm-b"].config.quick(Frames(2, (32, 32), 4, 4))
    assert {key: str(getattr(config, key)) for key in DEFAULTS} == DEFAULTS


def test_the_patch_experiment_runs_what_its_labels_say(flowcast_home: Path) -> None:
    outcome, events = done(experiment("patch", settings=CITY, device="cpu"))
    assert outcome.folder == flowcast_home / "benchmarks" / "experiments" / "patch-quick"
    assert list(outcome.results) == ["patch 2", "patch 4", "patch 8"]
    for label, (result,) in outcome.results.items():
        assert result["config"]["patch"] == int(label.removeprefix("patch "))
        assert result["config"]["width"] == 8
        assert (result["training"]["epochs"], result["seed"]) == (1, 0)
    started = [event for event in events if isinstance(event, RunStarted)]
    assert [(event.number, event.count) for event in started] == [(1, 3), (2, 3), (3, 3)]
    assert names(outcome.folder) == {"experiment.json", "table.md", "table.csv"}
    facts = facts_of(outcome)
    assert facts["runs"] == outcome.results
    assert facts["settings"] == CITY
    assert (facts["experiment"], facts["scale"], facts["seeds"]) == ("patch", "quick", 1)
    table = (outcome.folder / "table.md").read_text()
    for patch in (2, 4, 8):
        assert f"patch={patch}" in table
    assert table.count("this run") >= 3


@pytest.mark.slow
def test_the_published_size_is_run_as_its_labels_say(flowcast_home: Path) -> None:
    outcome, _ = done(experiment("reconstruction", "paper", settings=CITY, device="cpu"))
    assert set(outcome.results) == {"transposed", "bilinear", "linear"}
    for label, (result,) in outcome.results.items():
        assert result["config"]["reconstruction"] == label
        assert result["scale"] == "paper"


@pytest.mark.slow
def test_runs_that_are_finished_are_taken_as_they_stand(flowcast_home: Path) -> None:
    by_hand = plan("simulated-city", "swinlstm-b", "quick", CITY | {"gate": "fused"})
    *_, first = run(by_hand, computing=Computing("cpu"))
    assert isinstance(first, Finished)
    outcome, events = done(experiment("gate", settings=CITY, device="cpu"))
    assert outcome.results["fused"] == [first.result], "bit for bit, machine and all"
    again, second = done(experiment("gate", settings=CITY, device="cpu"))
    assert {type(event) for event in second} == {RunStarted, Finished}
    assert again.results == outcome.results
    assert len(second) == 2 * len(EXPERIMENTS["gate"].runs) < len(events)


@pytest.mark.slow
def test_an_experiment_that_was_stopped_goes_on_with_the_same_command(
    flowcast_home: Path,
) -> None:
    stop = threading.Event()
    with pytest.raises(FlowcastError, match="stopped"):
        for event in experiment("patch", settings=CITY, device="cpu", stop=stop):
            if isinstance(event, Finished):
                stop.set()
    outcome, events = done(experiment("patch", settings=CITY, device="cpu"))
    kinds = [type(event) for event in events]
    assert kinds[:3] == [RunStarted, Finished, RunStarted]
    assert len(outcome.results) == 3


@pytest.mark.slow
def test_each_run_is_made_with_every_seed(flowcast_home: Path) -> None:
    outcome, events = done(experiment("patch", settings=CITY, seeds=2, device="cpu"))
    for results in outcome.results.values():
        assert [result["seed"] for result in results] == [0, 1]
        assert results[0]["scores"] != results[1]["scores"]
    numbers = [(event.number, event.count) for event in events if isinstance(event, RunStarted)]
    assert numbers == [(number, 6) for number in range(1, 7)]


@pytest.mark.slow
def test_equal_time_is_the_time_that_the_other_one_trained(
    digits: Path, tmp_path: Path, flowcast_home: Path
) -> None:
    outcome, _ = done(
        experiment(
            "cell",
            data={"moving-mnist": digits},
            settings=DIGITS,
            out=tmp_path / "out",
            device="cpu",
        )
    )
    assert outcome.folder == tmp_path / "out"
    (swin,), (epochs,), (timed,) = outcome.results.values()
    assert (swin["network"], epochs["network"], timed["network"]) == (
        "swinlstm-b",
        "convlstm",
        "convlstm",
    )
    assert swin["training"]["epochs"] == epochs["training"]["epochs"] == 1
    assert swin["training"]["minutes"] is None
    minutes = swin["machine"]["training_seconds"] / 60
    assert timed["training"]["minutes"] == pytest.approx(max(minutes, 0.01), abs=0.0051)
    assert timed["training"]["epochs"] > 1000
    assert 1 <= len(timed["epochs"]) < 1000
    assert timed["machine"]["training_seconds"] < 60 * timed["training"]["minutes"] + 5


@pytest.mark.slow
def test_robustness_is_measured_at_every_strength_beside_persistence(
    digits: Path, write_kth: Callable[..., Path], tmp_path: Path, flowcast_home: Path
) -> None:
    folders = {"moving-mnist": digits, "kth": write_kth(tmp_path / "kth")}
    asked = DIGITS | {"kth:data.size": "16", "kth:data.every": "1"}
    outcome, _ = done(experiment("robustness", data=folders, settings=asked, device="cpu"))
    assert set(outcome.series) == {
        f"{dataset}: {transform}" for dataset in folders for transform in STRENGTHS
    }
    for panel, lines in outcome.series.items():
        dataset, _, transform = panel.partition(": ")
        assert len(lines) == 3
        runs = {label: runs for label, runs in outcome.results.items() if dataset in label}
        assert set(lines) == {"persistence", *runs}
        for label, (strengths, errors) in lines.items():
            assert tuple(strengths) == STRENGTHS[transform]
            assert len(errors) == len(strengths)
            (one, *_) = runs.get(label) or next(iter(runs.values()))
            # Strength 0 is the test itself.
            scores = one["persistence" if label == "persistence" else "scores"]
            assert errors[0] == pytest.approx(scores["mse"]["all"], rel=1e-4)
            assert all(error > 0 for error in errors)
    moving = outcome.series["moving-mnist: camera motion"]["persistence"][1]
    assert moving[-1] > moving[0], "what moves more changes more"
    sizes = {result["config"]["grid"][0] for runs in outcome.results.values() for result in runs}
    assert sizes == {16, 32}
    assert json.loads(json.dumps(outcome.series)) == facts_of(outcome)["series"]


# Refused


@pytest.mark.parametrize(
    ("name", "scale", "settings", "sentence"),
    [
        ("speed", "quick", {}, f"no experiment 'speed'; there is {', '.join(EXPERIMENTS)}"),
        ("patch", "large", {}, "no scale 'large'; there is quick, paper"),
        ("patch", "quick", {"data.color": "1"}, "has no setting 'color'"),
        ("patch", "quick", {"kht:data.size": "8"}, "no dataset 'kht'; there is moving-mnist"),
        ("cell", "quick", {}, "moving-mnist has no train-images"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    name: str, scale: str, settings: dict[str, str], sentence: str
) -> None:
    with pytest.raises(FlowcastError, match=sentence) as refusal:
        list(experiment(name, scale, settings=settings, device="cpu"))
    assert len(str(refusal.value).splitlines()) == 1
