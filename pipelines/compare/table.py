"""The table of a contest, as JSON for programs and as Markdown for people."""

import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from data.clock import duration, stamp
from data.flow import split
from forecasting.intervals.coverage import shares
from forecasting.profiling.machine import cores, processor
from pipelines.benchmark.result import finite
from pipelines.compare.contestants import spans
from pipelines.compare.standings import Entry, Standings

FORMAT = 1
METRICS = {
    "rmse": "RMSE",
    "mae": "MAE",
    "rmse_busy": "RMSE above 10",
    "mae_busy": "MAE above 10",
    "mape_busy": "MAPE above 10, %",
}
LIBRARIES = ("flowcast", "torch", "numpy", "scikit-learn", "holidays")


def facts(found: Standings, command: str) -> dict[str, Any]:
    """Returns all that a contest found and what it depends on, as JSON can hold it.

    Args:
        found: the standings.
        command: that asked for them.
    """
    held, timezone = found.held, found.held.city.timezone
    parts = spans(split(held.flow, held.city))
    content = {
        "format": FORMAT,
        "city": held.city.name,
        "title": held.city.title,
        "command": command,
        "made": f"{pd.Timestamp.now('UTC'):%Y-%m-%dT%H:%M:%SZ}",
        "machine": machine(),
        "plan": asdict(held.plan),
        "timezone": timezone,
        "spans": {name: [stamp(one, timezone) for one in span] for name, span in parts.items()},
        "windows": len(found.init_times),
        "main": found.main.name,
        "rival": found.rival.name if found.rival else None,
        "entries": [_entry(entry, found) for entry in found.entries],
        "bands": [] if found.banded is None else [*_bands(found.banded)],
        "failed": held.failed,
        "left_out": list(found.left_out),
    }
    return finite(content)  # type: ignore[no-any-return]


def as_markdown(content: Mapping[str, Any]) -> str:
    """Returns the content of a table, as `facts` returns it, for people."""
    heads = [
        f"# Forecasts of {content['title']}, tested",
        f"`{content['command']}`",
        *sentences(content),
    ]
    texts = ["\n\n".join(heads)]
    for metric, title in METRICS.items():
        texts.append(f"## {title}\n\n{_markdown(_metric_rows(content, metric))}")
    texts.append(
        f"## Training, and paired test against {content['main']}\n\n"
        f"{_markdown(_training_rows(content))}"
    )
    if content["bands"]:
        texts.append(
            f"## What the bands of {content['main']} held\n\nCalibrated on the validation span, learning "
            f"every day from what has come, in % of all that came. Where more of it is 0 than a band "
            f"promises to hold, the band must hold more: one vehicle cannot be cut.\n\n"
            f"{_markdown(_band_rows(content))}"
        )
    return "\n\n".join(texts) + "\n"


def sentences(content: Mapping[str, Any]) -> list[str]:
    """Returns what must be known beside the figures, each a sentence or two."""
    span, plan, machine = content["spans"], content["plan"], content["machine"]
    lines = [
        f"{content['windows']:,} windows of the test span, {span['test'][0]} to {span['test'][1]} in "
        f"{content['timezone']}, the same for all; vehicles per step; above 10: cells with more than 10 "
        f"observed. Fitted on {span['train'][0]} to {span['train'][1]}, selected on "
        f"{span['validation'][0]} to {span['validation'][1]}, then fitted on both (networks where windows "
        f"are few); the test span was only scored. Mean over the seeds and, after ±, their standard "
        f"deviation.",
        f"One thread and at most {plan['minutes']:g} minutes of processor time a training; "
        f"{machine['cores']} cores of {machine['processor']}; "
        + ", ".join(f"{name} {text}" for name, text in machine["versions"].items())
        + f"; {content['made']}.",
    ]
    lines += [verdict(content)] if content["rival"] else []
    lines += [f"Failed: {label}: {reason}." for label, reason in content["failed"].items()]
    if content["left_out"]:
        names = ", ".join(content["left_out"])
        lines.append(f"Left out, for no window has all of their input: {names}.")
    return lines


def verdict(content: Mapping[str, Any]) -> str:
    """Returns how the main entry stands against the best of the others."""
    ours, theirs = (entry_of(content, content[key]) for key in ("main", "rival"))
    mine, other = (one["errors"][-1]["rmse"]["mean"] for one in (ours, theirs))
    test = theirs["against_main"]["squared"]
    word = "below" if mine < other else "above"
    text = (
        f"{ours['name']}: RMSE {mine:.2f} over all leads, {abs(mine / other - 1):.1%} {word} the "
        f"{other:.2f} of the best other, {theirs['name']}."
    )
    if test["p"] is None:
        return text
    return (
        f"{text} Paired test of the squared errors of {test['days']} days (Diebold-Mariano, corrected "
        f"for few days, {test['lags']} days of autocovariance): statistic {test['statistic']:.2f}, "
        f"p {chance(test['p'])}."
    )


def entry_of(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns the entry called `name`."""
    found: dict[str, Any] = next(one for one in content["entries"] if one["name"] == name)
    return found


def chance(value: float | None) -> str:
    """Returns a probability for people."""
    if value is None:
        return ""
    return f"{value:.3f}" if value >= 0.001 else "below 0.001"


def machine() -> dict[str, Any]:
    """Returns what figures of time depend on, and the versions of what computed."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "processor": processor(),
        "cores": cores(),
        "system": os.uname().sysname,
        "versions": versions,
    }


