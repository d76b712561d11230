"""Accuracy: any past forecast against observed flow, errors by what they depend on, and coverage."""

from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from app.charts.web_lines import PALETTE, WEEKDAYS, calibration_chart, errors_chart
from app.dashboard import cached
from app.dashboard.banners import chosen_forecast, show_banners
from app.dashboard.downloads import Subject, zoned
from app.dashboard.markdown import literal
from app.dashboard.widgets import (
    apply_widget,
    bounded_lead,
    change_view,
    model_text,
    show_chart,
    show_map,
    show_table,
    span_text,
    time_text,
    view,
)
from app.text import TITLES
from data.city import City
from data.clock import Clock, local
from data.store.scores import SERVED, SUMS
from forecasting.metrics import rmse
from pipelines.insight.past_forecasts import PastForecasts

BOTH = "in- and outflow together"


def draw(city: City) -> None:
    """Draws the page."""
    if chosen_forecast(city) is None:
        return
    state = cached.state(city)
    newest = cached.forecast(city, state, None)
    assert newest is not None  # as there is a chosen one
    show_banners(cached.trust_of(city, state, None), "error")
    last = newest["init_time"].values[0]
    if view().time is None:
        bounded_lead(newest.sizes["lead_time"])
    _draw_forecast(city, state, last)
    scores = cached.scores(city, state, last)
    if scores.empty:
        st.info(
            "No forecast is scored yet; `forecast update` and `forecast schedule` score forecasts once "
            "their slots are observed."
        )
        return
    st.subheader(f"Errors of the last 28 days, {BOTH}")
    at = zoned(last, city)
    _draw_forecasters(scores, at)
    _draw_errors(city, scores, at)
    past = cached.past_forecasts_of(city, state, last)
    if past is not None:
        st.subheader("The last 7 days")
        left, right = st.columns(2)
        with left:
            _draw_cells(city, past, last)
        with right:
            _draw_coverage(past, at)


def _draw_forecast(city: City, state: str, last: np.datetime64) -> None:
    """Draws a past forecast against the observed flow."""
    if (made := view().time) is None:
        made = _newest_observed(city, last)
    forecast = _draw_choice(city, state, made, last)
    if forecast is None:
        return
    frame = forecast.isel(init_time=0, lead_time=view().lead - 1).sel(channel=view().channel)
    at = np.datetime64(frame["valid_time"].values.item(), "s")
    observed = cached.frame(city, state, at).sel(channel=view().channel)
    difference = frame - observed.values
    end = cached.top(city)
    subject = Subject("Forecast", view().channel, at, init_time=made, model=model_text(forecast))
    error = replace(subject, quantity="Forecast minus observed", variable="difference")
    maps = st.columns(3)
    with maps[0]:
        show_map("came", Subject("Observed", view().channel, at), observed, city, (0, end))
    with maps[1]:
        show_map("said", subject, frame, city, (0, end))
    with maps[2]:
        show_map("off", error, difference, city, (-end / 3, end / 3))
    if np.isfinite(difference.values).any():
        st.caption(
            f"RMSE {np.sqrt(np.nanmean(np.square(difference.values))):.2f}, mean difference "
            f"{np.nanmean(difference.values):+.2f} vehicles per step over all cells; made at "
            f"{literal(time_text(made, city))} by {literal(model_text(forecast))}."
        )


def _draw_choice(
    city: City, state: str, made: np.datetime64, last: np.datetime64
) -> xr.DataArray | None:
    """Draws the choice of day, forecast and lead, and returns the forecast."""
    day = local(made, city.timezone)[0].date()
    first = cached.store().forecasts.first(city)
    columns = st.columns([1, 1, 1, 1.5])
    st.session_state["day"] = day
    columns[0].date_input(
        "Day",
        min_value=day if first is None else local(first, city.timezone)[0].date(),
        max_value=max(local(last, city.timezone)[0].date(), day),
        key="day",
        on_change=_apply_day,
        args=(city, state, made),
    )
    if empty := st.session_state.pop("empty-day", None):
        st.warning(f"No forecast was made on {empty}; choose another day.")
    st.session_state["moment"] = int(made.astype("datetime64[s]").astype(np.int64))
    columns[1].selectbox(
        "Forecast made at",
        options=cached.init_times(city, state, np.datetime64(day, "D")).astype(np.int64).tolist(),
        format_func=lambda seconds: (
            f"{local(np.datetime64(seconds, 's'), city.timezone)[0]:%H:%M %Z}"
        ),
        key="moment",
        on_change=apply_widget,
        args=("moment", "time"),
        kwargs={"of": lambda seconds: np.datetime64(int(seconds), "s")},
    )
    forecast = cached.forecast(city, state, made)
    if forecast is None:
        return None
    horizon = forecast.sizes["lead_time"]
    st.session_state["quality-lead"] = bounded_lead(horizon)
    columns[2].selectbox(
        "Steps ahead",
        options=range(1, horizon + 1),
        key="quality-lead",
        on_change=apply_widget,
        args=("quality-lead", "lead"),
    )
    if view().time is not None:
        columns[3].button("Back to the newest", on_click=change_view, kwargs={"time": None})
    return forecast


def _apply_day(city: City, state: str, made: np.datetime64) -> None:
    """Shows the forecast of the chosen day that was made nearest to the same time of day."""
    chosen = st.session_state.get("day")
    if chosen is None:
        return
    times = cached.init_times(city, state, np.datetime64(chosen, "D"))
    if not len(times):
        st.session_state["empty-day"] = f"{chosen:%a %d %b %Y}"
        return
    days = (chosen - local(made, city.timezone)[0].date()).days
    wanted = made + np.timedelta64(86_400 * days, "s")
    change_view(time=np.datetime64(times[np.abs(times - wanted).argmin()].item(), "s"))


