"""Cached reads of the store, kept until the store changes.

All sessions share what is kept, and none may change it. Its amount is bounded: a few cities and
forecasts, whatever sessions ask for.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from app.cli.dashboard import REPLAYED
from app.dashboard.overlay import read_overlay
from data.city import City, city_files, load_city
from data.clock import Clock, local
from data.errors import FlowcastError, StoreError
from data.store.database import default_url, file_of
from data.store.store import Store
from pipelines.ingest.check import Gap, gaps
from pipelines.insight.hot_spots import hot_spots
from pipelines.insight.past_forecasts import DAYS, PastForecasts, past_forecasts
from pipelines.insight.trust import Skill, Trust, skill, trust
from pipelines.insight.typical import typical

SCORED = np.timedelta64(28, "D")
"""How far back errors are shown."""
SAMPLE_DAYS = 40
"""Days of the history that set the end of the color scale."""
DAY = np.timedelta64(86_400, "s")
TOP_QUANTILE = 0.999
"""Quantile of the flow of all cells at the end of the color scale."""
PATIENCE = 3
"""Seconds to wait for a store that another process has locked; the page tries again by itself."""
FEW = 4
"""Cities or forecasts that are kept of large objects."""
BY_CITY: dict[str | type, Callable[[Any], Any]] = {City: repr}


@dataclass
class _Open:
    """The open store, and the identity of its file."""

    store: Store | None = None
    file: str = ""


@st.cache_resource(show_spinner=False)
def _open() -> _Open:
    return _Open()


def store() -> Store:
    """Returns the store; opens it again where its file was replaced.

    Raises:
        StoreError: it cannot be opened, or its file is gone.
    """
    opened, file = _open(), _file_identity()
    if opened.store is not None and not file:
        raise StoreError(
            f"the store {default_url().database} is gone; put it back, or start a new one: forecast "
            f"ingest --city CITY PATH, then start the dashboard again"
        )
    if opened.store is None or file != opened.file:
        if opened.store is not None:
            opened.store.close()
        opened.store = Store(patience=PATIENCE)
        opened.file = _file_identity()
    return opened.store


def _file_identity() -> str:
    """Returns the identity of the store's file, "" where there is none."""
    url = default_url()
    return file_of(url) if url.get_backend_name() == "sqlite" and url.database else str(url)


@st.cache_data(ttl=30, show_spinner=False)
def cities() -> tuple[dict[str, City], dict[str, str]]:
    """Returns the cities by name, those with flow first, and the errors in the TOML of others."""
    known, wrong = {}, {}
    for name in sorted(city_files()):
        try:
            known[name] = load_city(name)
        except FlowcastError as error:
            wrong[name] = str(error)
    with_flow = [name for name, city in known.items() if _span(city) is not None]
    order = [*with_flow, *(name for name in known if name not in with_flow)]
    return {name: known[name] for name in order}, wrong


def _span(city: City) -> tuple[np.datetime64, np.datetime64] | None:
    try:
        return store().flow.span(city)
    except FlowcastError:  # its grid has changed; its page says so
        return None


@st.cache_data(ttl=1, show_spinner=False, hash_funcs=BY_CITY, max_entries=32)
def state(city: City) -> str:
    """Returns a text that changes with the stored data of a city; at most a second old."""
    return f"{store().change_token(city)} {_open().file}"


def present(city: City) -> np.datetime64:
    """Returns the present time, UTC; for a replayed archive the end of the newest slot."""
    if os.environ.get(REPLAYED):
        span = store().flow.span(city)
        if span is not None:
            return Clock(city.step, city.timezone).after(span[1], 1)
    return wall_clock()


def wall_clock() -> np.datetime64:
    """Returns the time of this host, UTC."""
    return np.datetime64(int(time.time()), "s")


@st.cache_data(show_spinner=False, hash_funcs=BY_CITY, max_entries=32)
def revised(city: City, state: str) -> int:
    """Returns how many stored slots were replaced."""
    return int(store().ingests.table(city)["replaced"].sum())


