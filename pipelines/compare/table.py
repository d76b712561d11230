"""The table of a comparison: as JSON for programs, as Markdown and as texts for people."""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from data.clock import duration, stamp
from data.files import json_safe
from forecasting.intervals.coverage import shares
from forecasting.profiling.machine import processor
from forecasting.profiling.memory import available_cores
from pipelines.compare.contestants import INPUTS
from pipelines.compare.standings import ComparisonResult, Entry
from pipelines.markdown_table import markdown_table

METRICS = {"rmse": "RMSE", "mae": "MAE", "rmse_busy": "RMSE above 10", "mae_busy": "MAE above 10"}
METRICS |= {"mape_busy": "MAPE above 10, %"}
SUMMARY = ("rmse", "mae", "mape_busy")
LOSSES = {"squared": "RMSE", "absolute": "MAE"}
LIBRARIES = ("flowcast", "torch", "numpy", "scikit-learn", "holidays")
MINUTE = np.timedelta64(60, "s")


def facts(result: ComparisonResult, command: str) -> dict[str, Any]:
    """Returns what a comparison found and what it depends on, as JSON can hold it."""
    comparison, zone = result.comparison, result.comparison.city.timezone
    ends = {name: part["time"].values[[0, -1]] for name, part in comparison.parts._asdict().items()}
    versions = {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}
    machine = {"processor": processor(), "cores": available_cores(), "system": platform.system()}
    content = {
        "format": 1,
        "city": comparison.city.name,
        "title": comparison.city.title,
        "command": command,
        "made": f"{pd.Timestamp.now('UTC'):%Y-%m-%dT%H:%M:%SZ}",
        "machine": {**machine, "versions": versions},
        "plan": {"horizon": comparison.horizon, "minutes": comparison.minutes},
        "timezone": zone,
        "spans": {name: [stamp(time, zone) for time in span] for name, span in ends.items()},
        "windows": len(result.init_times),
        "main": result.main.name,
        "rival": result.rival.name if result.rival else None,
        "entries": [_entry(entry, result) for entry in result.entries],
        "bands": [*_coverage(result.coverage)],
        "failed": dict(result.failed),
        "left_out": result.left_out,
    }
    return json_safe(content)  # type: ignore[no-any-return]


def as_markdown(content: Mapping[str, Any]) -> str:
    """Returns the content of a table, as `facts` returns it, for people."""
    lines = [f"# Forecasts of {content['title']}, tested", f"`{content['command']}`"]
    lines += sentences(content)
    for metric, title in METRICS.items():
        lines += [f"## {title}", markdown_table(_errors_frame(content, metric))]
    main = content["main"]
    lines += [
        f"## Training, and paired test against {main}",
        markdown_table(_training_frame(content)),
        f"## Coverage of the prediction intervals of {main}",
        "Calibrated on the validation span and updated every day with what is observed, in % of all values. "
        "Where more values are 0 than an interval is to cover it covers more: one vehicle cannot be cut.",
        markdown_table(_coverage_frame(content)),
    ]
    return "\n\n".join(line.rstrip() for line in lines) + "\n"


def summary(content: Mapping[str, Any]) -> str:
    """Returns the entries, the best first, with their errors at the first and the last lead."""
    training = _training_frame(content)
    columns = {content["title"]: training[""]}
    for metric in SUMMARY:
        errors = _errors_frame(content, metric)
        leads = dict.fromkeys(errors.columns[[1, -2, -1]])
        columns |= {f"{METRICS[metric]}, {lead}": errors[lead] for lead in leads}
    return markdown_table(pd.DataFrame({**columns, **training[["training", "p, RMSE"]]}))


def sentences(content: Mapping[str, Any]) -> list[str]:
    """Returns what must be known beside the figures, each a sentence or two."""
    machine, zone = content["machine"], content["timezone"]
    spans = {name: f"{first} to {last}" for name, (first, last) in content["spans"].items()}
    versions = ", ".join(f"{name} {text}" for name, text in machine["versions"].items())
    lines = [
        f"{content['windows']:,} windows of the test span, {spans['test']} in {zone}, the same for all; "
        f"vehicles per step; above 10: cells with more than 10 observed. Fitted on {spans['train']}, "
        f"selected on {spans['validation']}, then fitted on both (networks where windows are few); the test "
        f"span was only scored. Mean over the seeds and, after ±, their standard deviation.",
        f"One thread and at most {content['plan']['minutes']:g} minutes of processor time a training; "
        f"{machine['cores']} cores of {machine['processor']}; {versions}; {content['made']}.",
    ]
    lines += [_verdict(content)] if content["rival"] else []
    lines += [f"Failed: {label}: {reason}." for label, reason in content["failed"].items()]
    if names := ", ".join(content["left_out"]):
        lines.append(f"Left out, for no window has all of their input: {names}.")
    return lines


