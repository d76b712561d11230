"""Widgets that several pages draw: maps, charts and tables with their downloads; and the view."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pyarrow as pa
import streamlit as st
import xarray as xr

from app.charts.maps import COLORS, DIVERGING_COLORS
from app.charts.web_earth import color_bar, earth_map
from app.charts.web_maps import MAP_WIDTH, cells, map_height, map_spec
from app.dashboard import cached
from app.dashboard.downloads import Files, Subject, file_name, map_files, table_files
from app.dashboard.markdown import literal
from app.dashboard.url import View, query_of
from data.city import City
from data.clock import local

FORMATS = {".png": "PNG", ".csv": "CSV", ".nc": "NetCDF"}
MIME_TYPES = {".png": "image/png", ".csv": "text/csv", ".nc": "application/x-netcdf"}
MAX_DECIMALS = 4


def time_text(time: np.datetime64 | np.ndarray, city: City) -> str:
    """Returns a time by the city's clocks: `Tue 20 May 2025 08:30`."""
    return f"{local(time, city.timezone)[0]:%a %d %b %Y %H:%M}"


def span_text(time: np.timedelta64) -> str:
    """Returns a span of time: `90 min`, `6 h`."""
    minutes = int(time / np.timedelta64(1, "m"))
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:g} h"


def model_text(forecast: xr.DataArray) -> str:
    """Returns the forecaster and the version that made a forecast."""
    return f"{forecast.attrs['forecaster']} {forecast.attrs['model_version']}".strip()


def view() -> View:
    """Returns the view of this session."""
    found: View = st.session_state["view"]
    return found


def change_view(**changes: Any) -> None:
    """Changes the view and the URL."""
    former = view()
    st.session_state["view"] = replace(former, **changes)
    if view().cell != former.cell:
        # Maps and lists get new keys, so that the browser forgets what was selected in them.
        st.session_state["choices"] = cell_changes() + 1
    if {"page", "city", "time"} & {*changes}:
        st.session_state["playing"] = False
    write_query()


def apply_widget(key: str, field: str, of: Callable[[Any], Any] = lambda value: value) -> None:
    """Changes a field of the view to the value of a widget; for `on_change`."""
    value = st.session_state.get(key)
    if value is not None:
        change_view(**{field: of(value)})


def bounded_lead(horizon: int) -> int:
    """Returns the lead of the view, with a message at most the horizon of the forecast."""
    if view().lead > horizon:
        steps = "1 step" if horizon == 1 else f"{horizon} steps"
        st.info(f"This forecast has {steps}, not {view().lead}; the last one is shown.")
        change_view(lead=horizon)
    return view().lead


def cell_changes() -> int:
    """Returns how often the session changed the cell."""
    return int(st.session_state.get("choices", 0))


def write_query() -> None:
    """Writes the view into the URL."""
    query = query_of(view())
    st.session_state["written"] = query
    if dict(st.query_params) != query:
        st.query_params.from_dict(query)


def show_map(
    key: str,
    subject: Subject,
    frame: xr.DataArray,
    city: City,
    limits: tuple[float, float],
    framed: pd.DataFrame | None = None,
    **more: tuple[str, np.ndarray],
) -> None:
    """Draws a map with its title, description and downloads; a click on a cell changes the view.

    Args:
        key: of the widgets.
        subject: what it shows.
        frame: dims `(y, x)`, vehicles per step, NaN where there is no value.
        city: whose flow it is.
        limits: flow at the ends of the color scale; below zero for differences.
        framed: columns `y` and `x` of cells that get a thin frame.
        more: title and values `(y, x)` of further lines of the tooltips.
    """
    title = f"{subject.quantity} {time_text(subject.time, city)}"
    st.markdown(f"**{literal(title)}**")
    if not np.isfinite(frame.values).any():
        st.info("There is no value for this time.")
        return
    table = _ordered_cells(frame, framed, {name: values for name, (_, values) in more.items()})
    tooltips = {name: text for name, (text, _) in more.items()}
    colors = DIVERGING_COLORS if limits[0] < 0 else COLORS
    words, number, cell = (
        _describe(frame, f"{title}, {subject.channel}"),
        cell_changes(),
        view().cell,
    )
    with st.container(width=MAP_WIDTH):
        if view().earth and city.bbox is not None:
            lines, _ = cached.overlay(city)
            event: Any = st.pydeck_chart(
                earth_map(
                    table, city, colors, limits, tooltips=tooltips, overlay=lines, marked=cell
                ),
                on_select="rerun",
                key=f"{key}-deck-{number}",
                height=map_height(city),
                alt=words,
            )
            st.html(color_bar(city, colors, limits))
        else:
            event = st.vega_lite_chart(
                # Streamlit would start threads to convert these few rows.
                pa.Table.from_pandas(table, preserve_index=False, nthreads=1),
                map_spec(city, limits, tuple(tooltips.items()), cell),
                on_select="rerun",
                key=f"{key}-map-{number}",
                alt=words,
            )
    _select_clicked_cell(event, city)
    _download(key, subject.name(city), map_files(frame, city, limits, subject, colors), FORMATS)


