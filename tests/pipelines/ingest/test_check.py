from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import h5py
import numpy as np
import pandas as pd
import pytest

from data.city import City, load_city
from data.flow import label
from data.store.ingests import Source
from data.store.store import Store
from data.weather import label_weather
from pipelines.ingest.check import Gap, check
from pipelines.ingest.files import ingest

HALF_HOUR = np.timedelta64(1800, "s")
CITY = City("toy", "Toy", "America/New_York", HALF_HOUR, (2, 3))
SHANGHAI = replace(CITY, timezone="Asia/Shanghai")
FILE = Source("toy16.h5", "0" * 64)


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    yield store
    store.close()


def utc(text: str) -> np.datetime64:
    return np.datetime64(text, "s")


def add(store: Store, city: City, time: np.ndarray, vehicles: float = 1, **options: object) -> None:
    """Stores slots with the same number of vehicles in all cells."""
    values = np.full((len(time), 2, *city.grid), vehicles)
    store.flow.add(city, label(values, time, city), source=FILE, **options)


def local_days(first: str, days: int, city: City) -> np.ndarray:
    """The UTC times of all slots of whole local days."""
    begin = pd.Timestamp(first).replace(tzinfo=ZoneInfo(city.timezone))
    end = (pd.Timestamp(first) + pd.Timedelta(days=days)).replace(tzinfo=ZoneInfo(city.timezone))
    seconds = np.arange(int(begin.timestamp()), int(end.timestamp()), city.step.astype(int))
    return seconds.astype("datetime64[s]")


def test_an_empty_archive_is_no_error(store: Store) -> None:
    result = check(store, CITY)
    assert (result.slots, result.first, result.last) == (0, None, None)
    assert (result.days, result.whole_days, result.gaps, result.missing) == (0, 0, (), 0)
    assert np.isnan([result.lowest, result.mean, result.highest]).all()
    assert (result.revised, result.repairs, result.refused) == (0, {}, ())


def test_weather_is_told_with_the_times_when_no_value_counts(store: Store) -> None:
    assert check(store, CITY).weather is None
    hours, missing = np.array([0, 25, 51, 60]), float("nan")
    values = np.array([[1, 1], [1, missing], [1, missing], [1, 1]])
    time = utc("2016-01-01T00:00") + hours * np.timedelta64(1, "h")
    store.weather.add(CITY, label_weather(values, time, ["rain", "wind"], CITY), source=FILE)
    weather = check(store, CITY).weather
    assert weather is not None
    assert (weather.records, weather.first, weather.last) == (4, time[0], time[3])
    # a value counts for 25 hours
    rain = (utc("2016-01-03T02:00"), utc("2016-01-03T03:00"))
    assert weather.gaps == {"rain": (rain,), "wind": ((utc("2016-01-02T01:00"), time[3]),)}


def test_the_range_is_that_of_all_cells(store: Store) -> None:
    values = np.zeros((2, 2, 2, 3))
    values[1, 1, 1, 2] = 240
    store.flow.add(CITY, label(values, local_days("2016-01-05", 1, CITY)[:2], CITY), source=FILE)
    result = check(store, CITY)
    assert (result.lowest, result.mean, result.highest) == (0, 10, 240)


def test_gaps_are_told_by_their_first_and_last_missing_slot(store: Store) -> None:
    time = local_days("2016-01-05", 3, SHANGHAI)
    add(store, SHANGHAI, np.delete(time, [10, *range(40, 100)]))
    result = check(store, SHANGHAI)
    # slot 10 begins at 05:00 on the 5th, 40 at 20:00, 99 at 01:30 on the 7th; UTC is 8 hours behind
    assert result.gaps == (
        Gap(utc("2016-01-04T21:00"), utc("2016-01-04T21:00"), 1),
        Gap(utc("2016-01-05T12:00"), utc("2016-01-06T17:30"), 60),
    )
    assert result.missing == 61
    assert result.slots == 3 * 48 - 61
    assert (result.first, result.last) == (utc("2016-01-04T16:00"), utc("2016-01-07T15:30"))
    assert (result.days, result.whole_days) == (2, 0)


def test_days_are_those_of_the_clocks_on_the_wall(store: Store) -> None:
    add(store, SHANGHAI, local_days("2016-01-05", 3, SHANGHAI)[20:])
    result = check(store, SHANGHAI)
    assert (result.days, result.whole_days, result.gaps) == (3, 2, ())


@pytest.mark.parametrize(
    ("day", "step", "slots"),
    [
        ("2016-03-13", 30, 46),
        ("2016-11-06", 30, 50),
        ("2016-07-04", 30, 48),
        ("2016-03-13", 60, 23),
        ("2016-11-06", 60, 25),
        ("2016-03-13", 5, 276),
    ],
)
def test_days_of_23_and_25_hours_are_whole_with_all_their_slots(
    store: Store, day: str, step: int, slots: int
) -> None:
    city = replace(CITY, step=np.timedelta64(60 * step, "s"))
    time = local_days(day, 1, city)
    assert len(time) == slots
    add(store, city, np.delete(time, 3))
    result = check(store, city)
    assert (result.days, result.whole_days, result.missing) == (1, 0, 1)
    add(store, city, time[3:4])
    result = check(store, city)
    assert (result.days, result.whole_days, result.missing) == (1, 1, 0)


