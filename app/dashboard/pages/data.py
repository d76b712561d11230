"""City and data: what flow there is, where it has gaps, and what ingest repaired or refused."""

import numpy as np
import pandas as pd
import streamlit as st

from app.charts.web_lines import calendar_chart, milliseconds, totals_chart
from app.dashboard import cached
from app.dashboard.markdown import plain
from app.dashboard.pages.now import no_forecast
from app.dashboard.widgets import lasting, show_chart, show_table
from data.city import City
from data.clock import Clock, stamp
from data.paths import home

LAST = 200
MOST_GAPS = 50
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def page(city: City) -> None:
    """Draws the page."""
    state = cached.state(city)
    days = cached.slots_by_day(city, state)
    _facts(city)
    if days.empty:
        no_forecast(city)
    else:
        _calendar(city, days)
        _totals(city, days)
    taken_in(city)


def _facts(city: City) -> None:
    """Tells what the city is."""
    span = cached.store().flow.span(city)
    rows, columns = city.grid
    facts = [
        f"{rows} rows and {columns} columns, row 0 in the {city.row0}",
        f"{_often(city)}, times in {city.timezone}",
    ]
    if span is not None:
        first, last = (stamp(one, city.timezone) for one in span)
        facts.append(f"flow from {first} to {last}")
    st.markdown(f"**{plain(city.title)}** ({plain(city.name)}): {plain('; '.join(facts))}")
    _, wrong = cached.overlay(city)
    if wrong:
        st.warning(plain(wrong))


def _often(city: City) -> str:
    if city.slots_per_day == 1:
        return "a slot a day"
    return f"a slot every {lasting(city.step)}"


def _in_home(text: object) -> str:
    """Returns a text in which files of the home are named by their place in it."""
    told = str(text)
    for folder in {home(), home().resolve()}:
        told = told.replace(f"{folder}/", "")
    return told


def _calendar(city: City, days: pd.DataFrame) -> None:
    """Draws the share of slots of each day."""
    monday = days["day"] - pd.to_timedelta(days["day"].dt.day_of_week, unit="D")
    full = _slots_of(days["day"], city)
    table = pd.DataFrame(
        {
            "day": days["day"].dt.strftime("%Y-%m-%d"),
            "week": monday.dt.strftime("%Y-%m-%d"),
            "weekday": [WEEKDAYS[one] for one in days["day"].dt.day_of_week],
            "slots": days["slots"],
            "share": (days["slots"] / full).clip(upper=1.0),
        }
    )
    span = cached.store().flow.span(city)
    clock = Clock(city.step, city.timezone)
    whole = 0 if span is None else int(clock.number(span[1], span[0])) + 1
    st.subheader("Slots that are there")
    missing = whole - int(days["slots"].sum())
    told = "1 slot is" if missing == 1 else f"{missing:,} slots are"
    st.caption(
        f"{told} missing between the first and the newest one; the first and the newest day may have begun "
        f"or ended within."
    )
    show_chart("calendar", calendar_chart(table), "Share of slots by day", table, "Slots by day")
    _gaps(city)


def _gaps(city: City) -> None:
    """Draws from when to when slots are missing: one of a day is a shade that nobody sees."""
    found = cached.gaps_of(city, cached.state(city))
    if not found:
        return
    newest = found[::-1][:MOST_GAPS]
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


def _slots_of(days: pd.Series, city: City) -> np.ndarray:
    """Returns how many slots each day has: on days when clocks are moved they are others."""
    begins = days.dt.tz_localize(city.timezone, nonexistent="shift_forward", ambiguous=True)
    ends = (days + pd.Timedelta(days=1)).dt.tz_localize(
        city.timezone, nonexistent="shift_forward", ambiguous=True
    )
    if city.step > np.timedelta64(3600, "s"):
        return np.full(len(days), city.slots_per_day)
    return np.asarray((ends - begins) / pd.Timedelta(city.step)).round()


def _totals(city: City, days: pd.DataFrame) -> None:
    """Draws the city's mean flow by day."""
    newest = cached.store().ingests.table(city)
    mark = str(int(newest["id"].max())) if len(newest) else ""
    months = sorted({f"{one:%Y-%m}" for one in days["day"]})
    # What is long past changes seldom: only a corrected slot reads it anew.
    revised = str(cached.revised(city, cached.state(city)))
    tables = [
        cached.totals_of_month(city, month, mark if month in months[-1:] else revised)
        for month in months
    ]
    table = pd.concat(tables, ignore_index=True).set_index("day")
    table = table.reindex(days["day"]).rename_axis("day").reset_index()
    if int(days["slots"].iloc[-1]) < city.slots_per_day:  # the mean of a part is not that of a day
        table = table.iloc[:-1]
    st.subheader("Flow over time, in all cells")
    if table.empty:
        st.info("No day is whole yet; the first one is drawn once it is over.")
        return
    tall = table.melt("day", ["inflow", "outflow"], "channel", "vehicles")
    tall["shown"] = milliseconds(tall["day"].to_numpy())
    tall["day"] = tall["day"].dt.strftime("%Y-%m-%d")
    show_chart(
        "totals",
        totals_chart(tall),
        "Vehicles per step by day",
        tall.drop(columns="shown"),
        "Totals",
    )


def taken_in(city: City) -> None:
    """Draws what files brought, what was repaired in them, and which were refused."""
    ledger = cached.store().ingests.table(city).tail(LAST).iloc[::-1]
    st.subheader("What was taken in")
    if ledger.empty:
        st.info("No file was taken in yet.")
        return
    table = pd.DataFrame(
        {
            "at": [stamp(np.datetime64(at, "s"), city.timezone) for at in ledger["at"]],
            "file": [_in_home(one)[-80:] for one in ledger["source"]],
            "outcome": ledger["outcome"],
            "new": ledger["added"],
            "stored already": ledger["equal"],
            "replaced": ledger["replaced"],
            "repaired": [
                ", ".join(f"{count} {name}" for name, count in one.items())
                for one in ledger["repairs"]
            ],
            "why refused": [_in_home(one)[:300] for one in ledger["message"]],
        }
    )
    refused = table[table["outcome"] == "refused"]
    if len(refused):
        st.warning(f"Refused: {len(refused)} of the newest {len(table)} files.")
        show_table("refused", refused[["at", "file", "why refused"]], "Refused")
    title = "The only file" if len(table) == 1 else f"The newest {len(table)} files"
    show_table("ingests", table, title, height=300)
