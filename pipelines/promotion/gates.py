"""Gates: what a candidate must pass to become the champion; a missing figure never passes.

The same gates decide on trainings by hand, on the validation days, and on nights, on the newest days.
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
ENOUGH = "windows"
"""Name of the gate of how many forecasts there are to judge on."""
MIN_WINDOWS, MIN_DAYS = 24, 2
"""Forecasts to judge on, and days of the city that they begin on, where a champion would be replaced."""
COVERAGE = 0.05
"""How far the coverage of an interval may be from its nominal level."""


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
        peak: of the slots of the day with the most flow; None where it was not measured.
        busiest: of the cells with the most flow; None where it was not measured.
    """

    overall: float
    leads: tuple[float, ...]
    peak: float | None = None
    busiest: float | None = None

    @classmethod
    def of_metrics(cls, metrics: Mapping[str, float]) -> "Errors":
        """Returns the errors that a manifest holds: `lead 1` ... and `all`."""
        leads = [value for name, value in metrics.items() if name != "all"]
        return cls(metrics["all"], tuple(leads))

    def until(self, lead: int) -> "Errors":
        """Returns the errors of the first leads alone, which all have the same number of forecasts."""
        if lead >= len(self.leads):
            return self
        first = self.leads[:lead]
        return Errors(float(np.sqrt(np.mean(np.square(first)))), first)


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
    """Returns whether the candidate is nowhere worse than the champion beyond what is tolerated.

    Where they were judged by different numbers of leads, those count that both have.
    """
    common = min(len(candidate.leads), len(champion.leads))
    ours, theirs = candidate.until(common), champion.until(common)
    rival = "the champion"
    found = [_below("overall", rival, ours.overall, theirs.overall, TOLERANCE["overall"])]
    for lead, pair in enumerate(zip(ours.leads, theirs.leads, strict=True), start=1):
        found.append(_below(f"lead {lead}", f"{rival} at lead {lead}", *pair, TOLERANCE["lead"]))
    if ours.peak is not None and theirs.peak is not None:
        place = f"{rival} at peak hours"
        found.append(_below("peak hours", place, ours.peak, theirs.peak, TOLERANCE["peak"]))
    if ours.busiest is not None and theirs.busiest is not None:
        place = f"{rival} in the {BUSIEST} busiest cells"
        pair = ours.busiest, theirs.busiest
        found.append(_below("busiest cells", place, *pair, TOLERANCE["busiest"]))
    return found


def enough(windows: int, days: int, champion: bool) -> Gate:
    """Returns whether there are enough forecasts to judge on; a first champion may have fewer."""
    few = windows < MIN_WINDOWS or days < MIN_DAYS
    sentence = f"judged on {windows} windows that begin on {days} days"
    if few:
        sentence += f"; {MIN_WINDOWS} on {MIN_DAYS} are needed to replace a champion"
    return Gate(ENOUGH, not (few and champion), float(windows), float(MIN_WINDOWS), sentence)


def covers(held: Mapping[float, float]) -> list[Gate]:
    """Returns whether the coverage of each prediction interval is near its nominal level."""
    return [
        Gate(
            f"band {level:.0%}",
            bool(abs(share - level) <= COVERAGE),
            share,
            level,
            f"the coverage of the {level:.0%} interval is {share:.1%}",
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


def decide(gates: list[Gate]) -> tuple[bool, str]:
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
    few = "".join(f"; {note}" for note in notes(gates))
    return True, f"all {len(gates)} gates passed: {chosen.sentence}{few}"


def notes(gates: list[Gate]) -> list[str]:
    """Returns what people should know of a candidate that passed: that it was judged on little."""
    return [one.sentence for one in gates if one.name == ENOUGH and "needed" in one.sentence]
