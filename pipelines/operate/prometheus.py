"""Figures for Prometheus: a text file that node_exporter's textfile collector reads."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.city import City
from data.files import atomic_write
from data.store.store import Store
from pipelines.operate.doctor import FAILURE, WARNING, Finding, examine

STATUS = {WARNING: 1, FAILURE: 2}
"""Number of a status; `ok` is 0."""
DAY = np.timedelta64(1, "D")
HELP = {
    "flowcast_status": "0 well, 1 someone should look, 2 failure",
    "flowcast_value": "the figure behind a status, in the unit of its label",
    "flowcast_rmse_vehicles": "RMSE of the forecasts scored in the last day",
    "flowcast_time_seconds": "when this file was written, seconds since 1970",
}


def write_metrics(path: Path, store: Store, cities: Sequence[City], now: np.datetime64) -> None:
    """Writes the figures, whole or not at all.

    Raises:
        FlowcastError: the disk is full, or the folder may not be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(metrics(store, cities, now), encoding="utf-8")


def metrics(store: Store, cities: Sequence[City], now: np.datetime64) -> str:
    """Returns the figures in Prometheus' text format."""
    found = examine(store, cities, now)
    lines: dict[str, list[str]] = {name: [] for name in HELP}
    for one in found:
        labels = _labels(name=one.name, city=one.city)
        lines["flowcast_status"].append(f"{labels} {STATUS.get(one.status, 0)}")
        if one.value is not None:
            unit = _labels(name=one.name, city=one.city, unit=one.unit)
            lines["flowcast_value"].append(f"{unit} {one.value:g}")
    for city in cities:
        for labels, value in _errors(store, city, now):
            lines["flowcast_rmse_vehicles"].append(f"{labels} {value:.4f}")
    seconds = int(now.astype("datetime64[s]").astype(np.int64))
    lines["flowcast_time_seconds"].append(f" {seconds}")
    parts = []
    for name, told in lines.items():
        parts += [f"# HELP {name} {HELP[name]}", f"# TYPE {name} gauge"]
        parts += [f"{name}{line}" for line in told]
    return "\n".join(parts) + "\n"


def _errors(store: Store, city: City, now: np.datetime64) -> list[tuple[str, float]]:
    table = store.scores.table(city, now - DAY, now)
    if table.empty:
        return []
    sums = table.groupby(["forecaster", "lead"])[["squared", "count"]].sum()
    rmse = (sums["squared"] / sums["count"]) ** 0.5
    names, leads = (rmse.index.get_level_values(level) for level in ("forecaster", "lead"))
    return [
        (_labels(city=city.name, forecaster=str(name), lead=str(lead)), float(value))
        for name, lead, value in zip(names, leads, rmse.to_numpy(), strict=True)
    ]


def _labels(**labels: str) -> str:
    escaped = {
        key: value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
        for key, value in labels.items()
    }
    return "{" + ",".join(f'{key}="{value}"' for key, value in escaped.items()) + "}"


def exit_code(found: Sequence[Finding]) -> int:
    """Returns 0 where all is well, 1 where someone should look, 2 where something fails."""
    return max((STATUS.get(one.status, 0) for one in found), default=0)