@pytest.mark.parametrize("first", ["2016-03-10", "2016-11-03"])
@pytest.mark.parametrize("hours", [6, 24])
def test_long_steps_leave_no_gap_where_the_clocks_change(
    store: Store, first: str, hours: int
) -> None:
    city = replace(CITY, step=np.timedelta64(3600 * hours, "s"))
    wall = pd.date_range(first, periods=7 * 24 // hours, freq=pd.Timedelta(hours=hours))
    seconds = [int(at.replace(tzinfo=ZoneInfo(city.timezone)).timestamp()) for at in wall]
    add(store, city, np.array(seconds, dtype="datetime64[s]"))
    result = check(store, city)
    assert (result.days, result.whole_days, result.gaps) == (7, 7, ())


def test_repairs_are_summed_over_files_and_counted_once_for_a_file_taken_twice(
    store: Store,
) -> None:
    time = local_days("2016-01-05", 2, CITY)
    for _ in range(2):
        add(store, CITY, time[:48], repairs={"negative": 3, "unsorted": 1})
        add(store, CITY, time[48:], repairs={"negative": 2})
    assert check(store, CITY).repairs == {"negative": 5, "unsorted": 1}


def test_replaced_slots_and_refused_files_are_told(store: Store) -> None:
    time = local_days("2016-01-05", 1, CITY)
    add(store, CITY, time)
    add(store, CITY, time[:5], vehicles=2, replace=True)
    store.ingests.add_refusal(CITY, Source("bad.h5", "1"), "bad.h5 is no HDF5 file")
    store.ingests.add_refusal(CITY, Source("worse.h5", "2"), "worse.h5 is empty")
    result = check(store, CITY)
    assert result.revised == 5
    assert result.refused == (
        ("bad.h5", "bad.h5 is no HDF5 file"),
        ("worse.h5", "worse.h5 is empty"),
    )


# Real data


def test_new_york_2016_is_ninety_whole_days(store: Store, real_data: Path) -> None:
    nyc = load_city("nyc")
    for _ in range(2):
        list(ingest(store, nyc, [real_data / "nyc-taxi"]))
    result = check(store, nyc)
    assert (result.slots, result.days, result.whole_days) == (4318, 90, 90)  # 90 x 48 - 2
    assert (result.gaps, result.repairs) == ((), {"skipped_hour": 2, "trace": 25})  # of its weather
    assert (result.first, result.last) == (utc("2016-01-01T05:00"), utc("2016-03-31T03:30"))
    assert (result.lowest, result.highest) == (0, 1518)


HOURLY = """
title = "New York by the hour"
timezone = "America/New_York"
step = "1h"
grid = [16, 8]
first_slot = 0
duplicates = "sum"
"""
CHANGES = {
    "forward": {"2010031402", "2011031302", "2012031102", "2013031002"},
    "back": {"2010110701", "2011110601", "2012110401", "2013110301"},
}


def counted(folder: Path) -> tuple[Counter[str], float]:
    """What is wrong in the raw files, counted slot by slot, and the vehicles at existing times."""
    wrong, vehicles = Counter[str](), 0.0
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path) as file:
            labels, values = [date.decode() for date in file["date"]], file["data"][:]
        sums: dict[str, np.ndarray] = {}
        earliest_after = "9999"
        for date in reversed(labels):
            wrong["unsorted"] += date > earliest_after
            earliest_after = min(earliest_after, date)
        for date, frame in zip(labels, values, strict=True):
            wrong["duplicates_merged"] += date in sums
            wrong["skipped_hour"] += date in CHANGES["forward"]
            wrong["repeated_hour"] += date in CHANGES["back"]
            sums[date] = sums.get(date, 0) + frame
        for date in sums.keys() - CHANGES["forward"]:
            wrong["empty_kept"] += not sums[date].any()
            vehicles += sums[date].sum()
    return wrong, vehicles


def test_new_york_by_the_hour_is_repaired_by_the_rule_sum_and_loses_no_vehicle(
    store: Store, real_data: Path, flowcast_home: Path
) -> None:
    folder = real_data / "nyc-taxi-hourly"
    (flowcast_home / "cities").mkdir()
    (flowcast_home / "cities" / "nyc-hourly.toml").write_text(HOURLY)
    city = load_city("nyc-hourly")
    results = list(ingest(store, city, [folder]))
    assert [file.refused for file in results] == [""] * 4

    wrong, vehicles = counted(folder)
    result = check(store, city)
    assert result.repairs == wrong
    assert wrong == {
        "duplicates_merged": 456,
        "skipped_hour": 4,
        "repeated_hour": 4,
        "empty_kept": 83,
        "unsorted": 448,
    }
    assert store.flow.read(city).values.sum(dtype=np.float64) == vehicles
    # 2 to 30 September is missing every year: 29 days of 24 hours
    september = [gap for gap in result.gaps if gap.slots >= 29 * 24]
    assert [f"{gap.first:}"[:10] for gap in september] == [
        f"{year}-09-02" for year in range(2010, 2014)
    ]
