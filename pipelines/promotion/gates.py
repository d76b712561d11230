"""Gates: what a candidate must pass to take the champion's place; a missing figure never passes.

Candidate, champion and baselines are judged on the same forecasts of days that none was trained on.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

BUSIEST = 50
"""Cells with the most flow, judged by themselves."""
PEAK = 0.25
"""Share of the slots of a day, those with the most flow, judged by themselves."""
TOLERANCE = {"overall": 0.01, "lead": 0.02, "peak": 0.02, "busiest": 0.02}
"""By what share the RMSE may be above the champion's."""
COVERAGE = 0.05
"""By how much a band may hold more or less than it promises."""


@dataclass(frozen=True)
class Gate:
    """One thing that was asked.

    Attributes:
        name: of the gate.
        passed: whether it is.
        value: the candidate's figure, NaN where there is none.
        limit: what it had to stay below, or be near to.
        sentence: for people.
    """

    name: str
    passed: bool
    value: float
    limit: float
    sentence: str

    @property
    def facts(self) -> dict[str, object]:
        """What is kept of it, for JSON, which knows no NaN."""
        figures = {"value": self.value, "limit": self.limit}
        finite = {key: one if np.isfinite(one) else None for key, one in figures.items()}
        return {"passed": self.passed, **finite, "sentence": self.sentence}


@dataclass(frozen=True)
class Errors:
    """The RMSE of a forecaster in vehicles, on the forecasts that all are judged by.

    Attributes:
        overall: over all.
        leads: by lead, from 1.
        peak: of the slots of the day with the most flow.
        busiest: of the cells with the most flow.
    """

    overall: float
    leads: tuple[float, ...]
    peak: float
    busiest: float


def errors(forecast: np.ndarray, observed: xr.DataArray) -> Errors:
    """Returns the errors of a forecast.

    Args:
        forecast: `(init_time, lead_time, channel, y, x)`, vehicles per step.
        observed: the same dims, with the coordinate `slot`, the slot of the day, by init_time and
            lead_time; its own values say which slots and cells have the most flow.
    """
    squared = np.square(forecast.astype(np.float64) - observed.values)
    came = observed.values
    slot = observed["slot"].values
    totals = {one: came[slot == one].mean() for one in np.unique(slot)}
    count = max(1, round(PEAK * len(totals)))
    peak = np.isin(slot, sorted(totals, key=lambda one: -totals[one])[:count])
    cells = came.mean(axis=(0, 1, 2)).ravel()
    busiest = np.argsort(-cells)[:BUSIEST]
    flat = squared.mean(axis=(0, 1, 2)).ravel()
    return Errors(
        overall=float(np.sqrt(squared.mean())),
        leads=tuple(float(one) for one in np.sqrt(squared.mean(axis=(0, 2, 3, 4)))),
        peak=float(np.sqrt(squared[peak].mean())),
        busiest=float(np.sqrt(flat[busiest].mean())),
    )


def finite(forecast: np.ndarray) -> Gate:
    """Returns whether all values are numbers."""
    wrong = int((~np.isfinite(forecast)).sum())
    return Gate(
        "finite",
        not wrong,
        float(wrong),
        0.0,
        f"{wrong:,} of {forecast.size:,} values are no number",
    )


def beats(candidate: Errors, baselines: Mapping[str, Errors]) -> list[Gate]:
    """Returns whether the candidate is below each baseline."""
    if not baselines:
        return [Gate("baselines", False, float("nan"), float("nan"), "no baseline could be judged")]
    return [
        _below(f"baseline {name}", f"the {name}", candidate.overall, one.overall, 0.0)
        for name, one in baselines.items()
    ]


def holds(candidate: Errors, champion: Errors) -> list[Gate]:
    """Returns whether the candidate is nowhere worse than the champion beyond what is tolerated."""
    leads = zip(candidate.leads, champion.leads, strict=True)
    return [
        _below(
            "overall", "the champion", candidate.overall, champion.overall, TOLERANCE["overall"]
        ),
        *(
            _below(f"lead {lead}", f"the champion at lead {lead}", *pair, TOLERANCE["lead"])
            for lead, pair in enumerate(leads, start=1)
        ),
        _below(
            "peak hours",
            "the champion at peak hours",
            candidate.peak,
            champion.peak,
            TOLERANCE["peak"],
        ),
        _below(
            "busiest cells",
            f"the champion in the {BUSIEST} busiest cells",
            candidate.busiest,
            champion.busiest,
            TOLERANCE["busiest"],
        ),
    ]


def covers(held: Mapping[float, float]) -> list[Gate]:
    """Returns whether bands hold what they promise, by the share that they promise."""
    return [
        Gate(
            f"band {level:.0%}",
            bool(abs(share - level) <= COVERAGE),
            share,
            level,
            f"the band of {level:.0%} held {share:.1%}",
        )
        for level, share in held.items()
    ]


def intact(wrong: list[str]) -> Gate:
    """Returns whether the written files are those that were written."""
    text = "; ".join(wrong) or "the files are those that the manifest tells of"
    return Gate("files", not wrong, float(len(wrong)), 0.0, text)


def _below(name: str, rival: str, value: float, other: float, tolerance: float) -> Gate:
    """Returns whether a figure is below another one, or above it by what is tolerated."""
    limit = other * (1 + tolerance)
    passed = bool(value <= limit if tolerance else value < limit)  # NaN passes nowhere
    figures = f"RMSE {value:.2f} against the {other:.2f} of {rival}"
    return Gate(name, passed, value, limit, figures)


def verdict(gates: list[Gate]) -> tuple[bool, str]:
    """Returns whether all gates are passed, and why or why not, in a sentence."""
    failed = [gate for gate in gates if not gate.passed]
    if not gates:
        return False, "nothing was judged"
    if failed:
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        return False, f"{failed[0].name}: {failed[0].sentence}{more}"
    named = {gate.name: gate for gate in gates}
    baselines = [gate for gate in gates if gate.name.startswith("baseline")]
    best = min(baselines, key=lambda gate: gate.limit, default=gates[0])
    chosen = named.get("overall") or best
    return True, f"all {len(gates)} gates passed: {chosen.sentence}"
