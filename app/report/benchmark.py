"""The pictures that `forecast benchmark` draws beside the figures, and the lines that it prints."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from app.charts.curves import by_frame, growth, learning_curve, panels
from app.charts.frames import animation, strips
from data.files import atomic_write, write_json, write_text
from forecasting.benchmarks.frame_metrics import METRICS
from pipelines.benchmark.cost import Cost, cost_markdown, cost_panels
from pipelines.benchmark.experiments import Outcome
from pipelines.benchmark.result import Finished

DOTS_PER_INCH = 110
CURVE = "learning-curve.png"
COST_TITLE = "How time and memory grow; powers are fitted to all points of a line"


def write_pictures(finished: Finished) -> None:
    """Draws the samples as PNG and GIF and the learning curve into the folder of a run."""
    samples, result = finished.samples, finished.result
    names = [f"test window {number}" for number in result["samples"]]
    channels = ("inflow", "outflow") if samples["past"].shape[2] == 2 else ()
    _save(finished.folder / "samples.png", strips(**samples, names=names, channels=channels))
    first = {part: frames[0] for part, frames in samples.items()}
    with atomic_write(finished.folder / "samples.gif") as temporary:
        temporary.write_bytes(animation(**first, channels=channels))
    _save(finished.folder / CURVE, learning_curve(result["epochs"]))


def drawn(events: Iterator[Any]) -> Iterator[Any]:
    """Passes the events of an experiment on and draws the pictures of runs that have none."""
    for event in events:
        if isinstance(event, Finished) and not (event.folder / CURVE).exists():
            write_pictures(event)
        yield event


def result_lines(finished: Finished) -> Iterator[str]:
    """Yields what a person wants to know of a run first."""
    result, machine = finished.result, finished.result["machine"]
    yield (
        f"{result['network']} on {result['dataset']}, {result['history']} -> {result['horizon']} frames, "
        f"{result['parameters']:,} parameters, {result['multiply_adds'] / 1e9:.3f} G multiply-adds, "
        f"epoch {result['chosen_epoch']} of {len(result['epochs'])}"
    )
    for name, metric in METRICS.items():
        own, unchanged = (result[part][name]["all"] for part in ("scores", "persistence"))
        if own is not None:
            yield f"  {metric.label}: {own:.4g} (persistence: {unchanged:.4g})"
    trained, fed = (machine[f"{part}_sequences_per_second"] for part in ("training", "feed"))
    if trained:
        yield (
            f"  training: {trained:,.1f} sequences a second; data loading: {fed:,.0f}, "
            f"{fed / trained:,.0f} times as many"
        )
    for note in result["data"]["notes"]:
        yield f"  note: {note}"
    yield f"  written to {finished.folder}"


def write_cost(folder: Path, rows: Sequence[Cost]) -> list[Path]:
    """Writes costs as JSON, Markdown and a plot; returns the files."""
    paths = [folder / name for name in ("cost.json", "cost.md", "cost.png")]
    write_json(paths[0], [asdict(row) for row in rows])
    write_text(paths[1], cost_markdown(rows))
    _save(paths[2], growth(cost_panels(rows), COST_TITLE))
    return paths


def write_experiment(outcome: Outcome) -> list[Path]:
    """Draws the plot of an experiment; returns all files of its folder."""
    question = outcome.facts["question"]
    if outcome.series:
        figure = panels(outcome.series, "strength", f"{question}\n(MSE of a frame)")
    else:
        means = {label: _mean(runs) for label, runs in outcome.results.items()}
        figure = by_frame(means, "mse", question)
    _save(outcome.folder / "plot.png", figure)
    return sorted(path for path in outcome.folder.iterdir() if not path.name.startswith("."))


def _mean(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the error by frame as the mean over the seeds of a run."""
    frames = np.mean([run["scores"]["mse"]["by_frame"] for run in runs], axis=0)
    return {"scores": {"mse": {"by_frame": frames.tolist()}}}


def _save(path: Path, figure: Figure) -> None:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=DOTS_PER_INCH)
