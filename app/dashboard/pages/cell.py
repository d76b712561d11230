"""Cell: the history of a cell, its forecast, and past forecasts against observed flow."""

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from app.charts.web_lines import clock_milliseconds, history_chart
from app.dashboard import cached
from app.dashboard.banners import chosen_forecast, show_banners, show_pinned
from app.dashboard.downloads import Subject, zoned
from app.dashboard.markdown import literal
from app.dashboard.widgets import (
    apply_widget,
    bounded_lead,
    change_view,
    show_chart,
    show_map,
    show_table,
    view,
)
from data.city import City
from data.clock import Clock, local, utc, wall
from data.intervals import intervals_of

HISTORY = np.timedelta64(48, "h")
PAST_FORECASTS = np.timedelta64(72, "h")
"""How far back past forecasts are drawn."""
MIN_STEPS = 28
"""Steps that are drawn at least, where steps are long."""
WEEK = np.timedelta64(7, "D")


def draw(city: City) -> None:
    """Draws the page."""
    if (chosen := chosen_forecast(city)) is None:
        return
    state, forecast = chosen
    made = forecast["init_time"].values[0]
    if view().time is not None:
        show_pinned(city, state, made)
    show_banners(cached.trust_of(city, state, view().time), "error", "warning")
    left, right = st.columns([1.2, 2.5])
    with left:
        _draw_choice(city)
        frame = cached.frame(city, state, made).sel(channel=view().channel)
        subject = Subject("Observed", view().channel, made)
        show_map("cell-map", subject, frame, city, (0, cached.top(city)))
    with right:
        if view().cell is None:
            st.info("Click on a cell of the map, or type its row and column.")
            return
        y, x = view().cell or (0, 0)
        table = _history(city, forecast, y, x)
        words = f"{view().channel} of row {y}, column {x}"
        st.markdown(f"**{literal(words.capitalize())}: history, forecast and the week before**")
        now = float(clock_milliseconds(wall(made, city.timezone)))
        rows = table.drop(columns="clock")
        show_chart("history", history_chart(table, now), words, rows, words, zoned(made, city))
        _draw_past_forecasts(city, state, made, y, x)


def _draw_choice(city: City) -> None:
    """Draws the fields for row and column."""
    cell = view().cell
    columns = st.columns(2)
    for place, (name, count) in enumerate(zip(("row", "column"), city.grid, strict=True)):
        if cell:
            st.session_state[name] = cell[place]
        columns[place].number_input(
            name.capitalize(),
            min_value=0,
            max_value=count - 1,
            step=1,
            key=name,
            value=None,
            placeholder=f"0 to {count - 1}",
            on_change=_apply_choice,
        )


def _apply_choice() -> None:
    """Changes the cell once both row and column are typed."""
    row, column = st.session_state.get("row"), st.session_state.get("column")
    change_view(cell=None if row is None or column is None else (int(row), int(column)))


def _history(city: City, forecast: xr.DataArray, y: int, x: int) -> pd.DataFrame:
    """Returns the rows of `history_chart`: observed, forecast, and the same slots a week before."""
    channel, archive = view().channel, cached.store().flow
    future = forecast.isel(init_time=0).sel(channel=channel)[:, y, x]
    times = future["valid_time"].values
    first = forecast["init_time"].values[0] - max(HISTORY, MIN_STEPS * city.step)
    observed = archive.read(city, first=first, last=times[-1]).sel(channel=channel)[:, y, x]
    interval = intervals_of(future)
    edges = None if interval is None else interval.sel(coverage=0.8).values
    ends = utc(wall(np.array([first, times[-1]]), city.timezone) - WEEK, city.timezone)
    before = archive.read(city, first=ends[0], last=ends[1]).sel(channel=channel)[:, y, x]
    moved = utc(wall(before["time"].values, city.timezone) + WEEK, city.timezone)
    parts = [
        _rows(city, "observed", observed["time"].values, observed.values),
        _rows(city, "forecast", times, future.values, edges),
        _rows(city, "same slot last week", moved, before.values),
    ]
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def _rows(
    city: City, series: str, times: np.ndarray, flow: np.ndarray, edges: np.ndarray | None = None
) -> pd.DataFrame:
    """Returns rows of `history_chart`, NaN at missing slots, where lines break."""
    columns = np.full((3, len(times)), np.nan)
    columns[0] = flow
    if edges is not None:
        columns[1:] = edges
    if len(times):
        clock = Clock(city.step, city.timezone)
        slot = clock.number(times, times[0])
        filled = np.full((3, int(slot[-1]) + 1), np.nan)
        filled[:, slot] = columns
        times, columns = clock.time(times[0], np.arange(filled.shape[1])), filled
    return pd.DataFrame(
        {
            "clock": clock_milliseconds(wall(times, city.timezone)),
            "at": _time_texts(times, city),
            "series": series,
            **dict(zip(("flow", "lower", "upper"), columns, strict=True)),
        }
    )


def _time_texts(times: np.ndarray, city: City) -> list[str]:
    return [f"{one:%Y-%m-%d %H:%M %z}" for one in local(times, city.timezone)]


def _steps_text(lead: int) -> str:
    return "1 step ahead" if lead == 1 else f"{lead} steps ahead"


def _draw_past_forecasts(city: City, state: str, made: np.datetime64, y: int, x: int) -> None:
    """Draws the forecasts of the cell at one lead, and the observed flow."""
    past = cached.past_forecasts_of(city, state, made)
    if past is None or past.forecast.sizes["init_time"] < 2:
        st.caption("Past forecasts appear here once there are at least two.")
        return
    horizon = past.forecast.sizes["lead_time"]
    lead = bounded_lead(horizon)
    st.session_state["ahead"] = lead
    st.selectbox(
        "Forecasts made",
        options=range(1, horizon + 1),
        format_func=_steps_text,
        key="ahead",
        on_change=apply_widget,
        args=("ahead", "lead"),
    )
    since = made - max(PAST_FORECASTS, MIN_STEPS * city.step)
    recent = past.forecast["init_time"].values > since
    place = {"lead_time": lead - 1, "y": y, "x": x}
    forecast, lower, upper, observed = (
        one.isel(place).sel(channel=view().channel)[recent]
        for one in (past.forecast, past.lower, past.upper, past.observed)
    )
    times = forecast["valid_time"].values
    edges = np.stack([lower.values, upper.values])
    table = pd.concat(
        [
            _rows(city, "observed", times, observed.values),
            _rows(city, "forecast", times, forecast.values, edges),
        ],
        ignore_index=True,
    )
    words = f"{view().channel} of row {y}, column {x}, forecast {_steps_text(lead)}"
    st.markdown(f"**{literal(words.capitalize())}, and observed**")
    at = zoned(made, city)
    show_chart("past", history_chart(table), words, table.drop(columns="clock"), words, at)
    known = np.isfinite(observed.values) & np.isfinite(edges[1])
    if known.any():
        inside = (edges[0] <= observed.values) & (observed.values <= edges[1])
        st.caption(
            f"Coverage of the 80 % interval in these days: {100 * inside[known].mean():.0f} % of "
            f"{int(known.sum())} values."
        )
    rows = pd.DataFrame(
        {
            **{"time": _time_texts(times, city), "observed": observed.values},
            **{"forecast": forecast.values, "lower 80 %": edges[0], "upper 80 %": edges[1]},
        }
    ).iloc[::-1]
    with st.expander("As a table"):
        show_table("past-rows", rows.round(1), f"{words}, newest first", at, height=300)
