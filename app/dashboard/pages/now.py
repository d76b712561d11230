"""Now and next: what needs attention, how far to trust the forecast, and its maps."""

import time
from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from app.dashboard import cached
from app.dashboard.banners import chosen_forecast, show_banners, show_pinned
from app.dashboard.downloads import Subject
from app.dashboard.hot_spots import show_hot_spots
from app.dashboard.markdown import literal
from app.dashboard.widgets import (
    apply_widget,
    bounded_lead,
    change_view,
    model_text,
    show_map,
    span_text,
    time_text,
    view,
)
from app.text import TITLES
from data.city import City
from data.clock import duration, local
from data.intervals import intervals_of
from pipelines.insight.trust import Trust

SECONDS_PER_STEP = 1.0
"""How long playback shows each time step."""


def draw(city: City) -> None:
    """Draws the page."""
    if (chosen := chosen_forecast(city)) is None:
        return
    state, forecast = chosen
    made = forecast["init_time"].values[0]
    horizon = forecast.sizes["lead_time"]
    if view().time is not None:
        show_pinned(city, state, made)
    trust = cached.trust_of(city, state, view().time)
    show_banners(trust)
    _draw_trust(city, trust)
    _advance_playback(horizon)
    lead = bounded_lead(horizon)
    typical = cached.typical_of(city, state, made, horizon)
    left, right = st.columns([3.4, 1])
    with right:
        _draw_controls(city, forecast, lead)
    with left:
        spots = show_hot_spots(city, state, made, typical)
    _draw_maps(city, state, forecast, typical, lead, spots)


def _draw_trust(city: City, trust: Trust) -> None:
    """Draws a strip of what to know before looking at the forecast."""
    if trust.version:
        known = local(trust.trained_until, city.timezone)[0]
        age = float((trust.newest - trust.trained_until) / np.timedelta64(1, "s"))
        trained = f"trained on flow until {known:%a %d %b %Y}, {duration(max(age, 0))} ago"
        model = [trust.version, f"{trust.forecaster}, {trained}"]
    else:
        model = ["no model", f"{trust.forecaster} stands in"]
    day = "day" if trust.day == 1 else f"{trust.day} slots"
    strip = {
        "Newest slot": [
            time_text(trust.newest, city),
            f"ended {duration(trust.age)} ago" if trust.age >= 60 else "just ended",
        ],
        "Input": [
            f"{trust.missing} missing" if trust.missing else "none missing",
            f"of the newest {day}",
        ],
        "Model": model,
        "Skill, last 7 days": _skill_lines(trust),
        "Drift": [trust.drift or "none"],
    }
    for place, (title, lines) in zip(
        st.columns([1.1, 1, 1.4, 1.7, 1.5]), strip.items(), strict=True
    ):
        place.markdown(f"**{title}**  \n" + "  \n".join(literal(line) for line in lines if line))


def _skill_lines(trust: Trust) -> list[str]:
    if (skill := trust.skill) is None:
        return ["not known yet", "too few forecasts are scored"]
    baseline = TITLES[skill.baseline]
    if abs(skill.gain) < 0.005:
        words = f"as good as {baseline}"
    else:
        better = "better" if skill.gain > 0 else "worse"
        words = f"{100 * abs(skill.gain):.0f} % {better} than {baseline}"
    errors = f"RMSE {skill.rmse:.1f} against {skill.best:.1f} vehicles per step"
    return [words, f"{errors}, in- and outflow together"]


def _advance_playback(horizon: int) -> None:
    """Moves to the next time step while playback runs, and ends it after the last."""
    since = time.monotonic() - st.session_state.get("played", 0.0)
    if not st.session_state.get("playing", False) or since < 0.7 * SECONDS_PER_STEP:
        return
    st.session_state["played"] = time.monotonic()
    if view().lead >= horizon:
        st.session_state["playing"] = False
        st.rerun(scope="app")
    change_view(lead=view().lead + 1)


