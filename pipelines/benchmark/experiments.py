"""Experiments: questions of the paper and beyond it, each some runs of the benchmark side by side.

A run that was finished before, by whatever experiment or by hand, is taken as it stands.
"""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from data.errors import FlowcastError
from data.files import atomic_write, ensure_folder
from data.paths import benchmarks_folder
from forecasting.benchmarks import DATASETS
from forecasting.benchmarks.scoring import persistence, predictor, squared_error
from forecasting.benchmarks.transforms import STRENGTHS, TRANSFORMS, Transformed
from forecasting.networks.swinlstm_parts import GATES, RECONSTRUCTIONS
from forecasting.training.hardware import Computing, pick_device
from forecasting.training.loop import Event
from forecasting.training.state import MOST_EPOCHS
from pipelines.benchmark.cost import Cost, Series, cost_markdown, cost_series, costs, growth
from pipelines.benchmark.plan import SCALES, Plan, default_folder, open_task, plan
from pipelines.benchmark.result import Finished, finite, load_network
from pipelines.benchmark.run import run
from pipelines.benchmark.table import as_csv, as_markdown, table


@dataclass(frozen=True)
class Trial:
    """One run of an experiment.

    Attributes:
        label: for plots.
        dataset: key in `DATASETS`.
        network: key in `NETWORKS`.
        settings: field to text, as for `plan`.
        as_often_as: label of the trial whose number of epochs this one is given.
        as_long_as: label of the trial whose training time this one is given in place of epochs.
    """

    label: str
    dataset: str
    network: str
    settings: Mapping[str, str]
    as_often_as: str = ""
    as_long_as: str = ""


@dataclass(frozen=True)
class Experiment:
    """A question and the runs that answer it.

    Attributes:
        question: for people.
        trials: what is run.
        robust: whether the trained networks are also tested under transforms.
    """

    question: str
    trials: tuple[Trial, ...]
    robust: bool = False


@dataclass(frozen=True)
class Started:
    """A run of an experiment begins: `number` of `count`."""

    label: str
    number: int
    count: int


@dataclass(frozen=True)
class Outcome:
    """What an experiment found.

    Attributes:
        folder: with `experiment.json`, `table.md` and `table.csv`.
        facts: content of `experiment.json`.
        results: by label the `result.json` of its runs, one a seed.
        series: by panel the lines to draw, `(x, y)` by label; of robustness and cost.
    """

    folder: Path
    facts: dict[str, Any]
    results: dict[str, list[dict[str, Any]]]
    series: dict[str, Series]


DEFAULTS = {"patch": "4", "reconstruction": "linear", "gate": "fused"}
"""Of a quick SwinLSTM-B on a simulated city of 32x32 cells."""


def _city(label: str, key: str, value: str) -> Trial:
    """Returns the trial of one size of SwinLSTM-B on a simulated city."""
    return Trial(label, "simulated-city", "swinlstm-b", {key: value})


