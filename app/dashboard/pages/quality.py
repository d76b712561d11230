"""How good: any past moment forecast beside observed, errors by what they depend on, and the bands."""

from dataclasses import replace

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from app.charts.web_lines import PALETTE, calibration_chart, errors_chart
from app.dashboard import cached
from app.dashboard.downloads import Subject, moment
from app.dashboard.markdown import plain
from app.dashboard.pages.now import asked, show_banners
from app.dashboard.widgets import (
    changed,
    go,
    lasting,
    lead_within,
    maker,
    show_chart,
    show_map,
    show_table,
    shown,
    view,
)
from app.text import TITLES
from data.city import City
from data.clock import Clock, local
from data.store.scores import SERVED, SUMS
from forecasting.metrics import rmse
from pipelines.insight.past_forecasts import PastForecasts

BOTH = "in- and outflow together"
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def page(city: City) -> None:
    """Draws the page."""
    if asked(city) is None:
        return
    state = cached.state(city)
    newest = cached.forecast(city, state, None)
    assert newest is not None  # as there is one that was asked for
    show_banners(cached.trust_of(city, state, None), "error")
    last = newest["init_time"].values[0]
    if view().time is None:
        lead_within(newest.sizes["lead_time"])
    _moment(city, state, last)
    scores = cached.scores(city, state, last)
    if scores.empty:
        st.info(
            "No forecast is scored yet: that is done once what was forecast has come, by "
            "`forecast step` or `forecast schedule`."
        )
        return
    st.subheader(f"Errors of the last 28 days, {BOTH}")
    at = moment(last, city)
    _forecasters(scores, at)
    _errors(city, scores, at)
    record = cached.record_of(city, state, last)
    if record is not None:
        st.subheader("The last 7 days")
        left, right = st.columns(2)
        with left:
            _by_cell(city, record, last)
        with right:
            _bands(record, at)


def _moment(city: City, state: str, last: np.datetime64) -> None:
    """Draws a past forecast beside what came."""
    made = _ripe(city, last) if view().time is None else view().time or last
    day = local(made, city.timezone)[0].date()
    first = cached.store().forecasts.first(city)
    columns = st.columns([1, 1, 1, 1.5])
    st.session_state["day"] = day
    columns[0].date_input(
        "Day",
        min_value=day if first is None else local(first, city.timezone)[0].date(),
        max_value=max(local(last, city.timezone)[0].date(), day),
        key="day",
        on_change=_day_chosen,
        args=(city, state, made),
    )
    if empty := st.session_state.pop("empty-day", None):
        st.warning(f"No forecast was made on {empty}; choose another day.")
    times = cached.init_times(city, state, np.datetime64(day, "D"))
    options = [int(one.astype(np.int64)) for one in times]
    st.session_state["moment"] = int(made.astype("datetime64[s]").astype(np.int64))
    columns[1].selectbox(
        "Forecast made at",
        options=options,
        format_func=lambda seconds: (
            f"{local(np.datetime64(seconds, 's'), city.timezone)[0]:%H:%M %Z}"
        ),
        key="moment",
        on_change=changed,
        args=("moment", "time"),
        kwargs={"of": lambda seconds: np.datetime64(int(seconds), "s")},
    )
    forecast = cached.forecast(city, state, made)
    if forecast is None:
        return
    horizon = forecast.sizes["lead_time"]
    lead = lead_within(horizon)
    st.session_state["quality-lead"] = lead
    columns[2].selectbox(
        "Steps ahead",
        options=range(1, horizon + 1),
        key="quality-lead",
        on_change=changed,
        args=("quality-lead", "lead"),
    )
    if view().time is not None:
        columns[3].button("Back to the newest", on_click=go, kwargs={"time": None})
    coming = forecast.isel(init_time=0, lead_time=lead - 1).sel(channel=view().channel)
    at = np.datetime64(coming["valid_time"].values.item(), "s")
    came = cached.frame(city, state, at).sel(channel=view().channel)
    end = cached.top(city)
    said = Subject("Forecast", view().channel, at, made=made, model=maker(forecast))
    maps = st.columns(3)
    with maps[0]:
        show_map("came", Subject("Observed", view().channel, at), came, city, (0, end))
    with maps[1]:
        show_map("said", said, coming, city, (0, end))
    with maps[2]:
        difference = coming - came.values
        show_map(
            "off",
            replace(said, kind="Forecast less observed", variable="difference"),
            difference,
            city,
            (-end / 3, end / 3),
        )
    off = difference.values
    if np.isfinite(off).any():
        st.caption(
            f"RMSE {np.sqrt(np.nanmean(np.square(off))):.2f}, mean difference {np.nanmean(off):+.2f} "
            f"vehicles per step over all cells; made at {plain(shown(made, city))} by "
            + plain(maker(forecast))
            + "."
        )


def _day_chosen(city: City, state: str, made: np.datetime64) -> None:
    """Shows the forecast of the chosen day that was made at about the same time of day."""
    chosen = st.session_state.get("day")
    if chosen is None:
        return
    times = cached.init_times(city, state, np.datetime64(chosen, "D"))
    if not len(times):
        st.session_state["empty-day"] = f"{chosen:%a %d %b %Y}"
        return
    days = (chosen - local(made, city.timezone)[0].date()).days
    go(time=_nearest(times, made + np.timedelta64(86_400 * days, "s")))


def _nearest(times: np.ndarray, time: np.datetime64) -> np.datetime64:
    """Returns the one of some times that lies nearest to a time."""
    return np.datetime64(times[np.abs(times - time).argmin()].item(), "s")


