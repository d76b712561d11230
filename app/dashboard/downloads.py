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

MAX_ROWS = 45
"""Rows of a table that are drawn in an image."""
MAX_NAME = 120
MAX_TITLE = 50
"""Characters of a city's title that fit above a map."""

Files = dict[str, Callable[[], bytes]]
"""Functions that make the content of a file, by its suffix."""


@dataclass(frozen=True)
class Subject:
    """What a map shows, for its titles and the names of its files.

    Attributes:
        quantity: such as `Forecast minus typical`.
        channel: `inflow` or `outflow`.
        time: UTC; of the slot, or the last of those that it summarizes.
        variable: name in files; all but `flow` are derived from a flow and have no intervals.
        init_time: UTC; of the forecast, None where it shows no forecast.
        model: that made the forecast, "" for none.
    """

    quantity: str
    channel: str
    time: np.datetime64
    variable: str = "flow"
    init_time: np.datetime64 | None = None
    model: str = ""

    def title(self, city: City) -> str:
        """Returns the title of an image: city, channel, quantity and time."""
        place = shorten(city.title, MAX_TITLE, placeholder="…")
        return f"{place}, {self.channel}\n{self.quantity} {zoned(self.time, city)}"

    def name(self, city: City) -> str:
        """Returns the name of the files; every time, channel and quantity has another."""
        made = () if self.init_time is None else ("made", _compact(self.init_time, city))
        return file_name(
            city.name, self.channel, self.quantity.lower(), _compact(self.time, city), *made
        )

    def footer(self, city: City) -> str:
        """Returns which model made the forecast and when, "" without a forecast."""
        if self.init_time is None:
            return ""
        return f"made {zoned(self.init_time, city)} by {self.model}"


def zoned(time: np.datetime64, city: City) -> str:
    """Returns a time with its time zone: `2016-03-20 08:00 Asia/Shanghai`."""
    return f"{stamp(time, city.timezone)} {city.timezone}"


def _compact(time: np.datetime64, city: City) -> str:
    return f"{local(time, city.timezone)[0]:%Y-%m-%dT%H%M%Z}"


def file_name(*parts: object) -> str:
    """Returns a name for a file: letters, digits, `-` and `_`, whatever the parts contain."""
    text = "-".join(str(part) for part in parts)
    return re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-")[:MAX_NAME] or "flowcast"


def map_files(
    frame: xr.DataArray, city: City, limits: tuple[float, float], subject: Subject, colors: str
) -> Files:
    """Returns the files of a map.

    Args:
        frame: dims `(y, x)`, vehicles per step, NaN where there is no value.
        city: for the time zone and the side of row 0.
        limits: flow at the ends of the color scale.
        subject: what it shows.
        colors: a color map of matplotlib.
    """
    title, footer = subject.title(city), subject.footer(city)
    return {
        ".png": lambda: _png(frame_map(frame.values, city, limits, title, colors, footer)),
        ".csv": lambda: _csv(_cells(_labeled(frame, subject, city), city)),
        ".nc": lambda: _netcdf(
            _labeled(frame, subject, city).to_dataset(), title.replace("\n", ": ")
        ),
    }


def _labeled(frame: xr.DataArray, subject: Subject, city: City) -> xr.DataArray:
    """Returns a map with the name of its variable; without intervals where it is not a flow."""
    rows, columns = frame.shape
    named = frame.assign_coords(y=np.arange(rows), x=np.arange(columns)).rename(subject.variable)
    if subject.variable == "flow":
        return named
    long_name = f"{subject.quantity} {zoned(subject.time, city)}"
    bare = without_intervals(named).drop_attrs()
    return bare.assign_attrs(units="vehicles per step", long_name=long_name)


def _cells(named: xr.DataArray, city: City) -> pd.DataFrame:
    """Returns a row for each cell, times with their offset."""
    table = named.to_dataframe().reset_index()
    for name in table.select_dtypes("datetime"):
        times, places = np.unique(table[name].to_numpy(), return_inverse=True)
        texts = [one.isoformat(timespec="minutes") for one in local(times, city.timezone)]
        table[name] = np.array(texts, dtype=object)[places]
    return table


def table_files(table: pd.DataFrame, title: str) -> Files:
    """Returns the files of a table of numbers and text; an image shows its first rows."""
    return {
        ".png": lambda: _png(_table_figure(table, title), bbox_inches="tight"),
        ".csv": lambda: _csv(table),
        ".nc": lambda: _netcdf(_table_dataset(table), title),
    }


def _png(figure: Figure, **options: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120, **options)
    return file.getvalue()


def _csv(table: pd.DataFrame) -> bytes:
    """Returns a CSV file in which no text is a formula for a spreadsheet."""
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
    """Returns a variable for each column, with the dim `row`."""
    columns = {}
    for name, column in table.items():
        is_numeric = pd.api.types.is_numeric_dtype(column)
        values = column.to_numpy(np.float64) if is_numeric else column.astype(str).to_numpy(object)
        columns[file_name(name)] = ("row", values)
    return xr.Dataset(columns)


def _table_figure(table: pd.DataFrame, title: str) -> Figure:
    head = table.head(MAX_ROWS)
    text = [[_cell_text(value) for value in row] for row in head.itertuples(index=False)]
    widths = [
        max(len(str(name)), *(len(row[at]) for row in text), 4)
        for at, name in enumerate(head.columns)
    ]
    figure = Figure(figsize=(0.085 * sum(widths) + 1, 0.28 * (len(text) + 1) + 0.9))
    ax = figure.add_axes((0.02, 0.02, 0.96, 0.96))
    ax.set_axis_off()
    more = f" (the first {MAX_ROWS} of {len(table):,} rows)" if len(table) > MAX_ROWS else ""
    ax.set_title(title.replace("$", r"\$") + more, fontsize=10, loc="left")
    if text:
        drawn = ax.table(
            text,
            colLabels=[str(name) for name in head.columns],
            colWidths=[width / sum(widths) for width in widths],
            cellLoc="left",
            loc="upper center",
        )
        drawn.auto_set_font_size(False)
        drawn.set_fontsize(8)
    return figure


def _cell_text(value: object) -> str:
    text = f"{value:,.4g}" if isinstance(value, float) else str(value)
    return text.replace("$", r"\$")[:60]
