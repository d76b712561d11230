"""Benchmark of speed: forecasting, training, starting, feeding, preparing and evaluating.

Every figure is a ratio against a plain reference that does the same work, in turns with it on one
machine (`benchmark_speed_contest`); what a ratio must be stands beside it. For SwinLSTM-B the
reference is `benchmark_speed_reference`, for the others the ways that are usual in the field.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from data.files import atomic_write, ensure_folder
from data.paths import benchmarks_folder
from forecasting.profiling.machine import Machine, machine
from pipelines.benchmark.result import finite
from pipelines.benchmark.speed.cases import SpeedPlan
from pipelines.benchmark.speed.harness import Figure, compete
from pipelines.benchmark.speed.table import missed, speed_markdown

__all__ = ["SpeedPlan", "default_folder", "measure", "missed", "write_speed"]
FILES = ("speed.json", "speed.md")


def measure(plan: SpeedPlan) -> tuple[Machine, Iterator[list[Figure]]]:
    """Returns the machine, and what measures contest by contest and yields the figures of each."""
    found = machine(plan.device, plan.threads)
    return found, (compete(contest, plan.rounds, plan.seconds) for contest in plan.contests())


def default_folder() -> Path:
    """Returns where the files are written if nowhere else."""
    return benchmarks_folder() / "speed"


def write_speed(
    folder: Path, plan: SpeedPlan, found: Machine, figures: Sequence[Figure]
) -> list[Path]:
    """Writes `speed.json` and its table `speed.md`, and returns both paths."""
    facts = {
        "plan": asdict(plan),
        "machine": asdict(found),
        "figures": [{**asdict(one), "rate": one.rate, "ratio": one.ratio} for one in figures],
    }
    texts = (json.dumps(finite(facts), indent=1), speed_markdown(plan, found, figures))
    ensure_folder(folder)
    paths = [folder / name for name in FILES]
    for path, text in zip(paths, texts, strict=True):
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return paths
