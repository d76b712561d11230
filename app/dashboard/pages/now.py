"""Now and next: what needs attention, how far to trust it, and the maps that explain it."""

import time
import zlib
from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from app.dashboard import cached
from app.dashboard.downloads import Subject, moment
from app.dashboard.markdown import plain
from app.dashboard.widgets import (
    changed,
    choices,
    go,
    lasting,
    lead_within,
    maker,
    show_map,
    show_table,
    shown,
    view,
)
from app.text import TITLES
from data.city import City
from data.clock import duration, local, stamp
from data.intervals import intervals_of
from pipelines.insight.trust import Trust

PAUSE = 1.0
"""Seconds that each interval stands in playback."""


def page(city: City) -> None:
    """Draws the page."""
    if (found := asked(city)) is None:
        return
    state, forecast = found
    made = forecast["init_time"].values[0]
    horizon = forecast.sizes["lead_time"]
    _trust_strip(city, state, forecast)
    _step_playback(horizon)
    lead = lead_within(horizon)
    usual = cached.usual_of(city, state, made, horizon)
    spots, controls = st.columns([3.4, 1])
    with controls:
        _controls(city, forecast, lead)
    with spots:
        hot = _spots(city, state, made, usual)
    _maps(city, state, forecast, usual, lead, hot)


def asked(city: City) -> tuple[str, xr.DataArray] | None:
    """Returns the state of the city and the forecast that is asked for; says so where there is none."""
    state = cached.state(city)
    forecast = cached.forecast(city, state, view().time)
    if forecast is None:
        no_forecast(city)
        return None
    return state, forecast


def leave_unknown_time(city: City) -> None:
    """Goes to the newest forecast where none was made at the time that is asked for, and says so."""
    state, at = cached.state(city), view().time
    if at is None or cached.forecast(city, state, at) is not None:
        return
    rest = "" if cached.forecast(city, state, None) is None else "; the newest is shown"
    told = stamp(at, city.timezone)
    st.warning(f"No forecast is stored that was made at {plain(told)}{rest}.")
    go(time=None)


def no_forecast(city: City) -> None:
    """Says that there is no forecast, and what helps."""
    if cached.store().flow.span(city) is None:
        st.info(f"{plain(city.title)} has no flow yet. To take in files:")
        st.code(f"forecast ingest --city {city.name} PATH", language=None)
        return
    st.info(f"{plain(city.title)} has flow, but no forecast yet. To make one, and to keep it so:")
    st.code(f"forecast --city {city.name} --horizon 4\nforecast schedule", language=None)


def _trust_strip(city: City, state: str, forecast: xr.DataArray) -> None:
    """Draws what there is to know of the forecast before it is looked at."""
    if view().time is not None:
        kept(city, state, forecast)
    found = cached.trust_of(city, state, view().time)
    show_banners(found)
    places = st.columns([1.1, 1, 1.4, 1.7, 1.5])
    for place, (title, lines) in zip(places, _told(city, found).items(), strict=True):
        place.markdown(f"**{title}**  \n" + "  \n".join(plain(line) for line in lines if line))


def kept(city: City, state: str, forecast: xr.DataArray) -> None:
    """Says that a forecast was kept, whether there are newer ones, and leads back to them."""
    made = forecast["init_time"].values[0]
    newest = cached.forecast(city, state, None)
    is_newest = newest is not None and newest["init_time"].values[0] == made
    rest = "still the newest; it stays when a newer one comes" if is_newest else "not the newest"
    left, right = st.columns([4, 1])
    left.info(f"This is the forecast made at {plain(shown(made, city))}, {rest}.")
    right.button("Back to the newest", on_click=go, kwargs={"time": None})


def show_banners(found: Trust, *levels: str) -> None:
    """Draws what must be seen: of these levels, or all."""
    for banner in found.banners:
        if not levels or banner.level in levels:
            draw = {"error": st.error, "warning": st.warning, "info": st.info}[banner.level]
            draw(plain(banner.text))


def _told(city: City, found: Trust) -> dict[str, list[str]]:
    """Returns what the strip says, by title."""
    if found.version:
        known = local(found.trained_until, city.timezone)[0]
        age = float((found.newest - found.trained_until) / np.timedelta64(1, "s"))
        model = [
            found.version,
            f"{found.forecaster}, knows the flow until {known:%a %d %b %Y}, {duration(max(age, 0))} ago",
        ]
    else:
        model = ["no model", f"the {found.forecaster} serves"]
    missing = "none missing" if not found.missing else f"{found.missing} missing"
    newest = "day" if found.day == 1 else f"{found.day} slots"
    return {
        "Newest slot": [
            f"{shown(found.newest, city)}",
            f"over for {duration(found.age)}" if found.age >= 60 else "just over",
        ],
        "Input": [missing, f"of the newest {newest}"],
        "Model": model,
        "Skill, last 7 days": _skill(found),
        "Drift": [found.drift or "nothing unusual"],
    }


