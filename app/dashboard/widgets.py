"""Parts: what several pages draw: sentences, charts with what stands for them in words, downloads."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pyarrow as pa
import streamlit as st
import xarray as xr

from app.charts.frames import ERRORS
from app.charts.maps import COLORS
from app.charts.web_maps import FRAME_WIDTH, cells, flow_deck, frame_height, map_spec, scale_bar
from app.dashboard import cached
from app.dashboard.downloads import Files, Subject, file_name, map_files, table_files
from app.dashboard.markdown import MOST_DECIMALS, plain
from app.dashboard.url import View, query_of
from data.city import City
from data.clock import local

MIME = {".png": "image/png", ".csv": "text/csv", ".nc": "application/x-netcdf"}
KINDS = {".png": "PNG", ".csv": "CSV", ".nc": "NetCDF"}


def shown(time: np.datetime64 | np.ndarray, city: City) -> str:
    """Returns a time for people, by the city's clocks: `Tue 20 May 2025 08:30`."""
    return f"{local(time, city.timezone)[0]:%a %d %b %Y %H:%M}"


def lasting(time: np.timedelta64) -> str:
    """Returns a stretch of time for people: `90 min`, `6 h`."""
    minutes = int(time / np.timedelta64(1, "m"))
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:g} h"


def maker(forecast: xr.DataArray) -> str:
    """Returns the forecaster and the version that made a forecast."""
    return f"{forecast.attrs['forecaster']} {forecast.attrs['model_version']}".strip()


def view() -> View:
    """Returns what this session shows."""
    found: View = st.session_state["view"]
    return found


def go(**changes: Any) -> None:
    """Changes what is shown, and the URL with it."""
    former = view()
    st.session_state["view"] = replace(former, **changes)
    if view().cell != former.cell:
        # Other keys: what was selected in maps and lists before is forgotten.
        st.session_state["choices"] = choices() + 1
    if {"page", "city", "time"} & {*changes}:
        st.session_state["playing"] = False
    write_query()


def lead_within(horizon: int) -> int:
    """Returns the steps ahead that are shown: as many as a forecast has, which is said where it has fewer."""
    if view().lead > horizon:
        ahead = "1 step" if horizon == 1 else f"{horizon} steps"
        st.info(f"This forecast has {ahead}, not {view().lead}; the last one is shown.")
        go(lead=horizon)
    return view().lead


def choices() -> int:
    """Returns how often another cell was chosen."""
    return int(st.session_state.get("choices", 0))


def write_query() -> None:
    """Lets the URL say what is shown."""
    query = query_of(view())
    st.session_state["written"] = query
    if dict(st.query_params) != query:
        st.query_params.from_dict(query)


def changed(key: str, field: str, of: Callable[[Any], Any] = lambda value: value) -> None:
    """Takes over what a widget holds into what is shown; for `on_change`."""
    value = st.session_state.get(key)
    if value is not None:
        go(**{field: of(value)})


def picked(event: Any, city: City) -> None:
    """Takes over a click on a map."""
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
        go(cell=cell)
        st.rerun(scope="fragment")


def show_map(
    key: str,
    subject: Subject,
    frame: xr.DataArray,
    city: City,
    limits: tuple[float, float],
    framed: pd.DataFrame | None = None,
    **more: tuple[str, np.ndarray],
) -> None:
    """Draws a map with its title, its click, its words and its downloads.

    Args:
        key: of the widgets.
        subject: what it shows.
        frame: dims `(y, x)`, vehicles per step, NaN where there is no value.
        city: whose it is.
        limits: flow at the ends of the colors; below zero the map is one of differences.
        framed: columns `y` and `x` of cells that have a thin frame.
        more: names and values of what tooltips tell too, dims `(y, x)`.
    """
    table = cells(frame.values, **{name: values for name, (_, values) in more.items()})
    tips = {name: text for name, (text, _) in more.items()}
    colors = ERRORS if limits[0] < 0 else COLORS
    title = f"{subject.kind} {shown(subject.time, city)}"
    st.markdown(f"**{plain(title)}**")
    if not np.isfinite(frame.values).any():
        st.info("There is no value for this time.")
        return
    if framed is not None and len(framed):
        spots = np.zeros(frame.shape, dtype=bool)
        spots[framed["y"].to_numpy(int), framed["x"].to_numpy(int)] = True
        table["spot"] = spots.ravel()
        # Drawn after their neighbors, so that frames lie above them.
        table = table.sort_values("spot", kind="stable", ignore_index=True)
    cell = view().cell
    if cell is not None:  # drawn last, so that its frame lies above its neighbors
        is_cell = (table["y"] == cell[0]) & (table["x"] == cell[1])
        table = pd.concat([table[~is_cell], table[is_cell]], ignore_index=True)
    words, number = _words(frame, f"{title}, {subject.channel}"), choices()
    with st.container(width=FRAME_WIDTH):
        if view().earth and city.bbox is not None:
            lines, _ = cached.overlay(city)
            deck = flow_deck(table, city, colors, limits, tooltips=tips, overlay=lines, marked=cell)
            event: Any = st.pydeck_chart(
                deck,
                on_select="rerun",
                key=f"{key}-deck-{number}",
                height=frame_height(city),
                alt=words,
            )
            st.html(scale_bar(city, colors, limits))
        else:
            spec = map_spec(city, limits, tuple(tips.items()), cell)
            # As Streamlit sends it, without the threads that it would start for so few rows.
            rows = pa.Table.from_pandas(table, preserve_index=False, nthreads=1)
            event = st.vega_lite_chart(
                rows, spec, on_select="rerun", key=f"{key}-map-{number}", alt=words
            )
    picked(event, city)
    download(key, subject.name(city), map_files(frame, city, limits, subject, colors))