def _entry(entry: Entry, found: Standings) -> dict[str, Any]:
    runs = entry.runs
    tests = {loss: asdict(one) for loss, one in found.comparisons.get(entry.name, {}).items()}
    contestant = entry.contestant
    return {
        "name": entry.name,
        "family": contestant.family if contestant else "",
        "context": contestant.context if contestant else "",
        "settings": dict(contestant.maker.facts(found.held.plan)) if contestant else {},
        "seeds": [run.seed for run in runs],
        "forecasts_averaged": entry.together,
        "training_seconds": [kept.facts["seconds"] for kept in runs.values()],
        "epochs": [kept.facts["epochs"] for kept in runs.values()],
        "memory_bytes": [kept.facts["memory"] for kept in runs.values()],
        "validation_rmse": [kept.facts["validation"].get("all") for kept in runs.values()],
        "errors": _errors(entry),
        "against_main": tests,
    }


def _bands(total: xr.Dataset) -> Iterator[dict[str, Any]]:
    """Yields what bands held, over all, by lead and by level of the forecast flow."""
    for dims in ((), ("lead_time",), ("flow",)):
        table = shares(total, *dims)
        table = table if dims else table.expand_dims("all")
        for row in range(table.sizes[dims[0] if dims else "all"]):
            one = table.isel({dims[0] if dims else "all": row})
            if not float(one["share"]) > 0:
                continue
            lead = (
                one["lead_time"].values / np.timedelta64(60, "s") if "lead_time" in dims else None
            )
            yield {
                "lead_minutes": lead if lead is None else int(lead),
                "flow_from": float(one["flow"]) if "flow" in dims else None,
                **{name: round(float(one[name]), 4) for name in ("share", "zero")},
                **{
                    name: {
                        f"{100 * level:.0f}": round(float(value), 4)
                        for level, value in zip(
                            one["coverage"].values, one[name].values, strict=True
                        )
                    }
                    for name in ("held", "width")
                },
            }


def _band_rows(content: Mapping[str, Any]) -> list[list[str]]:
    levels = [*content["bands"][0]["held"]]
    heads = ["", "of all", "of it 0", *(f"{one} %" for one in levels), "width of 80 %"]
    rows = [heads]
    for one in content["bands"]:
        lead, flow = one["lead_minutes"], one["flow_from"]
        name = f"{lead} min" if lead else "all" if flow is None else f"forecast from {flow:g}"
        figures = [one["share"], one["zero"], *one["held"].values()]
        rows.append(
            [name, *(f"{100 * figure:.1f}" for figure in figures), f"{one['width']['80']:.1f}"]
        )
    return rows


def _errors(entry: Entry) -> list[dict[str, Any]]:
    """Returns mean, spread and values of each metric by lead, at the end those of all leads."""
    both = entry.errors.sel(channel="both")
    rows = []
    for place, lead in enumerate(both["lead_time"].values):
        minutes = None if np.isnat(lead) else int(lead / np.timedelta64(60, "s"))
        figures = {name: _figure(both[name].values[:, place]) for name in METRICS}
        rows.append({"lead_minutes": minutes, **figures})
    return rows


def _figure(values: np.ndarray) -> dict[str, Any]:
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {
        "mean": round(float(values.mean()), 4),
        "spread": spread if spread is None else round(spread, 4),
        "values": [round(float(value), 4) for value in values],
    }


def _metric_rows(content: Mapping[str, Any], metric: str) -> list[list[str]]:
    leads = [one["lead_minutes"] for one in content["entries"][0]["errors"]]
    heads = ["", *(f"{lead} min" if lead else "all" for lead in leads)]
    return [heads] + [
        [entry["name"], *(cell(one[metric]) for one in entry["errors"])]
        for entry in content["entries"]
    ]


def _training_rows(content: Mapping[str, Any]) -> list[list[str]]:
    heads = ["", "training", "epochs or trees", "validation RMSE", "p, RMSE", "p, MAE"]
    rows = [heads]
    for entry in content["entries"]:
        tests = entry["against_main"]
        rows.append(
            [
                entry["name"],
                _mean(entry["training_seconds"], duration),
                _mean(entry["epochs"], lambda value: f"{value:,.0f}" if value else ""),
                _mean(entry["validation_rmse"], lambda value: f"{value:.2f}"),
                *(
                    chance(tests[loss]["p"]) if loss in tests else ""
                    for loss in ("squared", "absolute")
                ),
            ]
        )
    return rows


def cell(figure: Mapping[str, Any]) -> str:
    """Returns a figure of a metric for people."""
    if figure["mean"] is None:
        return ""
    spread = figure["spread"]
    return f"{figure['mean']:.2f}" + (f" ± {spread:.2f}" if spread is not None else "")


def _mean(values: Sequence[float | None], told: Callable[[float], str]) -> str:
    known = [value for value in values if value is not None]
    return told(sum(known) / len(known)) if known else ""


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    heads, *others = rows
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *others]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
