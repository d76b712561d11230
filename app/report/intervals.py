"""The bands of an evaluation for people: what they held and how wide they were, and for JSON."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from app.text import evenly_spaced, number
from forecasting.intervals.coverage import shares
from pipelines.evaluate.backtest import BANDS, Evaluation

MOST_LEADS = 4
FROM = 1.0
"""Forecast flow from which on leads and hours are told: below, most bands hold more than they promise."""
LEAST = 0.001
"""Share of all scores that a lead and level need, to be named as the one that is furthest off."""
CAPTION = (
    "% of what came that lay within; once: bands as they were calibrated; daily: learning every day from "
    "the scores of those before; width: of the daily ones in vehicles, means.\nFlow is that of the forecast. "
    "Where more of it is 0 than a band promises to hold, the band must hold more"
)


def coverage_table(evaluation: Evaluation) -> Table:
    """Returns what the model's bands held, by lead, level of the forecast flow, and hour."""
    total = _total(evaluation)
    table = Table(
        title=Text(f"PredictionIntervals of version {evaluation.version}"),
        caption=CAPTION,
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("", no_wrap=True)
    for coverage in total["coverage"].values:
        for kind in ("once", "daily", "width"):
            table.add_column(f"{100 * coverage:.0f} %\n{kind}", justify="right", no_wrap=True)
    table.add_row("all", *_cells(shares(total)))
    table.add_row(f"from {FROM:g} vehicle on", *_cells(shares(_counted(total))))
    table.add_row("furthest off, any lead and flow", *_furthest(shares(total, "lead_time", "flow")))
    for title, rows in _sections(total).items():
        table.add_section()
        table.add_row(Text(title, style="bold"))
        for name, one in rows:
            table.add_row(f"  {name}", *_cells(one))
    return table


def coverage_object(evaluation: Evaluation) -> dict[str, Any]:
    """Returns the same for JSON, by lead and level together too; `held` and others are shares."""
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
        raise ValueError("an evaluation without bands")
    return evaluation.coverage


def _counted(total: xr.Dataset) -> xr.Dataset:
    return total.sel(flow=total["flow"].values >= FROM)


def _sections(total: xr.Dataset) -> dict[str, list[tuple[str, xr.Dataset]]]:
    """Returns the rows of the table by section, each a name and its shares."""
    leads, hours = (shares(_counted(total), dim) for dim in ("lead_time", "hour"))
    flows = shares(total, "flow")
    begins = total["flow"].values
    ends = [f"to {end:g}" for end in begins[1:]] + ["and more"]
    return {
        f"lead, from {FROM:g} vehicle on": [
            (_minutes(leads["lead_time"].values[row]), leads.isel(lead_time=row))
            for row in evenly_spaced(leads.sizes["lead_time"], MOST_LEADS + 1)
        ],
        "forecast flow: share of all, of which 0": [
            (f"{begin:g} {end}, {_percent(one['share'])}, {_percent(one['zero'])}", one)
            for begin, end, one in zip(begins, ends, _along(flows, "flow"), strict=True)
            if float(one["share"].max()) > 0
        ],
        f"hour, from {FROM:g} vehicle on": [
            (f"{hour:02}:00", one)
            for hour, one in enumerate(_along(hours, "hour"))
            if float(one["share"].max()) > 0
        ],
    }


def _along(table: xr.Dataset, dim: str) -> Iterator[xr.Dataset]:
    return (table.isel({dim: row}) for row in range(table.sizes[dim]))


def _cells(one: xr.Dataset) -> list[str]:
    """Returns a row's figures: for each coverage what was held once and daily, and the width."""
    held, width = one["held"].values, one["width"].values[-1]
    return [
        text
        for once, daily, wide in zip(100 * held[0], 100 * held[-1], width, strict=True)
        for text in (f"{once:.1f}", f"{daily:.1f}", f"{wide:.1f}")
    ]


def _furthest(table: xr.Dataset) -> list[str]:
    """Returns by how many points bands missed most, of the leads and levels where they need not."""
    off = 100 * (table["held"] - table["coverage"])
    counts = (table["share"] >= LEAST) & (table["zero"] <= table["coverage"])
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
    """Returns where an entry belongs: leads in minutes, levels of flow by where they begin."""
    value = coordinate.values[()]
    if coordinate.name == "lead_time":
        return "lead_minutes", int(value / np.timedelta64(60, "s"))
    return str(coordinate.name), float(value)


def _minutes(lead: np.timedelta64) -> str:
    return f"{int(lead / np.timedelta64(60, 's'))} min"


def _percent(share: xr.DataArray) -> str:
    return f"{100 * float(share.max()):.1f} %"
