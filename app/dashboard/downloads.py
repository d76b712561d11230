"""Downloads: maps and tables of the dashboard as PNG, CSV and NetCDF."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from app.charts.maps import frame_map
from data.city import City
from data.clock import local, stamp
from data.intervals import without_intervals

MOST_ROWS = 45
"""Rows of a table that are drawn in a picture."""
MOST_NAME = 120
MOST_TITLE = 50
"""Characters of a city's title that have room above a map."""

Files = dict[str, Callable[[], bytes]]
"""How the content of a file is made, by its suffix."""


@dataclass(frozen=True)
class Subject:
    """What a map shows, for its titles and the names of its files.

    Attributes:
        kind: for people, such as `Forecast less usual`.
        channel: `inflow` or `outflow`.
        time: UTC; of the slot, or the last of what it was taken over.
        variable: name in files; all but `flow` are made of a flow and have no bands.
        made: UTC; when the forecast was made, None where it is of none.
        model: what made it, "" where nothing did.
    """

    kind: str
    channel: str
    time: np.datetime64
    variable: str = "flow"
    made: np.datetime64 | None = None
    model: str = ""

    def title(self, city: City) -> str:
        """Returns what a picture says above its map: place, what, and when by whose clocks."""
        place = shorten(city.title, MOST_TITLE, placeholder="…")
        return f"{place}, {self.channel}\n{self.kind} {moment(self.time, city)}"

    def name(self, city: City) -> str:
        """Returns the name of its files, which no other moment, channel or kind of map has."""
        made = () if self.made is None else ("made", _short(self.made, city))
        return file_name(city.name, self.channel, self.kind.lower(), _short(self.time, city), *made)

    def footer(self, city: City) -> str:
        """Returns what a picture says below its map: by what and when it was made."""
        if self.made is None:
            return ""
        return f"made {moment(self.made, city)} by {self.model}"


def moment(time: np.datetime64, city: City) -> str:
    """Returns a time with its zone, for titles of files: `2016-03-20 08:00 Asia/Shanghai`."""
    return f"{stamp(time, city.timezone)} {city.timezone}"


def _short(time: np.datetime64, city: City) -> str:
    return f"{local(time, city.timezone)[0]:%Y-%m-%dT%H%M%Z}"


def file_name(*parts: object) -> str:
    """Returns a name for a file, of letters, digits, `-` and `_` alone, whatever the parts hold."""
    text = "-".join(str(part) for part in parts)
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-")[:MOST_NAME] or "flowcast"


def map_files(
    frame: xr.DataArray, city: City, limits: tuple[float, float], subject: Subject, colors: str
) -> Files:
    """Returns how a map is written.

    Args:
        frame: dims `(y, x)`, vehicles per step, NaN where there is no value.
        city: for the zone and the side that row 0 lies on.
        limits: flow at the ends of the colors.
        subject: what it shows.
        colors: a color map of matplotlib's.
    """
    title = subject.title(city)
    return {
        ".png": lambda: _png(
            frame_map(frame.values, city, limits, title, colors, subject.footer(city))
        ),
        ".csv": lambda: _csv(_cells(_named(frame, subject, city), city)),
        ".nc": lambda: _netcdf(
            _named(frame, subject, city).to_dataset(), title.replace("\n", ": ")
        ),
    }


def _named(frame: xr.DataArray, subject: Subject, city: City) -> xr.DataArray:
    """Returns a map as files hold it: what is made of a flow is not called one."""
    rows, columns = frame.shape
    named = frame.assign_coords(y=np.arange(rows), x=np.arange(columns)).rename(subject.variable)
    if subject.variable == "flow":
        return named
    bare = without_intervals(named)
    long_name = f"{subject.kind} {moment(subject.time, city)}"
    bare.attrs = {"units": "vehicles per step", "long_name": long_name}
    return bare


def _cells(named: xr.DataArray, city: City) -> pd.DataFrame:
    """Returns a map as a table of its cells."""
    table = named.to_dataframe().reset_index()
    for name in table.select_dtypes("datetime"):  # with their offset, that nobody has to guess
        times, places = np.unique(table[name].to_numpy(), return_inverse=True)
        shown = [one.isoformat(timespec="minutes") for one in local(times, city.timezone)]
        table[name] = np.array(shown, dtype=object)[places]
    return table


def table_files(table: pd.DataFrame, title: str) -> Files:
    """Returns how a table is written; pictures show its first rows.

    Args:
        table: of numbers and text.
        title: of the picture.
    """
    return {
        ".png": lambda: _png(_table_figure(table, title), bbox_inches="tight"),
        ".csv": lambda: _csv(table),
        ".nc": lambda: _netcdf(_table_dataset(table), title),
    }


def _png(figure: Figure, **how: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120, **how)
    return file.getvalue()


def _csv(table: pd.DataFrame) -> bytes:
    """Returns a CSV file in which no text is a formula to a spreadsheet."""
    safe = table.copy()
    for name in safe.select_dtypes(exclude="number").columns:
        text = safe[name].astype(str)
        risky = text.str.match(r"[=+\-@\t\r]") & ~text.str.fullmatch(r"[+-]?[\d.,]+( ?%)?")
        safe[name] = text.where(~risky, "'" + text)
    return safe.to_csv(index=False, float_format="%.10g").encode()


def _netcdf(dataset: xr.Dataset, title: str) -> bytes:
    dataset.attrs = {"Conventions": "CF-1.11", "title": title}
    return bytes(dataset.to_netcdf(engine="h5netcdf"))


def _table_dataset(table: pd.DataFrame) -> xr.Dataset:
    """Returns a variable for each column, along the dim `row`."""
    columns = {}
    for name, column in table.items():
        numbers = pd.api.types.is_numeric_dtype(column)
        values = column.to_numpy(np.float64) if numbers else column.astype(str).to_numpy(object)
        columns[file_name(name)] = ("row", values)
    return xr.Dataset(columns)


def _table_figure(table: pd.DataFrame, title: str) -> Figure:
    shown = table.head(MOST_ROWS)
    text = [[_text(value) for value in row] for row in shown.itertuples(index=False)]
    widths = [
        max(len(str(name)), *(len(row[at]) for row in text), 4)
        for at, name in enumerate(shown.columns)
    ]
    figure = Figure(figsize=(0.085 * sum(widths) + 1, 0.28 * (len(text) + 1) + 0.9))
    ax = figure.add_axes((0.02, 0.02, 0.96, 0.96))
    ax.set_axis_off()
    more = f" (the first {MOST_ROWS} of {len(table):,} rows)" if len(table) > MOST_ROWS else ""
    ax.set_title(title.replace("$", r"\$") + more, fontsize=10, loc="left")
    if text:
        drawn = ax.table(
            text,
            colLabels=[str(name) for name in shown.columns],
            colWidths=[width / sum(widths) for width in widths],
            cellLoc="left",
            loc="upper center",
        )
        drawn.auto_set_font_size(False)
        drawn.set_fontsize(8)
    return figure


def _text(value: object) -> str:
    text = f"{value:,.4g}" if isinstance(value, float) else str(value)
    return text.replace("$", r"\$")[:60]
