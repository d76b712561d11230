from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from data.city import City
from data.clock import Clock
from data.flow import CHANNELS, label
from data.store.ingests import Source
from data.store.store import Store

STEP = np.timedelta64(3600, "s")
CITY = City("toy", "Toy", "Europe/Berlin", STEP, (2, 3))
START = np.datetime64("2026-01-01T00:00", "s")
FILE = Source("toy.h5", "0" * 64)


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    store = Store()
    yield store
    store.close()


def slots(first: int, last: int, value: float = 1.0) -> xr.DataArray:
    times = START + np.arange(first, last) * STEP
    return label(np.full((len(times), 2, 2, 3), value, np.float32), times, CITY)


def forecast(init: int, horizon: int = 3, version: str = "v1") -> xr.DataArray:
    init_times = np.array([START + init * STEP])
    leads = np.arange(1, horizon + 1)
    valid = Clock(STEP, CITY.timezone).time(init_times[:, None], leads)
    return xr.DataArray(
        np.ones((1, horizon, 2, 2, 3), np.float32),
        dims=("init_time", "lead_time", "channel", "y", "x"),
        coords={
            **{"init_time": init_times, "lead_time": leads * STEP, "channel": list(CHANNELS)},
            "valid_time": (("init_time", "lead_time"), valid),
        },
        attrs={"forecaster": "swinlstm-b", "model_version": version},
    )


def scored(due: pd.DataFrame, **changes: Any) -> pd.DataFrame:
    sums = {"count": 12, "squared": 48.0, "absolute": 24.0, "difference": -24.0}
    return due.assign(forecaster="served", **{**sums, **changes})


def pairs(due: pd.DataFrame) -> list[tuple[int, int]]:
    hours = (due["init_time"].to_numpy() - START) / STEP
    return [(int(hour), lead) for hour, lead in zip(hours, due["lead"], strict=True)]


def test_a_lead_is_due_when_its_slot_has_come_and_until_it_is_scored(store: Store) -> None:
    store.flow.add(CITY, slots(0, 6), source=FILE)
    for init in (2, 4):
        store.forecasts.add(CITY, forecast(init))
    due = store.scores.due(CITY, START)
    assert pairs(due) == [(2, 1), (2, 2), (2, 3), (4, 1)]
    store.scores.add(CITY, scored(due[1:]))
    assert pairs(store.scores.due(CITY, START)) == [(2, 1)]
    store.flow.add(CITY, slots(6, 8), source=FILE)
    assert pairs(store.scores.due(CITY, START)) == [(2, 1), (4, 2), (4, 3)]
    assert pairs(store.scores.due(CITY, START + 3 * STEP)) == [(4, 2), (4, 3)]


def test_late_slots_corrected_ones_and_newer_forecasts_are_due_again(store: Store) -> None:
    store.flow.add(CITY, slots(0, 4), source=FILE)
    store.flow.add(CITY, slots(5, 6), source=FILE)
    store.forecasts.add(CITY, forecast(2))
    due = store.scores.due(CITY, START)
    assert pairs(due) == [(2, 1), (2, 3)]
    store.scores.add(CITY, scored(due))
    store.flow.add(CITY, slots(4, 5), source=FILE)
    assert pairs(store.scores.due(CITY, START)) == [(2, 2)]
    store.scores.add(CITY, scored(store.scores.due(CITY, START)))
    store.flow.add(CITY, slots(5, 6, value=9), source=FILE, replace=True)
    due = store.scores.due(CITY, START)
    assert pairs(due) == [(2, 3)]
    store.scores.add(CITY, scored(due, squared=96.0))
    table = store.scores.table(CITY, START, START + 9 * STEP)
    assert [*table["revision"]] == [0, 0, 1]
    assert [*table["squared"]] == [48, 48, 96]
    assert {*table["version"]} == {"v1"}
    store.forecasts.add(CITY, forecast(2, version="v2"))
    due = store.scores.due(CITY, START)
    assert pairs(due) == [(2, 1), (2, 2), (2, 3)]
    store.scores.add(CITY, scored(due))
    assert {*store.scores.table(CITY, START, START + 9 * STEP)["version"]} == {"v2"}
    assert store.scores.due(CITY, START).empty


def test_scores_of_others_stand_beside_those_of_what_was_served(store: Store) -> None:
    store.flow.add(CITY, slots(0, 6), source=FILE)
    store.forecasts.add(CITY, forecast(2))
    due = store.scores.due(CITY, START)
    store.scores.add(
        CITY, pd.concat([scored(due), scored(due, squared=1.5).assign(forecaster="x")])
    )
    table = store.scores.table(CITY, START, START + 2 * STEP)
    assert len(table) == 6
    assert table[table["forecaster"] == "x"]["squared"].sum() == 4.5
    assert store.scores.table(CITY, START + 2 * STEP, START + 9 * STEP).empty


def test_a_city_without_forecasts_has_nothing_due(store: Store) -> None:
    assert store.scores.due(CITY, START).empty
    assert store.scores.table(CITY, START, START + STEP).empty


@pytest.mark.parametrize("day", ["2026-03-27", "2026-10-23"])
def test_leads_are_days_also_where_a_day_has_23_or_25_hours(store: Store, day: str) -> None:
    city = replace(CITY, step=np.timedelta64(86_400, "s"))
    shown = np.datetime64(day) + np.arange(5)  # a Friday to the Tuesday after clocks were moved
    times = pd.DatetimeIndex(shown).tz_localize("Europe/Berlin").tz_convert("UTC").tz_localize(None)
    flow = label(np.ones((5, 2, 2, 3), np.float32), times.to_numpy(), city)
    store.flow.add(city, flow, source=FILE)
    for init in times.to_numpy().astype("datetime64[s]")[:2]:
        made = forecast(0).assign_coords(init_time=[init])
        store.forecasts.add(city, made.drop_vars("valid_time"))
    due = store.scores.due(city, np.datetime64("2026-01-01", "s"))
    assert [*due["lead"]] == [1, 2, 3, 1, 2, 3]
    store.scores.add(city, scored(due))
    assert store.scores.due(city, np.datetime64("2026-01-01", "s")).empty


def test_slots_lack_a_forecast_from_the_first_one_on(store: Store) -> None:
    store.flow.add(CITY, slots(0, 8), source=FILE)
    last = START + 9 * STEP
    assert [*store.forecasts.missing(CITY, START, last)] == []
    for init in (2, 4):
        store.forecasts.add(CITY, forecast(init))
    hours = [START + hour * STEP for hour in (3, 5, 6, 7)]
    assert [*store.forecasts.missing(CITY, START, last)] == hours
    # An outage may be longer than the time that is looked at.
    assert [*store.forecasts.missing(CITY, START + 5 * STEP, START + 6 * STEP)] == hours[1:3]
