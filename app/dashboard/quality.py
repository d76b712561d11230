"""How good: any past moment forecast beside observed, errors by what they depend on, and the bands."""

import numpy as np
import pandas as pd
import streamlit as st

from app.charts import PALETTE, calibration_chart, errors_chart
from app.dashboard import reading
from app.dashboard.now import no_forecast, show_banners
from app.dashboard.parts import changed, go, plain, show_chart, show_map, show_table, shown, view
from app.text import PLAIN
from data.city import City
from data.clock import Clock, local
from data.scores import SERVED, SUMS
from pipelines.record import Record

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def page(city: City) -> None:
    """Draws the page."""
    state = reading.state(city)
    newest = reading.forecast(city, state, None)
    if newest is None:
        no_forecast(city)
        return
    show_banners(reading.trust_of(city, state, None), "error")
    last = newest["init_time"].values[0]
    _moment(city, state, last)
    scores = reading.scores(city, state, last)
    if scores.empty:
        st.info(
            "No forecast is scored yet: that is done once what was forecast has come, by "
            "`forecast step` or `forecast schedule`."
        )
        return
    st.subheader("Errors of the last 28 days")
    _forecasters(scores)
    _errors(city, scores)
    record = reading.record_of(city, state, last)
    if record is not None:
        st.subheader("The last 7 days")
        left, right = st.columns(2)
        with left:
            _by_cell(city, record)
        with right:
            _bands(record)


def _moment(city: City, state: str, last: np.datetime64) -> None:
    """Draws a past forecast beside what came."""
    asked = view().time
    made = _ripe(city, last) if asked is None else asked
    day = local(made, city.timezone)[0].date()
    span = reading.store().span(city)
    first = span[0] if span else made
    columns = st.columns([1, 1, 1, 1.5])
    st.session_state["day"] = day
    columns[0].date_input(
        "Day",
        min_value=min(local(first, city.timezone)[0].date(), day),
        max_value=max(local(last, city.timezone)[0].date(), day),
        key="day",
        on_change=_day_chosen,
        args=(city, state, made),
    )
    if empty := st.session_state.pop("empty-day", None):
        st.warning(f"No forecast was made on {empty}; choose another day.")
    times = reading.init_times(city, state, np.datetime64(day, "D"))
    if not len(times):
        st.warning(f"No forecast was made on {day:%a %d %b %Y}; choose another day.")
        return
    if made not in times:
        st.info("No forecast was made at that time; this is the nearest of its day.")
        made = _nearest(times, made)
        go(time=made)
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
    forecast = reading.forecast(city, state, made)
    if forecast is None:
        return
    horizon = forecast.sizes["lead_time"]
    lead = min(view().lead, horizon)
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
    came = reading.frame(city, state, at).sel(channel=view().channel)
    end = reading.top(city)
    maps = st.columns(3)
    with maps[0]:
        show_map("came", f"Observed {shown(at, city)}", came, city, (0, end))
    with maps[1]:
        show_map("said", f"Forecast for {shown(at, city)}", coming, city, (0, end))
    with maps[2]:
        difference = coming - came.values
        show_map(
            "off",
            f"Forecast less observed {shown(at, city)}",
            difference,
            city,
            (-end / 3, end / 3),
        )
    off = difference.values
    if np.isfinite(off).any():
        st.caption(
            f"RMSE {np.sqrt(np.nanmean(np.square(off))):.2f}, mean difference {np.nanmean(off):+.2f} "
            f"vehicles per step over all cells; made at {plain(shown(made, city))} by "
            + plain(f"{forecast.attrs['forecaster']} {forecast.attrs['model_version']}".strip())
            + "."
        )


def _day_chosen(city: City, state: str, made: np.datetime64) -> None:
    """Shows the forecast of the chosen day that was made at about the same time of day."""
    chosen = st.session_state.get("day")
    if chosen is None:
        return
    times = reading.init_times(city, state, np.datetime64(chosen, "D"))
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
    made = reading.store().forecast(city, back)
    return last if made is None else back


