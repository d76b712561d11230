"""Which forecast a page shows, and the messages above it: none yet, pinned, stale, a baseline."""

import numpy as np
import streamlit as st
import xarray as xr

from app.dashboard import cached
from app.dashboard.markdown import literal
from app.dashboard.widgets import change_view, time_text, view
from data.city import City
from data.clock import stamp
from pipelines.insight.trust import Trust


def chosen_forecast(city: City) -> tuple[str, xr.DataArray] | None:
    """Returns the city's state and the forecast of the view; None, with a message, without one."""
    state = cached.state(city)
    forecast = cached.forecast(city, state, view().time)
    if forecast is None:
        show_no_forecast(city)
        return None
    return state, forecast


def leave_unknown_time(city: City) -> None:
    """Goes to the newest forecast, with a message, where none was made at the time of the view."""
    state, at = cached.state(city), view().time
    if at is None or cached.forecast(city, state, at) is not None:
        return
    newest = "" if cached.forecast(city, state, None) is None else "; the newest is shown"
    st.warning(f"No stored forecast was made at {literal(stamp(at, city.timezone))}{newest}.")
    change_view(time=None)


def show_no_forecast(city: City) -> None:
    """Says that the city has no forecast, and which command makes one."""
    if cached.store().flow.span(city) is None:
        st.info(f"{literal(city.title)} has no flow yet. To ingest files:")
        st.code(f"forecast ingest --city {city.name} PATH", language=None)
        return
    st.info(
        f"{literal(city.title)} has flow but no forecast yet. To make one, and one for each slot:"
    )
    st.code(f"forecast --city {city.name} --horizon 4\nforecast schedule", language=None)


def show_pinned(city: City, state: str, made: np.datetime64) -> None:
    """Says that the view is pinned to a forecast, with a button back to the newest one."""
    newest = cached.forecast(city, state, None)
    is_newest = newest is not None and newest["init_time"].values[0] == made
    rest = "still the newest; it stays when a newer one is made" if is_newest else "not the newest"
    left, right = st.columns([4, 1])
    left.info(f"This is the forecast made at {literal(time_text(made, city))}, {rest}.")
    right.button("Back to the newest", on_click=change_view, kwargs={"time": None})


def show_banners(trust: Trust, *levels: str) -> None:
    """Draws the banners of these levels, by default of all."""
    draw = {"error": st.error, "warning": st.warning, "info": st.info}
    for banner in trust.banners:
        if not levels or banner.level in levels:
            draw[banner.level](literal(banner.text))
