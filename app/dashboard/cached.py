"""Reading: what pages read of the store, kept until the store says that it changed.

What is kept is shared by all sessions and must not be changed by any. Its amount is bounded: a few
cities and moments, whoever asks for how many.
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
import xarray as xr

from app.dashboard import REPLAYED
from data.city import City, city_files, load_city
from data.clock import Clock, local
from data.errors import FlowcastError, StoreError
from data.paths import overlay_file
from data.store.database import default_url, file_of
from data.store.store import Store
from pipelines.ingest.check import Gap, gaps
from pipelines.insight.hot_spots import hot_spots
from pipelines.insight.past_forecasts import DAYS, PastForecasts, past_forecasts
from pipelines.insight.trust import Skill, Trust, skill, trust
from pipelines.insight.typical import typical

SCORED = np.timedelta64(28, "D")
"""How far back errors are told."""
SAMPLE = 40
"""Days of the history that the scale of colors is taken from."""
DAY = np.timedelta64(86_400, "s")
TOP = 0.999
"""Share of the flows of all cells that lie below the end of the scale."""
MOST_OVERLAY = 5 * 2**20
DEPTHS = {
    "Point": 1,
    **{"LineString": 2, "MultiPoint": 2, "Polygon": 3, "MultiLineString": 3, "MultiPolygon": 4},
}
"""Lists within one another that the coordinates of GeoJSON's geometries are (RFC 7946)."""
PATIENCE = 3
"""Seconds to wait for a store that another process holds; the page tries again by itself."""
FARTHEST = 1e6
"""More than any coordinate is, in degrees or in meters of height."""
FEW = 4
"""Cities, or moments, that are kept of the larger things."""
BY_CITY: dict[str | type, Callable[[Any], Any]] = {City: repr}


@dataclass
class _Open:
    """The store that is open, and which file it is."""

    store: Store | None = None
    file: str = ""


@st.cache_resource(show_spinner=False)
def _open() -> _Open:
    return _Open()


def store() -> Store:
    """Returns the store; one that was put in the place of another is opened anew.

    Raises:
        StoreError: it cannot be opened, or its file is gone.
    """
    held, file = _open(), _file()
    if held.store is not None and not file:
        raise StoreError(
            f"the store {default_url().database} is gone; put it back, or begin anew: forecast ingest "
            f"--city CITY PATH, then start the dashboard again"
        )
    if held.store is None or file != held.file:
        if held.store is not None:
            held.store.close()
        held.store = Store(patience=PATIENCE)
        held.file = _file()
    return held.store


def _file() -> str:
    """Returns what tells the store's file from any other, "" where there is none."""
    url = default_url()
    return file_of(url) if url.get_backend_name() == "sqlite" and url.database else str(url)


@st.cache_data(ttl=30, show_spinner=False)
def cities() -> tuple[dict[str, City], dict[str, str]]:
    """Returns the cities by name, those with flow first, and what is wrong with others, by name."""
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
    except FlowcastError:  # its grid was changed since; its page says so
        return None


@st.cache_data(ttl=1, show_spinner=False, hash_funcs=BY_CITY, max_entries=32)
def state(city: City) -> str:
    """Returns what changes whenever the store's knowledge of a city does; a second old at most."""
    return f"{store().change_token(city)} {_open().file}"


def present(city: City) -> np.datetime64:
    """Returns this moment, UTC; where archives are played back, the end of the newest slot."""
    if os.environ.get(REPLAYED):
        span = store().flow.span(city)
        if span is not None:
            return Clock(city.step, city.timezone).after(span[1], 1)
    return wall_clock()


def wall_clock() -> np.datetime64:
    """Returns this moment, UTC, whatever is played back."""
    return np.datetime64(int(time.time()), "s")


@st.cache_data(show_spinner=False, hash_funcs=BY_CITY, max_entries=32)
def revised(city: City, state: str) -> int:
    """Returns how many slots were replaced, or came later than they should have."""
    return int(store().ingests.table(city)["replaced"].sum())


@st.cache_resource(show_spinner=False, hash_funcs=BY_CITY, max_entries=8 * FEW)
def forecast(city: City, state: str, at: np.datetime64 | None) -> xr.DataArray | None:
    """Returns the forecast made at a time, None for the newest; None where there is none."""
    return store().forecasts.newest(city, at)


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
def usual_of(city: City, state: str, at: np.datetime64, horizon: int) -> xr.Dataset:
    """Returns what was usual at the slots after `at`."""
    clock = Clock(city.step, city.timezone)
    times = clock.time(np.asarray(at), np.arange(1, horizon + 1))
    return typical(store(), city, times, clock.after(at, 1))


def top(city: City) -> float:
    """Returns the end of the scale of colors: what 99.9 % of the history's flows stay below.

    It is taken of days evenly spread over the history before the week of the newest slot, so that it
    stays the same throughout a week, whatever moment is looked at.
    """
    span = store().flow.span(city)
    if span is None:
        return 1.0
    week = span[1].astype("datetime64[W]").astype("datetime64[s]")
    return _top(city, span[0], week, _open().file)