CELL = (
    Trial("SwinLSTM-B", "moving-mnist", "swinlstm-b", {}),
    Trial("ConvLSTM, equal epochs", "moving-mnist", "convlstm", {}, as_often_as="SwinLSTM-B"),
    Trial("ConvLSTM, equal time", "moving-mnist", "convlstm", {}, as_long_as="SwinLSTM-B"),
)
EXPERIMENTS: dict[str, Experiment] = {
    "cell": Experiment(
        "Is SwinLSTM better than ConvLSTM on Moving MNIST, after equal epochs and equal time?",
        CELL,
    ),
    "patch": Experiment(
        "Which patch serves a city of 32x32 cells?",
        tuple(_city(f"patch {patch}", "patch", str(patch)) for patch in (2, 4, 8)),
    ),
    "reconstruction": Experiment(
        "Which head brings tokens back to cells best?",
        tuple(_city(name, "reconstruction", name) for name in RECONSTRUCTIONS),
    ),
    "gate": Experiment(
        "Does one gate for all do as well as separate ones?",
        tuple(_city(name, "gate", name) for name in GATES),
    ),
    "robustness": Experiment(
        "How do trained networks bear camera motion, occlusion and changing light?",
        (
            *CELL[:2],
            Trial("SwinLSTM-B", "kth", "swinlstm-b", {}),
            Trial("ConvLSTM, equal epochs", "kth", "convlstm", {}, as_often_as="SwinLSTM-B"),
        ),
        robust=True,
    ),
}
COST = "cost"
COST_NETWORKS = ("swinlstm-b", "swinlstm-d", "convlstm", "predformer")
COST_SIDES = {"quick": (32, 64, 128, 256), "paper": (32, 64, 128, 256)}
COST_QUESTION = "How do time and memory grow with the resolution?"
NAMES = (*EXPERIMENTS, COST)


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
) -> Iterator[Started | Event | Finished | Cost | Outcome]:
    """Runs an experiment, or what is missing of it, and yields its progress, at the end its outcome.

    Args:
        name: one of `NAMES`.
        scale: `quick` or `paper`.
        data: by dataset the folder of its files; `datasets/NAME` in the home where none is named.
        settings: laid over every run's own, such as `training.epochs`; `kth:data.size` for the
            runs on one dataset alone.
        seeds: how often each run is made, with the seeds 0, 1 ...
        out: folder of the outcome; `benchmarks/experiments/NAME-SCALE` in the home if None.
        device: `auto`, `cpu`, `cuda`.
        stop: once set, ends after the batch at hand; the same command goes on.

    Raises:
        FlowcastError: as `plan` and `run`, or there is no such experiment.
    """
    folder = out or benchmarks_folder() / "experiments" / f"{name}-{scale}"
    if scale not in SCALES:
        raise FlowcastError(f"there is no scale {scale!r}; there is {', '.join(SCALES)}")
    if name == COST:
        if settings or data or seeds != 1:
            raise FlowcastError(
                "the experiment cost has no settings, data or seeds; use forecast benchmark cost"
            )
        yield from _cost(scale, folder, device)
        return
    if name not in EXPERIMENTS:
        raise FlowcastError(f"there is no experiment {name!r}; there is {', '.join(NAMES)}")
    chosen = EXPERIMENTS[name]
    meant = {key.partition(":")[0] for key in settings or {} if ":" in key} | set(data or {})
    if unknown := sorted(meant - set(DATASETS)):
        raise FlowcastError(f"there is no dataset {unknown[0]!r}; there is {', '.join(DATASETS)}")
    finished: dict[str, list[Finished]] = {}
    count = len(chosen.trials) * seeds
    for seed in range(seeds):
        for trial in chosen.trials:
            label = _label(trial.label, trial.dataset, chosen.trials)
            yield Started(f"{label}, seed {seed}", sum(map(len, finished.values())) + 1, count)
            own = _settings(trial, scale, _for(trial.dataset, settings or {}))
            made = plan(trial.dataset, trial.network, scale, own, seed)
            if model := trial.as_often_as or trial.as_long_as:
                other = finished[_label(model, trial.dataset, chosen.trials)][seed]
                own |= _epochs_of(other, made) if trial.as_often_as else _minutes_of(other)
                made = plan(trial.dataset, trial.network, scale, own, seed)
            where = (data or {}).get(trial.dataset)
            for event in run(
                made,
                where,
                default_folder(made),
                computing=Computing(device),
                resume=True,
                stop=stop,
            ):
                if isinstance(event, Finished):
                    finished.setdefault(label, []).append(event)
                yield event
    results = {label: [one.result for one in runs] for label, runs in finished.items()}
    series = robustness(finished, data or {}, device) if chosen.robust else {}
    facts = {
        "experiment": name,
        "question": chosen.question,
        "scale": scale,
        "settings": dict(settings or {}),
        "seeds": seeds,
        "runs": results,
        "series": series,
    }
    folders = [one.folder for runs in finished.values() for one in runs]
    yield _write(
        folder, facts, as_markdown(table(folders)), as_csv(table(folders)), results, series
    )


