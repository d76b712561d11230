"""The table of the benchmark of speed, its files, and which requirements are not met."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import pandas as pd

from data.files import write_json, write_text
from forecasting.profiling.machine import Machine
from pipelines.benchmark.speed.cases import SpeedPlan
from pipelines.benchmark.speed.harness import Figure
from pipelines.markdown_table import markdown_table


def speed_markdown(plan: SpeedPlan, machine: Machine, figures: Sequence[Figure]) -> str:
    """Returns the machine in a sentence and a table for each part, without columns that are empty."""
    peaks = ", ".join(
        f"{2 * peak / 1e9:,.0f} GFLOP/s in {name}" for name, peak in machine.peaks.items()
    )
    versions = ", ".join(f"{name} {text}" for name, text in machine.versions.items())
    lines = [
        f"{machine.processor}, {machine.cores} cores, {machine.threads} threads, "
        f"device {machine.device}; matrix peak {peaks}; {versions}. "
        f"Load before it started {_number(machine.load, '.1f')}. "
        f"Medians of {plan.rounds} interleaved rounds"
        f"{', everything tiny: no figures to quote' if plan.quick else ''}."
    ]
    for part, rows in groupby(figures, lambda one: one.part):
        frame = pd.DataFrame([_cells(one, machine) for one in rows]).fillna("-")
        table = markdown_table(frame.loc[:, (frame != "-").any()], ["way"])
        lines += ["", f"**{part}**", "", table.rstrip()]
    lines += ["", *(f"{one.name} failed: {one.failed}" for one in figures if one.failed)]
    return "\n".join(lines).rstrip() + "\n"


def missed(figures: Sequence[Figure]) -> Iterator[str]:
    """Yields a sentence for each requirement that is not met."""
    for one in figures:
        if one.required is not None and not one.ratio >= one.required:
            reached = f"{one.ratio:.2f} times the reference's speed"
            yield f"{one.name}: {reached}, required is {one.required:g}"
        if one.memory_limit is not None and not one.memory_ratio <= one.memory_limit:
            reached = f"{one.memory_ratio:.2f} of the reference's memory"
            yield f"{one.name}: {reached}, allowed is {one.memory_limit:g}"


def write_speed(
    folder: Path, plan: SpeedPlan, machine: Machine, figures: Sequence[Figure]
) -> list[Path]:
    """Writes `speed.json` and its table `speed.md`, and returns both paths."""
    rows = [{**asdict(one), "rate": one.rate, "ratio": one.ratio} for one in figures]
    rows = [{**row, "contender": row.pop("variant")} for row in rows]  # as files of before spell it
    facts = {"plan": asdict(plan), "machine": asdict(machine), "figures": rows}
    paths = [folder / name for name in ("speed.json", "speed.md")]
    write_json(paths[0], facts)
    write_text(paths[1], speed_markdown(plan, machine, figures))
    return paths


def _cells(one: Figure, machine: Machine) -> dict[str, str]:
    start = {"work": one.case, "way": one.variant}
    if one.failed:
        return {**start, "a second": "failed"}
    facts, peak = one.facts, machine.peaks.get(one.facts.get("precision", ""), math.nan)
    return {
        **start,
        "a second": f"{one.rate:,.4g} {one.unit}",
        "x reference": _number(one.ratio, ".2f"),
        "required": _number(one.required, "g"),
        "memory, MiB": f"{one.memory / 2**20:,.0f}",
        "of reference": _number(one.memory_ratio, ".3f"),
        "at most": _number(one.memory_limit, "g"),
        "difference": _number(one.difference, ".1e"),
        "of matrix peak": _number(one.rate * facts.get("multiply_adds", math.nan) / peak, ".0%"),
        "launches": _number(facts.get("launches"), ",.0f"),
        "in products": _number(facts.get("product_share"), ".0%"),
    }


def _number(value: float | None, form: str) -> str:
    return "-" if value is None or not math.isfinite(value) else format(value, form)
