"""City and data: which flow is stored, where it has gaps, and what ingest repaired or refused."""

import numpy as np
import pandas as pd
import streamlit as st

from app.charts.web_lines import WEEKDAYS, calendar_chart, clock_milliseconds, totals_chart
from app.dashboard import cached
from app.dashboard.banners import show_no_forecast
from app.dashboard.markdown import literal
from app.dashboard.widgets import show_chart, show_table, span_text
from data.city import City
from data.clock import stamp
from data.paths import home

MAX_FILES = 200
MAX_GAPS = 50


def draw(city: City) -> None:
    """Draws the page."""
    days = cached.slots_by_day(city, cached.state(city))
    _draw_facts(city)
    if days.empty:
        show_no_forecast(city)
    else:
        _draw_calendar(city, days)
        _draw_gaps(city)
        _draw_totals(city, days)
    show_ingests(city)


def _draw_facts(city: City) -> None:
    """Draws the grid, step and time zone of the city, and from when to when it has flow."""
    span = cached.store().flow.span(city)
    rows, columns = city.grid
    every = "day" if city.slots_per_day == 1 else span_text(city.step)
    facts = [
        f"{rows} rows and {columns} columns, row 0 in the {city.row0}",
        f"one slot every {every}, times in {city.timezone}",
    ]
    if span is not None:
        first, last = (stamp(one, city.timezone) for one in span)
        facts.append(f"flow from {first} to {last}")
    st.markdown(f"**{literal(city.title)}** ({literal(city.name)}): {literal('; '.join(facts))}")
    _, wrong = cached.overlay(city)
    if wrong:
        st.warning(literal(wrong))


def _draw_calendar(city: City, days: pd.DataFrame) -> None:
    """Draws the share of each day's slots that are stored."""
    monday = days["day"] - pd.to_timedelta(days["day"].dt.day_of_week, unit="D")
    table = pd.DataFrame(
        {
            "day": days["day"].dt.strftime("%Y-%m-%d"),
            "week": monday.dt.strftime("%Y-%m-%d"),
            "weekday": [WEEKDAYS[one] for one in days["day"].dt.day_of_week],
            "slots": days["slots"],
            "share": (days["slots"] / _slots_of(days["day"], city)).clip(upper=1.0),
        }
    )
    missing = sum(gap.slots for gap in cached.gaps_of(city, cached.state(city)))
    words = "1 slot is" if missing == 1 else f"{missing:,} slots are"
    st.subheader("Stored slots")
    st.caption(
        f"{words} missing between the first and the newest one; the first and the newest day may be "
        "incomplete."
    )
    show_chart("calendar", calendar_chart(table), "Share of slots by day", table, "Slots by day")


def _slots_of(days: pd.Series, city: City) -> np.ndarray:
    """Returns how many slots each day has; fewer or more when clocks change."""
    if city.step > np.timedelta64(3600, "s"):
        return np.full(len(days), city.slots_per_day)
    begin, end = (
        one.dt.tz_localize(city.timezone, nonexistent="shift_forward", ambiguous=True)
        for one in (days, days + pd.Timedelta(days=1))
    )
    return np.asarray((end - begin) / pd.Timedelta(city.step)).round()


def _draw_gaps(city: City) -> None:
    """Draws a table of the missing slots, which are too small to be seen in the calendar."""
    found = cached.gaps_of(city, cached.state(city))
    if not found:
        return
    newest = found[::-1][:MAX_GAPS]
    table = pd.DataFrame(
        {
            "from": [stamp(one.first, city.timezone) for one in newest],
            "to": [stamp(one.last, city.timezone) for one in newest],
            "slots": [one.slots for one in newest],
        }
    )
    title = "Missing slots: " + ("1 gap" if len(found) == 1 else f"{len(found):,} gaps")
    if len(found) > len(newest):
        title += f", the newest {len(newest)}"
    show_table("gaps", table, title)


def _draw_totals(city: City, days: pd.DataFrame) -> None:
    """Draws the city's mean flow by day."""
    ingests = cached.store().ingests.table(city)
    newest = str(int(ingests["id"].max())) if len(ingests) else ""
    # Months before the newest one are read again only after a slot was replaced.
    revised = str(cached.revised(city, cached.state(city)))
    months = sorted({f"{one:%Y-%m}" for one in days["day"]})
    tables = [
        cached.totals_of_month(city, month, newest if month == months[-1] else revised)
        for month in months
    ]
    table = pd.concat(tables, ignore_index=True).set_index("day")
    table = table.reindex(days["day"]).rename_axis("day").reset_index()
    if int(days["slots"].iloc[-1]) < city.slots_per_day:  # part of a day has another mean
        table = table.iloc[:-1]
    st.subheader("Flow over time, all cells")
    if table.empty:
        st.info("No day is complete yet; the first one appears once it is over.")
        return
    long = table.melt("day", ["inflow", "outflow"], "channel", "vehicles")
    chart = totals_chart(
        long.assign(
            clock=clock_milliseconds(long["day"].to_numpy()),
            day=long["day"].dt.strftime("%Y-%m-%d"),
        )
    )
    rows = long.assign(day=long["day"].dt.strftime("%Y-%m-%d"))
    show_chart("totals", chart, "Vehicles per step by day", rows, "Totals")


def show_ingests(city: City) -> None:
    """Draws the ingested files, what was repaired in them, and which were refused."""
    ledger = cached.store().ingests.table(city).tail(MAX_FILES).iloc[::-1]
    st.subheader("Ingested files")
    if ledger.empty:
        st.info("No file has been ingested yet.")
        return
    table = pd.DataFrame(
        {
            "at": [stamp(np.datetime64(at, "s"), city.timezone) for at in ledger["at"]],
            "file": [_relative(one)[-80:] for one in ledger["source"]],
            "outcome": ledger["outcome"],
            "new": ledger["added"],
            "stored already": ledger["equal"],
            "replaced": ledger["replaced"],
            "repaired": [
                ", ".join(f"{count} {name}" for name, count in one.items())
                for one in ledger["repairs"]
            ],
            "why refused": [_relative(one)[:300] for one in ledger["message"]],
        }
    )
    refused = table[table["outcome"] == "refused"]
    if len(refused):
        st.warning(f"Refused: {len(refused)} of the newest {len(table)} files.")
        show_table("refused", refused[["at", "file", "why refused"]], "Refused")
    title = "The only file" if len(table) == 1 else f"The newest {len(table)} files"
    show_table("ingests", table, title, height=300)


def _relative(text: object) -> str:
    """Returns a text with paths relative to the home of flowcast."""
    short = str(text)
    for folder in {home(), home().resolve()}:
        short = short.replace(f"{folder}/", "")
    return short