def _cost(scale: str, folder: Path, device: str) -> Iterator[Cost | Outcome]:
    rows: list[Cost] = []
    for row in costs(COST_NETWORKS, COST_SIDES[scale], scale=scale, device=device):
        rows.append(row)
        yield row
    series = cost_series(rows)
    facts = {
        "experiment": COST,
        "question": COST_QUESTION,
        "scale": scale,
        "threads": torch.get_num_threads(),
        "rows": [asdict(row) for row in rows],
        "growth": {
            panel: {label: growth(*line) for label, line in lines.items()}
            for panel, lines in series.items()
        },
    }
    yield _write(folder, facts, cost_markdown(rows), "", {}, series)


def _for(dataset: str, settings: Mapping[str, str]) -> dict[str, str]:
    """Returns the settings for a dataset: those for all, and over them those named `dataset:key`."""
    general = {key: text for key, text in settings.items() if ":" not in key}
    return general | {
        key.partition(":")[2]: text
        for key, text in settings.items()
        if key.startswith(f"{dataset}:")
    }


def _settings(trial: Trial, scale: str, asked: Mapping[str, str]) -> dict[str, str]:
    """Returns the settings of a run; what a network has by itself is not named, so that runs are shared."""
    known = {} if scale != "quick" or "data.grid" in asked else DEFAULTS
    own = {
        key: text for key, text in trial.settings.items() if key in asked or known.get(key) != text
    }
    return {**asked, **own}


def _label(label: str, dataset: str, trials: Sequence[Trial]) -> str:
    """Returns the label of a trial, with its dataset where there are several."""
    several = len({other.dataset for other in trials}) > 1
    return f"{label}, {dataset}" if several else label


def _epochs_of(other: Finished, made: Plan) -> dict[str, str]:
    """Returns the settings that give a run the epochs of another one; none where it has them."""
    epochs = other.result["training"]["epochs"]
    return {} if made.training.epochs == epochs else {"training.epochs": str(epochs)}


def _minutes_of(other: Finished) -> dict[str, str]:
    """Returns the settings that give a run the time that another one trained for."""
    minutes = max(other.result["machine"]["training_seconds"] / 60, 0.01)
    return {"training.epochs": str(MOST_EPOCHS), "training.minutes": f"{minutes:.2f}"}


def _write(
    folder: Path,
    facts: dict[str, Any],
    markdown: str,
    csv: str,
    results: dict[str, list[dict[str, Any]]],
    series: dict[str, Series],
) -> Outcome:
    """Writes the tables, and the facts last."""
    ensure_folder(folder)
    texts = {
        "table.md": markdown,
        "table.csv": csv,
        "experiment.json": json.dumps(finite(facts), indent=1),
    }
    for name, text in texts.items():
        if text:
            with atomic_write(folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
    return Outcome(folder, facts, results, series)


def robustness(
    finished: Mapping[str, Sequence[Finished]],
    data: Mapping[str, Path],
    device: str,
) -> dict[str, Series]:
    """Returns the error of every network, and of persistence, against the strength of transforms.

    By dataset and transform; the mean squared error of a frame on the test windows, over seeds.
    """
    place = pick_device(device)
    series: dict[str, Series] = {}
    for label, runs in finished.items():
        result = runs[0].result
        made = plan(result["dataset"], result["network"], result["scale"], _asked(result))
        task = open_task(made, data.get(result["dataset"]), place)
        networks = [predictor(load_network(one.folder, place)) for one in runs]
        for name in TRANSFORMS:
            lines = series.setdefault(f"{result['dataset']}: {name}", {})
            strengths = STRENGTHS[name]
            changed = [Transformed(task.test, name, strength) for strength in strengths]
            lines[label] = (
                list(strengths),
                [
                    sum(squared_error(predict, windows) for predict in networks) / len(networks)
                    for windows in changed
                ],
            )
            if "persistence" not in lines:
                unchanged = [squared_error(persistence, windows) for windows in changed]
                lines["persistence"] = (list(strengths), unchanged)
    return series


def _asked(result: Mapping[str, Any]) -> dict[str, str]:
    """Returns the settings that a finished run was asked for."""
    pairs = (setting.partition("=") for setting in result["settings"])
    return {key: text for key, _, text in pairs}
