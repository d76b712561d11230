"""A cell: its history, what is forecast of it, and past forecasts against what came."""

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from app.charts.web_lines import history_chart, milliseconds
from app.dashboard import cached
from app.dashboard.downloads import Subject, moment
from app.dashboard.markdown import plain
from app.dashboard.pages.now import asked, kept, show_banners
from app.dashboard.widgets import changed, go, lead_within, show_chart, show_map, show_table, view
from data.city import City
from data.clock import Clock, local, utc, wall
from data.intervals import intervals_of

PAST = np.timedelta64(48, "h")
"""How much of the history is drawn."""
BEFORE = np.timedelta64(72, "h")
"""How much of the past forecasts is drawn."""
FEWEST = 28
"""Steps that are drawn at least, of slots that are long."""


def page(city: City) -> None:
    """Draws the page."""
    if (found := asked(city)) is None:
        return
    state, forecast = found
    if view().time is not None:
        kept(city, state, forecast)
    show_banners(cached.trust_of(city, state, view().time), "error", "warning")
    made = forecast["init_time"].values[0]
    left, right = st.columns([1.2, 2.5])
    with left:
        _choose(city)
        frame = cached.frame(city, state, made).sel(channel=view().channel)
        end = cached.top(city)
        show_map("cell-map", Subject("Observed", view().channel, made), frame, city, (0, end))
    with right:
        if view().cell is None:
            st.info("Click on a cell of the map, or type its row and column.")
            return
        y, x = view().cell or (0, 0)
        table = _history(city, forecast, y, x)
        words = f"{view().channel} of row {y}, column {x}"
        st.markdown(f"**{plain(words.capitalize())}: history, forecast and the week before**")
        now = float(milliseconds(wall(made, city.timezone)))
        rows = table.drop(columns="shown")
        show_chart("history", history_chart(table, now), words, rows, words, moment(made, city))
        _past(city, state, made, y, x)


def _choose(city: City) -> None:
    """Draws the row and the column."""
    cell = view().cell
    columns = st.columns(2)
    for place, (name, most) in enumerate(zip(("row", "column"), city.grid, strict=True)):
        if cell:
            st.session_state[name] = cell[place]
        columns[place].number_input(
            name.capitalize(),
            min_value=0,
            max_value=most - 1,
            step=1,
            key=name,
            value=None,
            placeholder=f"0 to {most - 1}",
            on_change=_typed,
            args=(city,),
        )


def _typed(city: City) -> None:
    """Takes over row and column once both are there."""
    row, column = st.session_state.get("row"), st.session_state.get("column")
    go(cell=None if row is None or column is None else (int(row), int(column)))


def _history(city: City, forecast: xr.DataArray, y: int, x: int) -> pd.DataFrame:
    """Returns the rows of `history_chart`: observed, forecast, and the same slots a week before."""
    channel = view().channel
    made = forecast["init_time"].values[0]
    coming = forecast.isel(init_time=0).sel(channel=channel)[:, y, x]
    times = coming["valid_time"].values
    first = made - max(PAST, FEWEST * city.step)
    seen = cached.store().flow.read(city, first=first, last=times[-1]).sel(channel=channel)[:, y, x]
    parts = [_rows(city, "observed", seen["time"].values, seen.values)]
    around = intervals_of(coming)
    edges = None if around is None else around.sel(coverage=0.8).values
    parts.append(_rows(city, "forecast", times, coming.values, edges))
    week = np.timedelta64(7, "D")
    ends = utc(wall(np.array([first, times[-1]]), city.timezone) - week, city.timezone)
    before = cached.store().flow.read(city, first=ends[0], last=ends[1])
    moved = utc(wall(before["time"].values, city.timezone) + week, city.timezone)
    flow = before.sel(channel=channel).values[:, y, x]
    parts.append(_rows(city, "same slot last week", moved, flow))
    return pd.concat([one for one in parts if len(one)], ignore_index=True)


def _with_gaps(city: City, times: np.ndarray, *columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns every slot from the first to the last, NaN where it is missing: lines break there.

    Args:
        city: for its slots.
        times: UTC, in order.
        columns: values at these times.

    Returns:
        the times, and each column.
    """
    if not len(times):
        return times, *columns
    clock = Clock(city.step, city.timezone)
    number = clock.number(times, times[0])
    filled = np.full((len(columns), int(number[-1]) + 1), np.nan)
    filled[:, number] = columns
    return clock.time(times[0], np.arange(filled.shape[1])), *filled


def _rows(
    city: City, kind: str, times: np.ndarray, flow: np.ndarray, edges: np.ndarray | None = None
) -> pd.DataFrame:
    """Returns rows of `history_chart`, one for each slot, whether it is there or not."""
    nothing = np.full(len(times), np.nan)
    lower, upper = (nothing, nothing) if edges is None else edges
    times, flow, lower, upper = _with_gaps(city, times, flow, lower, upper)
    return pd.DataFrame(
        {
            "shown": milliseconds(wall(times, city.timezone)),
            "at": [f"{one:%Y-%m-%d %H:%M %z}" for one in local(times, city.timezone)],
            "kind": kind,
            "flow": flow,
            "lower": lower,
            "upper": upper,
        }
    )


def _steps(lead: int) -> str:
    return "1 step ahead" if lead == 1 else f"{lead} steps ahead"


def _past(city: City, state: str, made: np.datetime64, y: int, x: int) -> None:
    """Draws what was forecast of the cell some time ahead, and what came."""
    record = cached.record_of(city, state, made)
    if record is None or record.forecast.sizes["init_time"] < 2:
        st.caption("Past forecasts appear here once there are some.")
        return
    horizon = record.forecast.sizes["lead_time"]
    lead = lead_within(horizon)
    st.session_state["ahead"] = lead
    st.selectbox(
        "Forecasts made",
        options=range(1, horizon + 1),
        format_func=_steps,
        key="ahead",
        on_change=changed,
        args=("ahead", "lead"),
    )
    since = made - max(BEFORE, FEWEST * city.step)
    recent = record.forecast["init_time"].values > since
    place = {"lead_time": lead - 1, "y": y, "x": x}
    parts = [
        one.isel(place).sel(channel=view().channel)[recent]
        for one in (record.forecast, record.lower, record.upper, record.observed)
    ]
    times = parts[0]["valid_time"].values
    flow, lower, upper, came = (one.values for one in parts)
    table = pd.concat(
        [
            _rows(city, "observed", times, came),
            _rows(city, "forecast", times, flow, np.stack([lower, upper])),
        ],
        ignore_index=True,
    )
    words = f"{view().channel} of row {y}, column {x}, forecast {_steps(lead)}"
    st.markdown(f"**{plain(words.capitalize())}, and what came**")
    at = moment(made, city)
    show_chart("past", history_chart(table), words, table.drop(columns="shown"), words, at)
    known = np.isfinite(came) & np.isfinite(upper)
    if known.any():
        held = float(((lower <= came) & (came <= upper))[known].mean())
        st.caption(
            f"The 80 % band held {100 * held:.0f} % of the {int(known.sum())} values that came in these days."
        )
    rows = pd.DataFrame(
        {
            "time": [f"{one:%Y-%m-%d %H:%M %z}" for one in local(times, city.timezone)],
            **{"observed": came, "forecast": flow, "lower 80 %": lower, "upper 80 %": upper},
        }
    ).iloc[::-1]
    with st.expander("As a table"):
        show_table("past-rows", rows.round(1), f"{words}, newest first", at, height=300)