def entry_of(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns the entry called `name`."""
    found: dict[str, Any] = next(one for one in content["entries"] if one["name"] == name)
    return found


def _verdict(content: Mapping[str, Any]) -> str:
    """Returns how the main entry stands against the best of the others."""
    main, rival = (entry_of(content, content[key]) for key in ("main", "rival"))
    ours, theirs = (one["errors"][-1]["rmse"]["mean"] for one in (main, rival))
    test, side = rival["against_main"]["squared"], "below" if ours < theirs else "above"
    text = (
        f"{main['name']}: RMSE {ours:.2f} over all leads, {abs(ours / theirs - 1):.1%} {side} the "
        f"{theirs:.2f} of the best other, {rival['name']}."
    )
    if test["p"] is not None:
        text += (
            f" Paired test of the squared errors of {test['days']} days (Diebold-Mariano, corrected for "
            f"few days, {test['lags']} days of autocovariance): statistic {test['statistic']:.2f}, "
            f"p {_probability(test['p'])}."
        )
    return text


def _entry(entry: Entry, result: ComparisonResult) -> dict[str, Any]:
    one, runs = entry.contestant, [run.facts for run in entry.runs.values()]
    tested = LOSSES if one and entry is not result.main else ()
    return {
        "name": entry.name,
        "family": one.family if one else "",
        "context": INPUTS.get(one.inputs, "") if one else "",
        "settings": one.settings(result.comparison) if one else {},
        "seeds": [*entry.runs],
        "forecasts_averaged": len(entry.scored) < len(entry.runs),
        "training_seconds": [run["seconds"] for run in runs],
        "epochs": [run["epochs"] for run in runs],
        "memory_bytes": [run["memory"] for run in runs],
        "validation_rmse": [run["validation"].get("all") for run in runs],
        "errors": [
            {"lead_minutes": None if np.isnat(lead) else int(lead / MINUTE)}
            | {name: _figure(entry.errors[name].values[:, place]) for name in METRICS}
            for place, lead in enumerate(entry.errors["lead_time"].values)
        ],
        "against_main": {loss: asdict(result.test(entry, loss)) for loss in tested},
    }


def _figure(values: np.ndarray) -> dict[str, Any]:
    spread = round(float(values.std(ddof=1)), 4) if len(values) > 1 else None
    mean = round(float(values.mean()), 4)
    return {"mean": mean, "spread": spread, "values": values.round(4).tolist()}


def _coverage(total: xr.Dataset) -> Iterator[dict[str, Any]]:
    """Yields coverage and width of intervals over all, by lead and by level of the forecast flow."""
    tables = {"all": shares(total).expand_dims("all")}
    tables |= {dim: shares(total, dim) for dim in ("lead_time", "flow")}
    for dim, table in tables.items():
        for one in (table.isel({dim: place}) for place in range(table.sizes[dim])):
            if not float(one["share"]) > 0:
                continue
            levels = [f"{100 * level:.0f}" for level in one["coverage"].values]
            by_level = {
                name: dict(zip(levels, one[name].values.round(4).tolist(), strict=True))
                for name in ("held", "width")
            }
            yield {
                "lead_minutes": int(one[dim].values / MINUTE) if dim == "lead_time" else None,
                "flow_from": float(one[dim]) if dim == "flow" else None,
                **{name: round(float(one[name]), 4) for name in ("share", "zero")},
                **by_level,
            }


def _errors_frame(content: Mapping[str, Any], metric: str) -> pd.DataFrame:
    def text(mean: float | None, spread: float | None, **_: Any) -> str:
        return ("" if mean is None else f"{mean:.2f}") + (
            "" if spread is None else f" ± {spread:.2f}"
        )

    rows = {
        entry["name"]: [text(**one[metric]) for one in entry["errors"]]
        for entry in content["entries"]
    }
    leads = [one["lead_minutes"] for one in content["entries"][0]["errors"]]
    frame = pd.DataFrame(rows, [f"{lead} min" if lead else "all" for lead in leads]).T
    return frame.reset_index(names="")


def _training_frame(content: Mapping[str, Any]) -> pd.DataFrame:
    def mean(values: Sequence[float | None], text: Callable[[float], str]) -> str:
        known = [value for value in values if value is not None]
        return text(sum(known) / len(known)) if known else ""

    rows = []
    for entry in content["entries"]:
        row = {"": entry["name"], "training": mean(entry["training_seconds"], duration)}
        row["epochs or trees"] = mean(entry["epochs"], "{:,.0f}".format).removeprefix("0")
        row["validation RMSE"] = mean(entry["validation_rmse"], "{:.2f}".format)
        for loss, title in LOSSES.items():
            row[f"p, {title}"] = _probability(entry["against_main"].get(loss, {}).get("p"))
        rows.append(row)
    return pd.DataFrame(rows)


def _coverage_frame(content: Mapping[str, Any]) -> pd.DataFrame:
    rows = []
    for one in content["bands"]:
        lead, flow = one["lead_minutes"], one["flow_from"]
        name = f"{lead} min" if lead else "all" if flow is None else f"forecast from {flow:g}"
        figures = {"of all": one["share"], "of it 0": one["zero"]}
        figures |= {f"{level} %": covered for level, covered in one["held"].items()}
        texts = {key: f"{100 * figure:.1f}" for key, figure in figures.items()}
        rows.append({"": name, **texts, "width of 80 %": f"{one['width']['80']:.1f}"})
    return pd.DataFrame(rows)


def _probability(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if value >= 0.001 else "below 0.001"
