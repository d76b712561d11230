"""Coverage and width of the prediction intervals of an evaluation, as a table and for JSON."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from rich.table import Table
from rich.text import Text

from app.text import evenly_spaced, number, report_table
from forecasting.intervals.coverage import shares
from pipelines.evaluate.evaluation import BANDS, Evaluation

MAX_LEADS = 4
MIN_FLOW = 1.0
"""Forecast flow of the rows by lead and hour; below, most intervals must cover more than nominal."""
MIN_FRACTION = 0.001
"""Fraction of all scores that a lead and level need to count as the worst."""
CAPTION = (
    "% of observed values within the interval; once: as calibrated in training; daily: calibrated again "
    "each day from past scores; width: of the daily ones, mean in vehicles.\nFlow is that of the forecast. "
    "Where more observed values are 0 than the nominal coverage, the interval must cover more"
)


def coverage_table(evaluation: Evaluation) -> Table:
    """Returns the coverage of the model's intervals by lead, level of the forecast flow, and hour."""
    total = _total(evaluation)
    table = report_table(f"Prediction intervals of version {evaluation.version}", CAPTION)
    for coverage in total["coverage"].values:
        for kind in ("once", "daily", "width"):
            table.add_column(f"{100 * coverage:.0f} %\n{kind}", justify="right", no_wrap=True)
    table.add_row("all", *_cells(shares(total)))
    table.add_row(f"{MIN_FLOW:g} vehicle or more", *_cells(shares(_counted(total))))
    table.add_row("worst lead and flow", *_furthest(shares(total, "lead_time", "flow")))
    for title, rows in _sections(total).items():
        table.add_section()
        table.add_row(Text(title, style="bold"))
        for name, one in rows:
            table.add_row(f"  {name}", *_cells(one))
    return table


def coverage_object(evaluation: Evaluation) -> dict[str, Any]:
    """Returns the same for JSON, by lead and level together too."""
    total = _total(evaluation)
    kept = {
        "all": (),
        "by_lead": ("lead_time",),
        "by_flow": ("flow",),
        "by_hour": ("hour",),
        "by_lead_and_flow": ("lead_time", "flow"),
        "by_hour_and_flow": ("hour", "flow"),
    }
    return {
        name: [
            entry
            for bands in BANDS
            for entry in _entries(shares(total.sel(bands=bands), *dims), bands, dims)
        ]
        for name, dims in kept.items()
    }


def _total(evaluation: Evaluation) -> xr.Dataset:
    if evaluation.coverage is None:
        raise ValueError("an evaluation without prediction intervals")
    return evaluation.coverage


def _counted(total: xr.Dataset) -> xr.Dataset:
    return total.sel(flow=total["flow"].values >= MIN_FLOW)


def _sections(total: xr.Dataset) -> dict[str, list[tuple[str, xr.Dataset]]]:
    """Returns the rows of the table by section, each with its name."""
    leads, hours = (shares(_counted(total), dim) for dim in ("lead_time", "hour"))
    flows = shares(total, "flow")
    begins = total["flow"].values
    ends = [f"to {end:g}" for end in begins[1:]] + ["or more"]
    return {
        f"lead, {MIN_FLOW:g} vehicle or more": [
            (_minutes(leads["lead_time"].values[row]), leads.isel(lead_time=row))
            for row in evenly_spaced(leads.sizes["lead_time"], MAX_LEADS + 1)
        ],
        "forecast flow: % of all scores, % observed as 0": [
            (f"{begin:g} {end}, {_percent(one['share'])}, {_percent(one['zero'])}", one)
            for begin, end, one in zip(begins, ends, _along(flows, "flow"), strict=True)
            if float(one["share"].max()) > 0
        ],
        f"hour, {MIN_FLOW:g} vehicle or more": [
            (f"{hour:02}:00", one)
            for hour, one in enumerate(_along(hours, "hour"))
            if float(one["share"].max()) > 0
        ],
    }


def _along(table: xr.Dataset, dim: str) -> Iterator[xr.Dataset]:
    return (table.isel({dim: row}) for row in range(table.sizes[dim]))


def _cells(one: xr.Dataset) -> list[str]:
    """Returns a row: for each nominal coverage the measured one, once and daily, and the width."""
    held, width = one["held"].values, one["width"].values[-1]
    return [
        text
        for once, daily, wide in zip(100 * held[0], 100 * held[-1], width, strict=True)
        for text in (f"{once:.1f}", f"{daily:.1f}", f"{wide:.1f}")
    ]


def _furthest(table: xr.Dataset) -> list[str]:
    """Returns the largest differences from nominal, in points, of leads and levels that can be exact."""
    off = 100 * (table["held"] - table["coverage"])
    counts = (table["share"] >= MIN_FRACTION) & (table["zero"] <= table["coverage"])
    chosen = off.where(counts).transpose("bands", "coverage", "lead_time", "flow").values
    worst = [
        [f"{one[np.argmax(abs(one))]:+.1f}" if len(one) else "" for one in map(_known, kind)]
        for kind in chosen
    ]
    return [
        text for once, daily in zip(worst[0], worst[-1], strict=True) for text in (once, daily, "")
    ]


def _known(values: np.ndarray) -> np.ndarray:
    return np.asarray(values[~np.isnan(values)])


def _entries(table: xr.Dataset, bands: str, dims: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    stacked = table.stack(row=dims) if dims else table.expand_dims("row")
    coverages = [f"{100 * coverage:.0f}" for coverage in table["coverage"].values]
    for one in _along(stacked, "row"):
        yield {
            "bands": bands,
            **dict(_place(one[dim]) for dim in dims),
            "share": number(float(one["share"])),
            "zero": number(float(one["zero"])),
            **{
                name: dict(zip(coverages, map(number, one[name].values.tolist()), strict=True))
                for name in ("held", "width")
            },
        }


def _place(coordinate: xr.DataArray) -> tuple[str, float]:
    """Returns name and value of a coordinate: leads in minutes, levels of flow by their lower edge."""
    value = coordinate.values[()]
    if coordinate.name == "lead_time":
        return "lead_minutes", int(value / np.timedelta64(60, "s"))
    return str(coordinate.name), float(value)


def _minutes(lead: np.timedelta64) -> str:
    return f"{int(lead / np.timedelta64(60, 's'))} min"


def _percent(share: xr.DataArray) -> str:
    return f"{100 * float(share.max()):.1f} %"