def _skill(found: Trust) -> list[str]:
    """Returns how good forecasts were, in plain words."""
    if found.skill is None:
        return ["not known yet", "too few forecasts are scored"]
    gain, other = found.skill.gain, TITLES[found.skill.baseline]
    if abs(gain) < 0.005:
        words = f"as good as {other}"
    else:
        words = f"{100 * abs(gain):.0f} % {'better' if gain > 0 else 'worse'} than {other}"
    return [
        words,
        f"RMSE {found.skill.rmse:.1f} against {found.skill.best:.1f} vehicles per step, in- and outflow "
        "together",
    ]


def _step_playback(horizon: int) -> None:
    """Moves to the next interval while the playback runs, and ends it at the last."""
    playing = st.session_state.get("playing", False)
    since = st.session_state.get("played", 0.0)
    if not playing or time.monotonic() - since < 0.7 * PAUSE:
        return
    st.session_state["played"] = time.monotonic()
    if view().lead >= horizon:
        st.session_state["playing"] = False
        st.rerun(scope="app")
    go(lead=view().lead + 1)


def _controls(city: City, forecast: xr.DataArray, lead: int) -> None:
    """Draws the horizon, the playback and the threshold."""
    times = forecast["valid_time"].values[0]
    horizon = len(times)
    if horizon > 1:
        st.session_state["lead"] = lead
        names = _leads(forecast, city)
        st.select_slider(
            "Horizon",
            options=range(1, horizon + 1),
            format_func=lambda step: names[step - 1],
            key="lead",
            on_change=changed,
            args=("lead", "lead"),
        )
        playing = st.session_state.get("playing", False)
        if st.button(
            "Stop" if playing else "Play",
            icon=":material/stop:" if playing else ":material/play_arrow:",
            key="play",
            help="Shows the coming intervals one after another.",
        ):
            _play(not playing)
            st.rerun(scope="app")  # which draws the page anew as often as playback asks
    if view().time is None:
        st.button(
            "Keep this moment",
            icon=":material/keep:",
            on_click=go,
            kwargs={"time": forecast["init_time"].values[0]},
            help="The page and its link stay at this forecast; without it they move on to each newer one.",
        )
    st.session_state["threshold"] = view().threshold
    st.number_input(
        "Threshold, vehicles per step (0: none)",
        min_value=0.0,
        max_value=1e6,
        step=10.0,
        format="%.6g",
        key="threshold",
        on_change=changed,
        args=("threshold", "threshold"),
        help="Cells whose forecast is above it are hot spots, however usual that is.",
    )


def _play(playing: bool) -> None:
    st.session_state["playing"] = playing
    if playing:
        go(lead=1)
        st.session_state["played"] = time.monotonic()


def _leads(forecast: xr.DataArray, city: City) -> list[str]:
    """Returns what the steps ahead are called."""
    times = local(forecast["valid_time"].values[0], city.timezone)
    return [
        f"{at:%a %H:%M}, {lasting(ahead)} ahead"
        for at, ahead in zip(times, forecast["lead_time"].values, strict=True)
    ]


def _spots(city: City, state: str, made: np.datetime64, usual: xr.Dataset) -> pd.DataFrame:
    """Draws the hot spots, of which choosing one marks its cell, and returns them."""
    spots = cached.hot_spots_of(city, state, view().time, view().channel, view().threshold)
    if spots.empty:
        st.markdown("**Hot spots**")
        _calm(usual, cached.trust_of(city, state, view().time))
        return spots
    sure = spots["lower"] > spots["limit"]
    title = f"Hot spots of {view().channel}: {len(spots)}"
    if sure.any():
        title += f", {int(sure.sum())} of them sure: their whole band is above the limit"
    table = pd.DataFrame(
        {
            "row": spots["y"],
            "column": spots["x"],
            "time": [
                f"{at:%a %H:%M}" for at in local(spots["valid_time"].to_numpy(), city.timezone)
            ],
            "forecast": spots["flow"].round(1),
            "80 % between": [
                "" if np.isnan(low) else f"{low:.0f} and {high:.0f}"
                for low, high in zip(spots["lower"], spots["upper"], strict=True)
            ],
            "sure": ["yes" if one else "" for one in sure],
            "usual": spots["usual"].round(1),
            "why": spots["reason"],
        }
    )
    event = show_table(
        _list_key(spots, made),
        table,
        title,
        moment(made, city),
        on_select="rerun",
        selection_mode="single-row",
        height=215,
    )
    chosen = event.get("selection", {}).get("rows", [])
    if not chosen or chosen[0] >= len(table):
        return spots
    row = spots.iloc[chosen[0]]
    cell = int(row["y"]), int(row["x"])
    if cell != view().cell:
        go(cell=cell, lead=int(row["lead"]))
        st.session_state["spotted"] = st.session_state.get("spotted", 0) + 1
        st.rerun(scope="fragment")
    return spots