@st.cache_data(ttl=3600, show_spinner=False, hash_funcs=BY_CITY, max_entries=32)
def _top(city: City, first: np.datetime64, week: np.datetime64, file: str) -> float:
    """Returns the end of the scale; read anew each hour, as what is older may be taken in later."""
    span = store().flow.span(city)
    end = week if first < week or span is None else span[1] + city.step
    days = np.unique(np.linspace(0, (end - first - 1) // DAY, SAMPLE).astype(int))
    flows = [
        store().flow.read(city, first=one, last=min(one + DAY, end) - 1).values.ravel()
        for one in first + days * DAY
    ]
    flow = np.concatenate(flows)
    return (float(np.quantile(flow, TOP)) if len(flow) else 0.0) or 1.0


@st.cache_resource(show_spinner=False, hash_funcs=BY_CITY, max_entries=2 * FEW)
def scores(city: City, state: str, until: np.datetime64) -> pd.DataFrame:
    """Returns the scores of the last days, as `Scores.sums` does."""
    return store().scores.sums(city, until - SCORED, until)


@st.cache_data(show_spinner=False, hash_funcs=BY_CITY, max_entries=8 * FEW)
def skill_of(city: City, state: str, until: np.datetime64) -> Skill | None:
    """Returns the skill of the last seven days before `until`."""
    table = scores(city, state, until)
    return skill(table[table["init_time"] > until - DAYS])


@st.cache_data(ttl=5, show_spinner=False, hash_funcs=BY_CITY, max_entries=8 * FEW)
def trust_of(city: City, state: str, at: np.datetime64 | None) -> Trust:
    """Returns how far the forecast made at a time can be trusted, None for the newest.

    The newest is judged as of now, whether it was asked for by its time or not, any other as it stood.
    """
    found = forecast(city, state, at)
    if found is None:
        raise FlowcastError(f"{city.name} has no such forecast any more; look at the newest")
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
    found = forecast(city, state, at)
    if found is None:
        raise FlowcastError(f"{city.name} has no such forecast any more; look at the newest")
    made, horizon = found["init_time"].values[0], found.sizes["lead_time"]
    return hot_spots(found, usual_of(city, state, made, horizon), channel, threshold)


@st.cache_resource(show_spinner=False, hash_funcs=BY_CITY, max_entries=FEW // 2)
def record_of(city: City, state: str, until: np.datetime64) -> PastForecasts | None:
    """Returns the record of the days before `until`."""
    return past_forecasts(store(), city, until)


@st.cache_data(show_spinner=False, hash_funcs=BY_CITY, max_entries=FEW)
def init_times(city: City, state: str, day: np.datetime64) -> np.ndarray:
    """Returns when forecasts of a day, by the city's clocks, were made, UTC."""
    first = day.astype("datetime64[s]") - np.timedelta64(36, "h")
    made = store().forecasts.between(city, first, first + np.timedelta64(96, "h"))
    times = np.unique([one["init_time"].values[0] for one in made])
    if not len(times):
        return times.astype("datetime64[s]")
    days = local(times, city.timezone).tz_localize(None).to_numpy().astype("datetime64[D]")
    return np.asarray(times[days == day], "datetime64[s]")


@st.cache_resource(show_spinner=False, hash_funcs=BY_CITY, max_entries=2 * FEW)
def slots_by_day(city: City, state: str) -> pd.DataFrame:
    """Returns a row a day of the city from its first slot to its newest: `day` and `slots`."""
    times = store().flow.times(city)["time"].values
    if not len(times):
        return pd.DataFrame({"day": [], "slots": []})
    shown = local(times, city.timezone).tz_localize(None).normalize()
    counts = pd.Series(1, index=shown).groupby(level=0).sum()
    days = pd.date_range(counts.index[0], counts.index[-1], freq="D")
    counts = counts.reindex(days, fill_value=0)
    return pd.DataFrame({"day": days, "slots": counts.to_numpy()})


@st.cache_resource(show_spinner=False, hash_funcs=BY_CITY, max_entries=2 * FEW)
def gaps_of(city: City, state: str) -> tuple[Gap, ...]:
    """Returns the runs of slots that are missing between the first and the newest."""
    return gaps(store().flow.times(city)["time"].values, Clock(city.step, city.timezone))


@st.cache_data(show_spinner=False, hash_funcs=BY_CITY, max_entries=64 * FEW)
def totals_of_month(city: City, month: str, ingests: str) -> pd.DataFrame:
    """Returns the mean flow of a slot in all cells, a row for each day: `day`, `inflow`, `outflow`.

    Args:
        city: whose flow it is.
        month: `2025-05`, by the city's clocks.
        ingests: what changes when the flow of the month may have.
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
    """Returns the GeoJSON beside the city's TOML, and what is wrong with it."""
    path = overlay_file(city.name)
    if not path.is_file():
        return None, ""
    if path.stat().st_size > MOST_OVERLAY:
        return None, f"{path.name} has more than 5 MB; simplify its lines"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        features = _drawable(content)
    except (OSError, ValueError, RecursionError):
        return None, f"{path.name} is no JSON that can be read"
    if features is None:
        return (
            None,
            f"{path.name} is no FeatureCollection of GeoJSON with lines, polygons or points",
        )
    return {"type": "FeatureCollection", "features": features}, ""


def _drawable(content: Any) -> list[Any] | None:
    """Returns the features that have a place (RFC 7946, 3.2), None where one cannot be drawn."""
    if not isinstance(content, dict) or content.get("type") != "FeatureCollection":
        return None
    features = content.get("features")
    if not isinstance(features, list) or not all(isinstance(one, dict) for one in features):
        return None
    placed = [one for one in features if one.get("geometry", "") is not None]
    return placed if all(_is_shape(one.get("geometry")) for one in placed) else None


def _is_shape(shape: Any) -> bool:
    """Returns whether a geometry can be drawn."""
    return (
        isinstance(shape, dict)
        and shape.get("type") in DEPTHS
        and _is_nested(shape.get("coordinates"), DEPTHS[shape["type"]])
    )


def _is_nested(value: Any, depth: int) -> bool:
    """Returns whether `value` is numbers in as many lists within one another."""
    if depth == 0:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and -FARTHEST < value < FARTHEST  # which NaN is not either
    return (
        isinstance(value, list) and bool(value) and all(_is_nested(one, depth - 1) for one in value)
    )