def _words(frame: xr.DataArray, title: str) -> str:
    """Returns what a map shows, for those who cannot see it."""
    values = frame.values
    y, x = np.unravel_index(np.nanargmax(values), values.shape)
    missing = int((~np.isfinite(values)).sum())
    return (
        f"{title}: from {np.nanmin(values):,.0f} to {np.nanmax(values):,.0f} vehicles per step, the most "
        f"in row {y}, column {x}; {missing} cells without a value"
    )


def show_chart(
    key: str, chart: alt.Chart, words: str, table: pd.DataFrame, title: str, at: str = ""
) -> None:
    """Draws a chart with its words and the downloads of its table.

    Args:
        key: of the widgets.
        chart: as `app.charts.web_maps` returns it.
        words: what it shows, for those who cannot see it.
        table: that files hold.
        title: of the files.
        at: the moment that it is of, for titles and names of files; "" for none.
    """
    st.altair_chart(chart, alt=words, key=f"{key}-chart")
    _download_table(key, table, title, at)


def show_table(key: str, table: pd.DataFrame, title: str, at: str = "", **options: Any) -> Any:
    """Draws a table with its title and downloads, and returns what is selected in it.

    Args:
        key: of the widgets.
        table: of numbers and text.
        title: above it.
        at: the moment that it is of, for titles and names of files; "" for none.
        options: of `st.dataframe`.
    """
    st.markdown(f"**{plain(title)}**")
    event = st.dataframe(
        table,
        hide_index=True,
        key=f"{key}-table",
        alt=title,
        column_config=_formats(table),
        **options,
    )
    _download_table(key, table, title, at)
    return event


def _formats(table: pd.DataFrame) -> dict[str, Any]:
    """Returns how figures are written: all of a column with as many decimals as one of them needs."""
    formats = {}
    for name, column in table.select_dtypes("float").items():
        values = column[np.isfinite(column)].to_numpy()
        fitting = (n for n in range(MOST_DECIMALS) if np.array_equal(values.round(n), values))
        decimals = next(fitting, MOST_DECIMALS)
        formats[str(name)] = st.column_config.NumberColumn(format=f"%.{decimals}f")
    return formats


def _download_table(key: str, table: pd.DataFrame, title: str, at: str) -> None:
    full = ", ".join(part for part in (f"{view().city}: {title}", at) if part)
    name = file_name(view().city, title, at)
    download(key, name, table_files(table, full), {".png": "PNG of the table"})


def download(key: str, name: str, files: Files, named: Mapping[str, str] | None = None) -> None:
    """Offers files; each is made when it is asked for.

    Args:
        key: of the widgets.
        name: of the files.
        files: how each is made, by its suffix.
        named: what kinds of files are called where it is not as in `KINDS`.
    """
    kinds = KINDS | dict(named or {})
    told = f"As {', '.join(kinds[suffix] for suffix in files)}: {name}"
    with st.popover("Export", icon=":material/download:", key=f"{key}-export", help=told):
        for suffix, make in files.items():
            st.download_button(
                f"{kinds[suffix]}: {name}"[:90],
                data=make,
                file_name=f"{name}{suffix}",
                mime=MIME[suffix],
                key=f"{key}{suffix}",
                on_click="ignore",
            )