@st.cache_resource(show_spinner=False, hash_funcs=BY_CITY, max_entries=8 * FEW)
def forecast(city: City, state: str, at: np.datetime64 | None) -> xr.DataArray | None:
    """Returns the forecast made at a time, or for None the newest; None where there is none."""
    return store().forecasts.newest(city, at)


def _existing(city: City, state: str, at: np.datetime64 | None) -> xr.DataArray:
    found = forecast(city, state, at)
    if found is None:
        raise FlowcastError(f"{city.name} no longer has this forecast; go to the newest")
    return found


@st.cache_resource(show_spinner=False, hash_funcs=BY_CITY, max_entries=8 * FEW)
def frame(city: City, state: str, at: np.datetime64) -> xr.DataArray:
    """Returns the observed flow of a slot, dims `(channel, y, x)`, NaN where it is missing."""
    flow = store().flow.read(city, first=at, last=at)
    if flow.sizes["time"]:
        return flow[0]
    shape = (1, *flow.shape[1:])
    empty = xr.DataArray(np.full(shape, np.nan, np.float32), dims=flow.dims)
    return empty.assign_coords(channel=flow["channel"])[0]


@st.cache_resource(show_spinner=False, hash_funcs=BY_CITY, max_entries=8 * FEW)
def typical_of(city: City, state: str, at: np.datetime64, horizon: int) -> xr.Dataset:
    """Returns typical flow at the slots after `at`."""
    clock = Clock(city.step, city.timezone)
    times = clock.time(np.asarray(at), np.arange(1, horizon + 1))
    return typical(store(), city, times, clock.after(at, 1))


def top(city: City) -> float:
    """Returns the end of the color scale: the 99.9th percentile of the flow of all cells.

    It is that of days evenly spaced over the history before the week of the newest slot, so that it
    stays the same for a week, whichever forecast is shown.
    """
    span = store().flow.span(city)
    if span is None:
        return 1.0
    week = span[1].astype("datetime64[W]").astype("datetime64[s]")
    return _top(city, span[0], week, _open().file)