def _ripe(city: City, last: np.datetime64) -> np.datetime64:
    """Returns the newest forecast of which the first slot at the chosen lead has come."""
    back = Clock(city.step, city.timezone).after(last, -view().lead)
    made = cached.store().forecasts.newest(city, back)
    return last if made is None else back


def _rmse(scores: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Returns `rmse` and `mae`, vehicles per step, by columns."""
    sums = scores.groupby(by, sort=False)[list(SUMS)].sum()
    return pd.DataFrame(
        {
            "rmse": rmse(sums["squared"], sums["count"]),
            "mae": sums["absolute"] / sums["count"],
            "bias": sums["difference"] / sums["count"],
            "scores": scores.groupby(by, sort=False).size(),
        }
    ).reset_index()


def _forecasters(scores: pd.DataFrame, at: str) -> None:
    """Draws all forecasters in one table, the best first; `at` names files."""
    found = _rmse(scores, ["forecaster"]).sort_values("rmse")
    served = found.loc[found["forecaster"] == SERVED, "rmse"]
    best = float(served.iloc[0]) if len(served) else float("nan")
    table = pd.DataFrame(
        {
            "forecaster": [TITLES.get(one, one) for one in found["forecaster"]],
            "RMSE": found["rmse"].round(2),
            "MAE": found["mae"].round(2),
            "forecast less observed": found["bias"].round(2),
            "RMSE against what was served": [
                f"{100 * (one / best - 1):+.1f} %" for one in found["rmse"]
            ],
            "steps forecast": found["scores"],
        }
    )
    title = f"All forecasters, vehicles per step, over all leads, {BOTH}"
    show_table("forecasters", table, title, at)


def _errors(city: City, scores: pd.DataFrame, at: str) -> None:
    """Draws the errors by lead, hour of the day and weekday; `at` names files."""
    named = scores.assign(
        name=[TITLES.get(one, one) for one in scores["forecaster"]],
    )
    valid = Clock(city.step, city.timezone).time(
        scores["init_time"].to_numpy(), scores["lead"].to_numpy()
    )
    shown_at = local(valid, city.timezone)
    named = named.assign(
        hour=[f"{one:02}" for one in shown_at.hour],
        weekday=[WEEKDAYS[one] for one in shown_at.day_of_week],
        ahead=[lasting(lead * city.step) for lead in named["lead"]],
    )
    orders = {
        "ahead": [lasting(lead * city.step) for lead in sorted({*named["lead"]})],
        "hour": [f"{one:02}" for one in range(24)],
        "weekday": [*WEEKDAYS],
    }
    titles = {"ahead": "by lead", "hour": "by hour of the day", "weekday": "by weekday"}
    axes = {"ahead": "ahead", "hour": "hour of the day", "weekday": "weekday"}
    first = [TITLES[SERVED], *(name for name in TITLES.values() if name != TITLES[SERVED])]
    there = [name for name in first if name in {*named["name"]}]
    legend = " ".join(
        f'<span style="color:{color}; padding-right:1.2em; white-space:nowrap">&#9632; {name}</span>'
        for color, name in zip(PALETTE, there, strict=False)
    )
    st.html(f"<div>{legend}</div>")
    columns = st.columns(3)
    for place, (by, order) in zip(columns, orders.items(), strict=True):
        table = _rmse(named, ["name", by]).rename(columns={"name": "forecaster"})
        ranks = [{value: at for at, value in enumerate(one)} for one in (order, there)]
        keys = table[by].map(ranks[0]).to_numpy(), table["forecaster"].map(ranks[1]).to_numpy()
        table = table.iloc[np.lexsort(keys)]
        with place:
            st.markdown(f"**RMSE {titles[by]}**")
            title = f"RMSE {titles[by]}, {BOTH}"
            chart = errors_chart(table, by, axes[by], order)
            show_chart(f"by-{by}", chart, title, table, title, at)


def _by_cell(city: City, record: PastForecasts, last: np.datetime64) -> None:
    """Draws the error of each cell in the days until `last`."""
    off = (record.forecast - record.observed).sel(channel=view().channel)
    squared = np.square(off.values.astype(np.float64))
    known = np.isfinite(squared)
    count = known.sum(axis=(0, 1))
    sums = np.where(known, squared, 0).sum(axis=(0, 1))
    with np.errstate(invalid="ignore"):
        rmse = np.sqrt(sums / np.where(count > 0, count, np.nan))
    frame = xr.DataArray(rmse, dims=("y", "x"), coords={"channel": view().channel})
    end = float(np.nanquantile(rmse, 0.99)) if np.isfinite(rmse).any() else 1.0
    subject = Subject("RMSE by cell until", view().channel, last, variable="rmse")
    show_map("by-cell", subject, frame, city, (0, end or 1.0))
    st.caption(f"Of {view().channel} alone, over all leads.")


def _bands(record: PastForecasts, at: str) -> None:
    """Draws whether bands kept their word; `at` names files."""
    st.markdown("**What the bands held**")
    held = record.coverage
    if not np.isfinite(held.values).any():
        st.info("There were no bands in these days: a baseline served, or nothing has come yet.")
        return
    table = pd.DataFrame(
        [
            {"lead": lasting(ahead), "promised": promise, "held": float(held.values[row, column])}
            for row, promise in enumerate(held["coverage"].values)
            for column, ahead in enumerate(held["lead_time"].values)
        ]
    )
    title = "What bands held"
    show_chart("bands", calibration_chart(table), "Shares that bands held", table, title, at)
    st.caption(
        "Above the line bands are too wide, below it too narrow; over all cells and both channels."
    )