def _ordered_cells(
    frame: xr.DataArray, framed: pd.DataFrame | None, more: dict[str, np.ndarray]
) -> pd.DataFrame:
    """Returns the rows of a map; framed cells and the chosen one are last, so drawn over neighbors."""
    table = cells(frame.values, **more)
    if framed is not None and len(framed):
        spots = np.zeros(frame.shape, dtype=bool)
        spots[framed["y"].to_numpy(int), framed["x"].to_numpy(int)] = True
        table["spot"] = spots.ravel()
        table = table.sort_values("spot", kind="stable", ignore_index=True)
    if (cell := view().cell) is not None:
        is_cell = (table["y"] == cell[0]) & (table["x"] == cell[1])
        table = pd.concat([table[~is_cell], table[is_cell]], ignore_index=True)
    return table


def _select_clicked_cell(event: Any, city: City) -> None:
    selection = event.get("selection", {}) if event else {}
    points = selection.get("cell") or selection.get("objects", {}).get("cells") or []
    if not points:
        return
    try:
        cell = int(points[0]["y"]), int(points[0]["x"])
    except (KeyError, TypeError, ValueError):
        return
    inside = all(0 <= one < size for one, size in zip(cell, city.grid, strict=True))
    if inside and cell != view().cell:
        change_view(cell=cell)
        st.rerun(scope="fragment")


def _describe(frame: xr.DataArray, title: str) -> str:
    """Returns what a map shows, for screen readers."""
    values = frame.values
    y, x = np.unravel_index(np.nanargmax(values), values.shape)
    missing = int((~np.isfinite(values)).sum())
    return (
        f"{title}: from {np.nanmin(values):,.0f} to {np.nanmax(values):,.0f} vehicles per step, the "
        f"highest in row {y}, column {x}; {missing} cells without a value"
    )


def show_chart(
    key: str, chart: alt.Chart, words: str, table: pd.DataFrame, title: str, at: str = ""
) -> None:
    """Draws a chart with the downloads of its table.

    Args:
        key: of the widgets.
        chart: of `app.charts.web_lines`.
        words: what it shows, for screen readers.
        table: for the downloads.
        title: of the files.
        at: moment of the data, for titles and names of files; "" for none.
    """
    st.altair_chart(chart, alt=words, key=f"{key}-chart")
    _download_table(key, table, title, at)


def show_table(key: str, table: pd.DataFrame, title: str, at: str = "", **options: Any) -> Any:
    """Draws a table with its title and downloads, and returns the selection in it.

    Args:
        key: of the widgets.
        table: of numbers and text.
        title: above it.
        at: moment of the data, for titles and names of files; "" for none.
        options: of `st.dataframe`.
    """
    st.markdown(f"**{literal(title)}**")
    event = st.dataframe(
        table,
        hide_index=True,
        key=f"{key}-table",
        alt=title,
        column_config=_number_formats(table),
        **options,
    )
    _download_table(key, table, title, at)
    return event


def _number_formats(table: pd.DataFrame) -> dict[str, Any]:
    """Returns the format of each column of floats: as many decimals as its longest value needs."""
    formats = {}
    for name, column in table.select_dtypes("float").items():
        values = column[np.isfinite(column)].to_numpy()
        enough = (n for n in range(MAX_DECIMALS) if np.array_equal(values.round(n), values))
        decimals = next(enough, MAX_DECIMALS)
        formats[str(name)] = st.column_config.NumberColumn(format=f"%.{decimals}f")
    return formats


def _download_table(key: str, table: pd.DataFrame, title: str, at: str) -> None:
    heading = ", ".join(part for part in (f"{view().city}: {title}", at) if part)
    files, formats = table_files(table, heading), FORMATS | {".png": "PNG of the table"}
    _download(key, file_name(view().city, title, at), files, formats)


def _download(key: str, name: str, files: Files, formats: dict[str, str]) -> None:
    """Draws a menu of downloads; a file is made when a user asks for it."""
    words = f"As {', '.join(formats[suffix] for suffix in files)}: {name}"
    with st.popover("Export", icon=":material/download:", key=f"{key}-export", help=words):
        for suffix, make in files.items():
            st.download_button(
                f"{formats[suffix]}: {name}"[:90],
                data=make,
                file_name=f"{name}{suffix}",
                mime=MIME_TYPES[suffix],
                key=f"{key}{suffix}",
                on_click="ignore",
            )
