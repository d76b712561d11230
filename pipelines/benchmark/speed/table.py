"""The table of the benchmark of speed."""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from forecasting.profiling.machine import Machine
from pipelines.benchmark.speed.cases import SpeedPlan
from pipelines.benchmark.speed.harness import Figure

NONE = "-"
COLUMNS = (
    "work",
    "way",
    "a second",
    "x reference",
    "required",
    "memory, MiB",
    "of reference",
    "at most",
    "difference",
    "of matrix peak",
    "launches",
    "in products",
)


def speed_markdown(plan: SpeedPlan, machine: Machine, figures: Sequence[Figure]) -> str:
    """Returns the machine in a sentence and a table for each part."""
    lines = [*_heading(plan, machine)]
    for part, rows in groupby(figures, lambda one: one.part):
        cells = [_cells(one, machine) for one in rows]
        filled = [at for at in range(len(COLUMNS)) if any(row[at] != NONE for row in cells)]
        lines += ["", f"**{part}**", "", _line([COLUMNS[at] for at in filled])]
        lines.append("|" + "---|" * len(filled))
        lines += [_line([row[at] for at in filled]) for row in cells]
    failed = [one for one in figures if one.failed]
    lines += [
        "",
        *(f"{one.part}, {one.case}, {one.contender} failed: {one.failed}" for one in failed),
    ]
    return "\n".join(lines).rstrip() + "\n"


def missed(figures: Sequence[Figure]) -> Iterator[str]:
    """Yields a sentence for each requirement that is not met."""
    for one in figures:
        name = f"{one.part}, {one.case}, {one.contender}"
        if one.required is not None and not one.ratio >= one.required:
            yield f"{name}: {one.ratio:.2f} times the reference's speed, required is {one.required:g}"
        if one.memory_limit is not None and not one.memory_ratio <= one.memory_limit:
            yield (
                f"{name}: {one.memory_ratio:.2f} of the reference's memory, "
                f"allowed is {one.memory_limit:g}"
            )


def _heading(plan: SpeedPlan, machine: Machine) -> Iterator[str]:
    peaks = ", ".join(
        f"{2 * peak / 1e9:,.0f} GFLOP/s in {name}" for name, peak in machine.peaks.items()
    )
    versions = ", ".join(f"{name} {text}" for name, text in machine.versions.items())
    yield (
        f"{machine.processor}, {machine.cores} cores, {machine.threads} threads, "
        f"device {machine.device}; matrix peak {peaks}; {versions}. "
        f"Load before it began {_number(machine.load, '.1f')}. Medians of {plan.rounds} interleaved rounds"
        f"{', everything tiny: no figures to quote' if plan.quick else ''}."
    )


def _cells(one: Figure, machine: Machine) -> list[str]:
    facts = one.facts
    if one.failed:
        return [one.case, one.contender, "failed", *[NONE] * (len(COLUMNS) - 3)]
    peak = machine.peaks.get(facts.get("precision", ""), math.nan)
    share = one.rate * facts.get("multiply_adds", math.nan) / peak
    return [
        one.case,
        one.contender,
        f"{one.rate:,.4g} {one.unit}",
        _number(one.ratio, ".2f"),
        NONE if one.required is None else f"{one.required:g}",
        f"{one.memory / 2**20:,.0f}",
        _number(one.memory_ratio, ".3f"),
        NONE if one.memory_limit is None else f"{one.memory_limit:g}",
        _number(one.difference, ".1e"),
        _number(share, ".0%"),
        _number(facts.get("launches", math.nan), ",.0f"),
        _number(facts.get("product_share", math.nan), ".0%"),
    ]


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else NONE


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