def _newest_observed(city: City, last: np.datetime64) -> np.datetime64:
    """Returns the newest forecast whose slot at the lead of the view is observed."""
    back = Clock(city.step, city.timezone).after(last, -view().lead)
    return last if cached.store().forecasts.newest(city, back) is None else back


def _errors(scores: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Returns `rmse`, `mae` and `bias`, vehicles per step, and the number of `scores`, by columns."""
    groups = scores.groupby(by, sort=False)
    sums = groups[list(SUMS)].sum()
    return pd.DataFrame(
        {
            "rmse": rmse(sums["squared"], sums["count"]),
            "mae": sums["absolute"] / sums["count"],
            "bias": sums["difference"] / sums["count"],
            "scores": groups.size(),
        }
    ).reset_index()


def _draw_forecasters(scores: pd.DataFrame, at: str) -> None:
    """Draws a table of all forecasters, the best first; `at` names the files."""
    found = _errors(scores, ["forecaster"]).sort_values("rmse")
    served = found.loc[found["forecaster"] == SERVED, "rmse"]
    reference = float(served.iloc[0]) if len(served) else float("nan")
    table = pd.DataFrame(
        {
            "forecaster": [TITLES.get(one, one) for one in found["forecaster"]],
            "RMSE": found["rmse"].round(2),
            "MAE": found["mae"].round(2),
            "bias": found["bias"].round(2),
            "RMSE relative to served": [
                f"{100 * (one / reference - 1):+.1f} %" for one in found["rmse"]
            ],
            "steps forecast": found["scores"],
        }
    )
    show_table(
        "forecasters", table, f"All forecasters, vehicles per step, over all leads, {BOTH}", at
    )


def _draw_errors(city: City, scores: pd.DataFrame, at: str) -> None:
    """Draws the errors by lead, hour of the day and weekday; `at` names the files."""
    clock = Clock(city.step, city.timezone)
    times = clock.time(scores["init_time"].to_numpy(), scores["lead"].to_numpy())
    valid = local(times, city.timezone)
    table = scores.assign(
        forecaster=[TITLES.get(one, one) for one in scores["forecaster"]],
        ahead=[span_text(lead * city.step) for lead in scores["lead"]],
        hour=[f"{one:02}" for one in valid.hour],
        weekday=[WEEKDAYS[one] for one in valid.day_of_week],
    )
    present = {*table["forecaster"]}
    every = dict.fromkeys((TITLES[SERVED], *TITLES.values(), *sorted(present)))
    names = [name for name in every if name in present]
    legend = " ".join(
        f'<span style="color:{color}; padding-right:1.2em; white-space:nowrap">&#9632; {name}</span>'
        for color, name in zip(PALETTE, names, strict=False)
    )
    st.html(f"<div>{legend}</div>")
    leads = [span_text(lead * city.step) for lead in sorted({*scores["lead"]})]
    charts = {
        "ahead": ("lead", "ahead", leads),
        "hour": ("hour of the day", "hour of the day", [f"{one:02}" for one in range(24)]),
        "weekday": ("weekday", "weekday", [*WEEKDAYS]),
    }
    for place, (by, (what, axis, order)) in zip(st.columns(3), charts.items(), strict=True):
        rows = _errors(table, ["forecaster", by])
        keys = [rows[by].map(order.index), rows["forecaster"].map(names.index)]
        rows = rows.iloc[np.lexsort([key.to_numpy() for key in keys])]
        with place:
            st.markdown(f"**RMSE by {what}**")
            title = f"RMSE by {what}, {BOTH}"
            show_chart(f"by-{by}", errors_chart(rows, by, axis, order), title, rows, title, at)


def _draw_cells(city: City, past: PastForecasts, last: np.datetime64) -> None:
    """Draws the RMSE of each cell over the days until `last`."""
    error = (past.forecast - past.observed).sel(channel=view().channel)
    squared = error.astype(np.float64) ** 2
    rmse = (squared.mean(["init_time", "lead_time"]) ** 0.5).drop_attrs()
    known = rmse.values[np.isfinite(rmse.values)]
    end = float(np.quantile(known, 0.99)) if len(known) else 1.0
    subject = Subject("RMSE by cell until", view().channel, last, variable="rmse")
    show_map("by-cell", subject, rmse, city, (0, end or 1.0))
    st.caption(f"Of {view().channel}, over all leads.")


def _draw_coverage(past: PastForecasts, at: str) -> None:
    """Draws measured against nominal coverage; `at` names the files."""
    title = "Coverage of the prediction intervals"
    st.markdown(f"**{title}**")
    coverage = past.coverage
    if not np.isfinite(coverage.values).any():
        st.info(
            "No prediction interval of these days is observed: a baseline stood in, or it is too early."
        )
        return
    table = pd.DataFrame(
        [
            {"lead": span_text(ahead), "nominal": nominal, "coverage": float(measured)}
            for nominal, row in zip(coverage["coverage"].values, coverage.values, strict=True)
            for ahead, measured in zip(coverage["lead_time"].values, row, strict=True)
        ]
    )
    show_chart("bands", calibration_chart(table), title, table, title, at)
    st.caption(
        "Above the line intervals are too wide, below it too narrow; over all cells and both channels."
    )
