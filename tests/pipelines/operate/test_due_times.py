import numpy as np
import pytest

from data.city import City
from pipelines.operate.due_times import due_slot, missed, nightly_slot, time_of_day, update_slot


def city(timezone: str, minutes: int) -> City:
    return City("toy", "Toy", timezone, np.timedelta64(60 * minutes, "s"), (2, 3))


def utc(text: str) -> np.datetime64:
    return np.datetime64(text, "s")


@pytest.mark.parametrize(
    ("timezone", "minutes", "now", "slot"),
    [
        ("UTC", 30, "2026-05-01T10:29:59", "2026-05-01T10:00"),
        ("UTC", 30, "2026-05-01T10:30:00", "2026-05-01T10:30"),
        # 45 minutes do not divide an hour: slots begin at midnight of the city.
        ("Asia/Shanghai", 45, "2026-05-01T16:50", "2026-05-01T16:45"),
        ("Asia/Kathmandu", 60, "2026-05-01T10:20", "2026-05-01T10:15"),
        # New York's clocks go from 2 to 3 on 8 March 2026, 07:00 UTC.
        ("America/New_York", 60, "2026-03-08T07:10", "2026-03-08T07:00"),
        (
            "America/New_York",
            360,
            "2026-03-08T10:30",
            "2026-03-08T10:00",
        ),  # 6 o'clock, 5 h after midnight
        ("America/New_York", 1440, "2026-03-09T03:59", "2026-03-08T05:00"),
    ],
)
def test_an_update_is_due_when_a_slot_is_over(
    timezone: str, minutes: int, now: str, slot: str
) -> None:
    assert update_slot(city(timezone, minutes), utc(now)) == utc(slot)


@pytest.mark.parametrize(
    ("now", "slot"),
    [
        ("2026-06-10T05:59:59", "2026-06-09T06:00"),  # 2 o'clock is 6 UTC in summer
        ("2026-06-10T06:00:00", "2026-06-10T06:00"),
        ("2026-03-08T06:59:59", "2026-03-07T07:00"),  # 2 o'clock is not there on the 8th ...
        ("2026-03-08T07:00:00", "2026-03-08T07:00"),  # ... but 3 o'clock in its place
        ("2026-11-01T05:30:00", "2026-10-31T06:00"),  # 1:30 for the first time
        ("2026-11-01T07:00:00", "2026-11-01T07:00"),  # 2 o'clock after two hours of 1
    ],
)
def test_a_night_begins_once_a_day_whatever_clocks_do(now: str, slot: str) -> None:
    assert nightly_slot(city("America/New_York", 30), utc(now)) == utc(slot)


def test_a_night_at_an_hour_that_comes_twice_begins_with_the_first() -> None:
    place = city("America/New_York", 30)
    first = utc("2026-11-01T05:30")
    for minute in range(0, 600, 7):
        assert nightly_slot(place, first + 60 * minute, "01:30") == first


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe"])
def test_over_a_year_a_night_comes_every_23_to_25_hours(zone: str) -> None:
    place = city(zone, 30)
    moments = utc("2026-01-02T00:00") + np.arange(365 * 4) * 6 * 3600
    slots = np.unique([nightly_slot(place, moment) for moment in moments])
    apart = np.diff(slots) / np.timedelta64(3600, "s")
    assert 23 <= apart.min() < 24 < apart.max() <= 25
    assert abs(len(slots) - 365) <= 1


def test_what_was_missed_lies_between_the_ledger_and_now() -> None:
    place = city("UTC", 30)
    newest, due = utc("2026-05-01T10:00"), utc("2026-05-02T10:00")
    slots = missed("step", place, newest, due)
    assert [*slots] == [newest + 1800 * n for n in range(1, 48)]
    assert not len(missed("step", place, newest, newest))
    assert not len(missed("step", place, due, newest))  # the clock was set back
    assert not len(missed("step", place, None, due))
    nights = missed("nightly", place, utc("2026-04-28T02:00"), due_slot("nightly", place, due))
    assert [*nights] == [utc(f"{day}T02:00") for day in ("2026-04-29", "2026-04-30", "2026-05-01")]


@pytest.mark.parametrize("text", ["24:00", "2", "02:60", "two", "02:0", "-1:00", ""])
def test_what_is_no_time_of_day_is_one_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="write it like 02:00"):
        time_of_day(text)