def _list_key(spots: pd.DataFrame, made: np.datetime64) -> str:
    """Returns the key of the list, by which a browser keeps what is marked in it and where it is scrolled.

    It is another one where the list is, or where the cell was chosen elsewhere.
    """
    elsewhere = choices() - int(st.session_state.get("spotted", 0))
    rows = zlib.crc32(spots[["y", "x", "lead"]].to_numpy().tobytes())
    parts = (view().city, made, view().channel, f"{view().threshold:g}", rows, elsewhere)
    return "-".join(["spots", *(str(part) for part in parts)])


def _calm(usual: xr.Dataset, found: Trust) -> None:
    """Says that there is no hot spot, and how little that may mean."""
    none = "None: no cell passes what 95 % of this weekday's slots stayed below, or a threshold."
    if not np.isfinite(usual["high"].values).any():
        st.info(
            "What is usual is not known yet, which takes four weeks of flow; no cell passes a threshold."
        )
    elif any(banner.level == "error" for banner in found.banners):
        st.info(f"{none} But forecasts cannot be relied on now, as is said above.")
    elif not found.version:
        rest = " To see the busiest cells all the same, set one." if not view().threshold else ""
        st.info(
            "None, but a baseline stands in, which knows only what is usual: it cannot tell hot spots "
            f"beyond a threshold.{rest}"
        )
    else:
        st.success(none)


def _maps(
    city: City,
    state: str,
    forecast: xr.DataArray,
    usual: xr.Dataset,
    lead: int,
    spots: pd.DataFrame,
) -> None:
    """Draws what was observed, what is forecast, with the hot spots, and how far that is from usual."""
    channel = view().channel
    made = forecast["init_time"].values[0]
    observed = cached.frame(city, state, made).sel(channel=channel)
    coming = forecast.isel(init_time=0, lead_time=lead - 1).sel(channel=channel)
    mean = usual["mean"].isel(time=lead - 1).sel(channel=channel)
    end = cached.top(city)
    around = intervals_of(coming)
    more = {"usual": ("usual", mean.values)}
    if around is not None:
        for edge, word in (("lower", "80 % band from"), ("upper", "to")):
            more[edge] = (word, around.sel(coverage=0.8, edge=edge).values)
    at = np.datetime64(coming["valid_time"].values.item(), "s")
    said = Subject("Forecast", channel, at, made=made, model=maker(forecast))
    columns = st.columns(3)
    with columns[0]:
        show_map("observed", Subject("Observed", channel, made), observed, city, (0, end))
    with columns[1]:
        show_map("forecast", said, coming, city, (0, end), framed=spots, **more)
    with columns[2]:
        show_map(
            "unusual",
            replace(said, kind="Forecast less usual", variable="difference"),
            coming - mean.values,
            city,
            (-end / 3, end / 3),
            framed=spots,
            forecast=("forecast", coming.values),
            **more,
        )
    st.caption(
        f"Vehicles per step of {lasting(city.step)}; times in "
        f"{plain(city.timezone)}; gray: no value; thin frames: hot spots at any of the coming steps; one "
        "scale of colors for all times, taken of the history, by the root of flow."
    )
    _cell(city, observed, coming, mean)


def _cell(city: City, observed: xr.DataArray, coming: xr.DataArray, mean: xr.DataArray) -> None:
    """Tells of the chosen cell."""
    if view().cell is None:
        st.caption("Click on a cell, or choose a hot spot, to see its figures here.")
        return
    y, x = view().cell or (0, 0)
    around = intervals_of(coming)
    told = [
        f"observed {_figure(observed.values[y, x])}",
        f"forecast {_figure(coming.values[y, x])}",
        f"usual {_figure(mean.values[y, x])}",
    ]
    if around is not None:
        low, high = around.sel(coverage=0.8).values[:, y, x]
        told.insert(2, f"80 % of what comes lies between {_figure(low)} and {_figure(high)}")
    left, right = st.columns([4, 1])
    left.markdown(f"**Row {y}, column {x}**: {plain('; '.join(told))}")
    right.button("Open this cell", on_click=go, kwargs={"page": "cell"}, key="open")


def _figure(value: float) -> str:
    return f"{value:,.1f}" if np.isfinite(value) else "no value"