def _draw_controls(city: City, forecast: xr.DataArray, lead: int) -> None:
    """Draws the horizon, playback, pin and threshold."""
    horizon = forecast.sizes["lead_time"]
    if horizon > 1:
        times = local(forecast["valid_time"].values[0], city.timezone)
        names = [
            f"{at:%a %H:%M}, {span_text(ahead)} ahead"
            for at, ahead in zip(times, forecast["lead_time"].values, strict=True)
        ]
        st.session_state["lead"] = lead
        st.select_slider(
            "Horizon",
            options=range(1, horizon + 1),
            format_func=lambda step: names[step - 1],
            key="lead",
            on_change=apply_widget,
            args=("lead", "lead"),
        )
        playing = st.session_state.get("playing", False)
        if st.button(
            "Stop" if playing else "Play",
            icon=":material/stop:" if playing else ":material/play_arrow:",
            key="play",
            help="Show the coming time steps one after another.",
        ):
            st.session_state["playing"] = not playing
            if not playing:
                change_view(lead=1)
                st.session_state["playing"] = True
                st.session_state["played"] = time.monotonic()
            st.rerun(scope="app")  # the whole script sets how often the page refreshes
    if view().time is None:
        st.button(
            "Pin this forecast",
            icon=":material/keep:",
            on_click=change_view,
            kwargs={"time": forecast["init_time"].values[0]},
            help="Keep the page and its link at this forecast; else they move on to each newer one.",
        )
    st.session_state["threshold"] = view().threshold
    st.number_input(
        "Threshold, vehicles per step (0: none)",
        min_value=0.0,
        max_value=1e6,
        step=10.0,
        format="%.6g",
        key="threshold",
        on_change=apply_widget,
        args=("threshold", "threshold"),
        help="Cells with a forecast above it are hot spots, however typical that is.",
    )


def _draw_maps(
    city: City,
    state: str,
    forecast: xr.DataArray,
    typical: xr.Dataset,
    lead: int,
    spots: pd.DataFrame,
) -> None:
    """Draws the observed flow, the forecast with the hot spots, and its difference from typical flow."""
    channel = view().channel
    made = forecast["init_time"].values[0]
    observed = cached.frame(city, state, made).sel(channel=channel)
    frame = forecast.isel(init_time=0, lead_time=lead - 1).sel(channel=channel)
    mean = typical["mean"].isel(time=lead - 1).sel(channel=channel)
    end = cached.top(city)
    tooltips = {"typical": ("typical", mean.values)}
    if (interval := intervals_of(frame)) is not None:
        for edge, word in (("lower", "80 % interval from"), ("upper", "to")):
            tooltips[edge] = (word, interval.sel(coverage=0.8, edge=edge).values)
    at = np.datetime64(frame["valid_time"].values.item(), "s")
    subject = Subject("Forecast", channel, at, init_time=made, model=model_text(forecast))
    columns = st.columns(3)
    with columns[0]:
        show_map("observed", Subject("Observed", channel, made), observed, city, (0, end))
    with columns[1]:
        show_map("forecast", subject, frame, city, (0, end), framed=spots, **tooltips)
    with columns[2]:
        show_map(
            "unusual",
            replace(subject, quantity="Forecast minus typical", variable="difference"),
            frame - mean.values,
            city,
            (-end / 3, end / 3),
            framed=spots,
            forecast=("forecast", frame.values),
            **tooltips,
        )
    st.caption(
        f"Vehicles per step of {span_text(city.step)}; times in {literal(city.timezone)}; gray: no value; "
        "thin frames: hot spots at any of the coming steps; one color scale for all times, by the "
        "square root of flow."
    )
    _draw_cell(observed, frame, mean)


def _draw_cell(observed: xr.DataArray, frame: xr.DataArray, mean: xr.DataArray) -> None:
    """Draws the numbers of the chosen cell."""
    if view().cell is None:
        st.caption("Click on a cell, or choose a hot spot, to see its numbers here.")
        return
    y, x = view().cell or (0, 0)

    def number(value: float) -> str:
        return f"{value:,.1f}" if np.isfinite(value) else "no value"

    texts = [f"observed {number(observed.values[y, x])}", f"forecast {number(frame.values[y, x])}"]
    if (interval := intervals_of(frame)) is not None:
        low, high = interval.sel(coverage=0.8).values[:, y, x]
        texts.append(f"80 % interval {number(low)} to {number(high)}")
    texts.append(f"typical {number(mean.values[y, x])}")
    left, right = st.columns([4, 1])
    left.markdown(f"**Row {y}, column {x}**: {literal('; '.join(texts))}")
    right.button("Open this cell", on_click=change_view, kwargs={"page": "cell"}, key="open")