@st.cache_data(ttl=3600, show_spinner=False, hash_funcs=BY_CITY, max_entries=32)
def _top(city: City, first: np.datetime64, week: np.datetime64, file: str) -> float:
    """Returns the end of the scale; read again each hour, as older files may be ingested."""
    span = store().flow.span(city)
    end = week if first < week or span is None else span[1] + city.step
    days = np.unique(np.linspace(0, (end - first - 1) // DAY, SAMPLE_DAYS).astype(int))
    flows = [
        store().flow.read(city, first=one, last=min(one + DAY, end) - 1).values.ravel()
        for one in first + days * DAY
    ]
    flow = np.concatenate(flows)
    return (float(np.quantile(flow, TOP_QUANTILE)) if len(flow) else 0.0) or 1.0


@st.cache_resource(show_spinner=False, hash_funcs=BY_CITY, max_entries=2 * FEW)
def scores(city: City, state: str, until: np.datetime64) -> pd.DataFrame:
    """Returns the scores of the days before `until`, as `Scores.sums` does."""
    return store().scores.sums(city, until - SCORED, until)


@st.cache_data(show_spinner=False, hash_funcs=BY_CITY, max_entries=8 * FEW)
def skill_of(city: City, state: str, until: np.datetime64) -> Skill | None:
    """Returns the skill of the last seven days before `until`."""
    table = scores(city, state, until)
    return skill(table[table["init_time"] > until - DAYS])


@st.cache_data(ttl=5, show_spinner=False, hash_funcs=BY_CITY, max_entries=8 * FEW)
def trust_of(city: City, state: str, at: np.datetime64 | None) -> Trust:
    """Returns how far the forecast made at a time, None for the newest, can be trusted.

    The newest is judged by the present time, any other by its own time.
    """
    found = _existing(city, state, at)
    made = found["init_time"].values[0]
    newest = forecast(city, state, None)
    is_newest = newest is None or newest["init_time"].values[0] == made
    now = present(city) if at is None or is_newest else made + city.step
    return trust(store(), city, found, now, skill_of(city, state, made))


@st.cache_data(show_spinner=False, hash_funcs=BY_CITY, max_entries=32 * FEW)
def hot_spots_of(
    city: City, state: str, at: np.datetime64 | None, channel: str, threshold: float
) -> pd.DataFrame:
    """Returns the hot spots of the forecast made at a time, None for the newest."""
    found = _existing(city, state, at)
    made, horizon = found["init_time"].values[0], found.sizes["lead_time"]
    return hot_spots(found, typical_of(city, state, made, horizon), channel, threshold)


@st.cache_resource(show_spinner=False, hash_funcs=BY_CITY, max_entries=FEW // 2)
def past_forecasts_of(city: City, state: str, until: np.datetime64) -> PastForecasts | None:
    """Returns the forecasts of the days before `until`."""
    return past_forecasts(store(), city, until)


@st.cache_data(show_spinner=False, hash_funcs=BY_CITY, max_entries=FEW)
def init_times(city: City, state: str, day: np.datetime64) -> np.ndarray:
    """Returns the init_times, UTC, of a day by the city's clocks."""
    first = day.astype("datetime64[s]") - np.timedelta64(36, "h")
    made = store().forecasts.between(city, first, first + np.timedelta64(96, "h"))
    times = np.unique([one["init_time"].values[0] for one in made])
    if not len(times):
        return times.astype("datetime64[s]")
    days = local(times, city.timezone).tz_localize(None).to_numpy().astype("datetime64[D]")
    return np.asarray(times[days == day], "datetime64[s]")


@st.cache_resource(show_spinner=False, hash_funcs=BY_CITY, max_entries=2 * FEW)
def slots_by_day(city: City, state: str) -> pd.DataFrame:
    """Returns a row a day from the first slot to the newest: `day` and the number of `slots`."""
    times = store().flow.times(city)["time"].values
    if not len(times):
        return pd.DataFrame({"day": [], "slots": []})
    days = local(times, city.timezone).tz_localize(None).normalize()
    counts = pd.Series(1, index=days).resample("D").sum()
    return pd.DataFrame({"day": counts.index, "slots": counts.to_numpy()})


@st.cache_resource(show_spinner=False, hash_funcs=BY_CITY, max_entries=2 * FEW)
def gaps_of(city: City, state: str) -> tuple[Gap, ...]:
    """Returns the gaps between the first slot and the newest."""
    return gaps(store().flow.times(city)["time"].values, Clock(city.step, city.timezone))


@st.cache_data(show_spinner=False, hash_funcs=BY_CITY, max_entries=64 * FEW)
def totals_of_month(city: City, month: str, ingests: str) -> pd.DataFrame:
    """Returns the flow of all cells, mean over the slots of each `day`: `inflow`, `outflow`.

    Args:
        city: whose flow it is.
        month: `2025-05`, by the city's clocks.
        ingests: changes when the flow of the month may have changed.
    """
    begin = pd.Timestamp(f"{month}-01", tz=city.timezone)
    ends = [
        np.datetime64(int(one.timestamp()), "s") for one in (begin, begin + pd.offsets.MonthBegin())
    ]
    flow = store().flow.read(city, first=ends[0], last=ends[1] - 1)
    if not flow.sizes["time"]:
        return pd.DataFrame({"day": [], "inflow": [], "outflow": []})
    days = local(flow["time"].values, city.timezone).tz_localize(None).normalize()
    sums = flow.values.sum(axis=(2, 3), dtype=np.float64)
    table = pd.DataFrame(sums, index=days, columns=["inflow", "outflow"])
    return table.groupby(level=0).mean().rename_axis("day").reset_index()


@st.cache_resource(show_spinner=False, ttl=60, hash_funcs=BY_CITY, max_entries=FEW)
def overlay(city: City) -> tuple[Mapping[str, Any] | None, str]:
    """Returns the overlay of a city and what is wrong with it, as `read_overlay` does."""
    return read_overlay(city)