def _rmse(scores: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Returns `rmse` and `mae`, vehicles per step, by columns."""
    sums = scores.groupby(by, sort=False)[list(SUMS)].sum()
    return pd.DataFrame(
        {
            "rmse": np.sqrt(sums["squared"] / sums["count"]),
            "mae": sums["absolute"] / sums["count"],
            "bias": sums["difference"] / sums["count"],
            "scores": scores.groupby(by, sort=False).size(),
        }
    ).reset_index()


def _forecasters(scores: pd.DataFrame) -> None:
    """Draws all forecasters in one table, the best first."""
    found = _rmse(scores, ["forecaster"]).sort_values("rmse")
    served = found.loc[found["forecaster"] == SERVED, "rmse"]
    best = float(served.iloc[0]) if len(served) else float("nan")
    table = pd.DataFrame(
        {
            "forecaster": [PLAIN.get(one, one) for one in found["forecaster"]],
            "RMSE": found["rmse"].round(2),
            "MAE": found["mae"].round(2),
            "mean difference": found["bias"].round(2),
            "RMSE against what was served": [f"{one / best - 1:+.1%}" for one in found["rmse"]],
            "scores": found["scores"],
        }
    )
    show_table("forecasters", table, "All forecasters, vehicles per step, over all leads")


def _errors(city: City, scores: pd.DataFrame) -> None:
    """Draws the errors by lead, hour of the day and weekday."""
    step = int(city.step / np.timedelta64(1, "m"))
    named = scores.assign(
        name=[PLAIN.get(one, one) for one in scores["forecaster"]],
        minutes=scores["lead"] * step,
    )
    valid = Clock(city.step, city.timezone).time(
        scores["init_time"].to_numpy(), scores["lead"].to_numpy()
    )
    shown_at = local(valid, city.timezone)
    named = named.assign(
        hour=[f"{one:02}" for one in shown_at.hour],
        weekday=[WEEKDAYS[one] for one in shown_at.day_of_week],
        ahead=[f"{one} min" for one in named["minutes"]],
    )
    orders = {
        "ahead": [f"{one} min" for one in sorted({*named["minutes"]})],
        "hour": [f"{one:02}" for one in range(24)],
        "weekday": [*WEEKDAYS],
    }
    titles = {"ahead": "by lead", "hour": "by hour of the day", "weekday": "by weekday"}
    axes = {"ahead": "ahead", "hour": "hour of the day", "weekday": "weekday"}
    first = [PLAIN[SERVED], *(name for name in PLAIN.values() if name != PLAIN[SERVED])]
    there = [name for name in first if name in {*named["name"]}]
    legend = " ".join(
        f'<span style="color:{colour}; padding-right:1.2em; white-space:nowrap">&#9632; {name}</span>'
        for colour, name in zip(PALETTE, there, strict=False)
    )
    st.html(f"<div>{legend}</div>")
    columns = st.columns(3)
    for place, (by, order) in zip(columns, orders.items(), strict=True):
        table = _rmse(named, ["name", by]).rename(columns={"name": "forecaster"})
        ranks = [{value: at for at, value in enumerate(one)} for one in (order, there)]
        keys = table[by].map(ranks[0]).to_numpy(), table["forecaster"].map(ranks[1]).to_numpy()
        table = table.iloc[np.lexsort(keys)]
        with place:
            title = f"RMSE {titles[by]}"
            st.markdown(f"**{title}**")
            show_chart(f"by-{by}", errors_chart(table, by, axes[by], order), title, table, title)


def _by_cell(city: City, record: Record) -> None:
    """Draws the error of each cell."""
    off = (record.forecast - record.observed).sel(channel=view().channel)
    squared = np.square(off.values.astype(np.float64))
    known = np.isfinite(squared)
    count = known.sum(axis=(0, 1))
    sums = np.where(known, squared, 0).sum(axis=(0, 1))
    with np.errstate(invalid="ignore"):
        rmse = np.sqrt(sums / np.where(count > 0, count, np.nan))
    frame = off[0, 0].copy(data=rmse)
    end = float(np.nanquantile(rmse, 0.99)) if np.isfinite(rmse).any() else 1.0
    show_map("by-cell", f"RMSE by cell, {view().channel}, all leads", frame, city, (0, end or 1.0))


def _bands(record: Record) -> None:
    """Draws whether bands kept their word."""
    st.markdown("**What the bands held**")
    held = record.held
    if not np.isfinite(held.values).any():
        st.info("There were no bands in these days: a baseline served, or nothing has come yet.")
        return
    minutes = held["lead_time"].values.astype("timedelta64[m]").astype(int)
    table = pd.DataFrame(
        [
            {"lead": f"{ahead} min", "promised": promise, "held": float(held.values[row, column])}
            for row, promise in enumerate(held["coverage"].values)
            for column, ahead in enumerate(minutes)
        ]
    )
    show_chart(
        "bands", calibration_chart(table), "Shares that bands held", table, "What bands held"
    )
    st.caption(
        "Above the line bands are too wide, below it too narrow; over all cells and both channels."
    )
