"""Experiments: questions of the paper and beyond it, each some runs of the benchmark side by side.

A finished run, of whatever experiment or made by hand, is taken as it stands.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from data.errors import check_known
from data.files import write_json, write_text
from data.paths import benchmarks_folder
from forecasting.benchmarks import DATASETS
from forecasting.benchmarks.scoring import persistence, predictor, squared_error
from forecasting.benchmarks.transforms import STRENGTHS, TRANSFORMS, Transformed
from forecasting.networks.swinlstm_parts import GATES, RECONSTRUCTIONS
from forecasting.training.hardware import Computing, pick_device
from forecasting.training.loop import Event
from forecasting.training.state import MOST_EPOCHS
from pipelines.benchmark.plan import RunPlan, open_task, plan, starting_with
from pipelines.benchmark.result import Finished, load_network
from pipelines.benchmark.run import run
from pipelines.benchmark.table import as_csv, as_markdown, table

Series = dict[str, tuple[list[float], list[float]]]
"""Lines to draw: x and y by label."""


@dataclass(frozen=True)
class ExperimentRun:
    """One run of an experiment: its label in plots, dataset, network, and settings as for `plan`."""

    label: str
    dataset: str
    network: str
    settings: Mapping[str, str] = field(default_factory=dict)
    as_often_as: str = ""  # label of the run whose number of epochs this one has
    as_long_as: str = ""  # label of the run whose training time this one has in place of epochs


@dataclass(frozen=True)
class Experiment:
    """A question and the runs that answer it, with or without tests of the networks under transforms."""

    question: str
    runs: tuple[ExperimentRun, ...]
    robust: bool = False


@dataclass(frozen=True)
class RunStarted:
    """A run of an experiment starts: `number` of `count`."""

    label: str
    number: int
    count: int


@dataclass(frozen=True)
class Outcome:
    """What an experiment found: `facts` is the content of `experiment.json`."""

    folder: Path
    facts: dict[str, Any]
    results: dict[str, list[dict[str, Any]]]  # by label the `result.json` of its runs, one a seed
    series: dict[str, Series]  # of robustness, by panel the lines to draw


DEFAULTS = {"patch": "4", "reconstruction": "linear", "gate": "fused"}
"""Of a quick SwinLSTM-B on a simulated city of 32x32 cells."""


def _sizes(key: str, values: Mapping[str, str]) -> tuple[ExperimentRun, ...]:
    """Returns a SwinLSTM-B on a simulated city for each value of a setting, by label."""
    return tuple(
        ExperimentRun(label, "simulated-city", "swinlstm-b", {key: value})
        for label, value in values.items()
    )


def _cells(dataset: str) -> tuple[ExperimentRun, ...]:
    swin, conv = "SwinLSTM-B", "convlstm"
    return (
        ExperimentRun(swin, dataset, "swinlstm-b"),
        ExperimentRun("ConvLSTM, equal epochs", dataset, conv, as_often_as=swin),
        ExperimentRun("ConvLSTM, equal time", dataset, conv, as_long_as=swin),
    )


EXPERIMENTS: dict[str, Experiment] = {
    "cell": Experiment(
        "Is SwinLSTM better than ConvLSTM on Moving MNIST, after equal epochs and equal time?",
        _cells("moving-mnist"),
    ),
    "patch": Experiment(
        "Which patch serves a city of 32x32 cells?",
        _sizes("patch", {f"patch {side}": side for side in ("2", "4", "8")}),
    ),
    "reconstruction": Experiment(
        "Which head brings tokens back to cells best?",
        _sizes("reconstruction", {name: name for name in RECONSTRUCTIONS}),
    ),
    "gate": Experiment(
        "Does one gate for all do as well as separate ones?",
        _sizes("gate", {name: name for name in GATES}),
    ),
    "robustness": Experiment(
        "How do trained networks bear camera motion, occlusion and changing light?",
        (*_cells("moving-mnist")[:2], *_cells("kth")[:2]),
        robust=True,
    ),
}


def experiment(
    name: str,
    scale: str = "quick",
    *,
    data: Mapping[str, Path] | None = None,
    settings: Mapping[str, str] | None = None,
    seeds: int = 1,
    out: Path | None = None,
    device: str = "auto",
    stop: threading.Event | None = None,
) -> Iterator[RunStarted | Event | Finished | Outcome]:
    """Runs an experiment, or what is missing of it, and yields its progress, at the end its outcome.

    Args:
        name: key in `EXPERIMENTS`.
        scale: `quick` or `paper`.
        data: folders of the files by dataset, else `datasets/NAME` in the home.
        settings: laid over every run's own; `kth:data.size` for the runs on one dataset alone.
        seeds: how often each run is made, with the seeds 0, 1 ...
        out: folder of the outcome; `benchmarks/experiments/NAME-SCALE` in the home if None.
        device: `auto`, `cpu`, `cuda`.
        stop: once set, ends after the batch at hand; the same command goes on.

    Raises:
        FlowcastError: as `plan` and `run`, or there is no such experiment.
    """
    check_known("experiment", [name], EXPERIMENTS)
    data, settings = data or {}, settings or {}
    named = {key.partition(":")[0] for key in settings if ":" in key} | set(data)
    check_known("dataset", sorted(named), DATASETS)
    chosen = EXPERIMENTS[name]
    several = len({one.dataset for one in chosen.runs}) > 1
    finished: dict[str, list[Finished]] = {}
    count = len(chosen.runs) * seeds
    for number, (seed, one) in enumerate(product(range(seeds), chosen.runs), start=1):
        suffix = f", {one.dataset}" if several else ""
        label = one.label + suffix
        yield RunStarted(f"{label}, seed {seed}", number, count)
        own = _settings(one, scale, settings)
        planned = plan(one.dataset, one.network, scale, own, seed)
        if other := one.as_often_as or one.as_long_as:
            own |= _equal(finished[other + suffix][seed], planned, bool(one.as_often_as))
            planned = plan(one.dataset, one.network, scale, own, seed)
        where, computing = data.get(one.dataset), Computing(device)
        for event in run(planned, where, computing=computing, resume=True, stop=stop):
            if isinstance(event, Finished):
                finished.setdefault(label, []).append(event)
            yield event
    results = {label: [one.result for one in runs] for label, runs in finished.items()}
    series = robustness(finished, data, device) if chosen.robust else {}
    facts = {
        "experiment": name,
        "question": chosen.question,
        "scale": scale,
        "settings": dict(settings),
        "seeds": seeds,
        "runs": results,
        "series": series,
    }
    joined = table([one.folder for runs in finished.values() for one in runs])
    folder = out or benchmarks_folder() / "experiments" / f"{name}-{scale}"
    write_text(folder / "table.md", as_markdown(joined))
    write_text(folder / "table.csv", as_csv(joined))
    write_json(folder / "experiment.json", facts)
    yield Outcome(folder, facts, results, series)


def _settings(one: ExperimentRun, scale: str, settings: Mapping[str, str]) -> dict[str, str]:
    """Returns the settings of a run: those for all, over them those named `dataset:key`, then its own.

    A network's default is not named, so that runs are shared.
    """
    general = {key: text for key, text in settings.items() if ":" not in key}
    general |= starting_with(f"{one.dataset}:", settings)
    known = {} if scale != "quick" or "data.grid" in general else DEFAULTS
    return general | {
        key: text for key, text in one.settings.items() if key in general or known.get(key) != text
    }


def _equal(other: Finished, planned: RunPlan, epochs: bool) -> dict[str, str]:
    """Returns the settings that give a run the epochs, or else the training time, of another one."""
    if not epochs:
        minutes = max(other.result["machine"]["training_seconds"] / 60, 0.01)
        return {"training.epochs": str(MOST_EPOCHS), "training.minutes": f"{minutes:.2f}"}
    wanted = other.result["training"]["epochs"]
    return {} if planned.training.epochs == wanted else {"training.epochs": str(wanted)}


def robustness(
    finished: Mapping[str, Sequence[Finished]], data: Mapping[str, Path], device: str
) -> dict[str, Series]:
    """Returns the error of every network, and of persistence, against the strength of transforms.

    By dataset and transform; the mean squared error of a frame on the test windows, over seeds.
    """
    place = pick_device(device)
    series: dict[str, Series] = {}
    for label, runs in finished.items():
        result = runs[0].result
        settings = dict(setting.split("=", 1) for setting in result["settings"])
        planned = plan(result["dataset"], result["network"], result["scale"], settings)
        test = open_task(planned, data.get(result["dataset"]), place).test
        networks = [predictor(load_network(one.folder, place)) for one in runs]
        for name in TRANSFORMS:
            lines = series.setdefault(f"{result['dataset']}: {name}", {})
            changed = [Transformed(test, name, strength) for strength in STRENGTHS[name]]
            for line, predictors in ((label, networks), ("persistence", [persistence])):
                if line not in lines:
                    errors = [
                        sum(squared_error(one, windows) for one in predictors) / len(predictors)
                        for windows in changed
                    ]
                    lines[line] = (list(STRENGTHS[name]), errors)
    return series
