"""Slots by UTC and by the wall clock, across the days on which clocks are moved."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.clock import Clock, utc, wall

NEW_YORK = "America/New_York"


def seconds(hours: float) -> np.timedelta64:
    return np.timedelta64(int(hours * 3600), "s")


def test_half_hours_go_on_in_utc_when_clocks_move() -> None:
    clock = Clock(seconds(0.5), NEW_YORK)
    # 13 March 2016: after 01:30 EST (06:30 UTC) comes 03:00 EDT (07:00 UTC).
    assert clock.after(np.datetime64("2016-03-13T06:30:00"), 1) == np.datetime64("2016-03-13T07:00")


@pytest.mark.parametrize(
    ("day", "next_day"),
    [
        ("2016-03-12T05:00:00", "2016-03-13T05:00:00"),
        ("2016-03-13T05:00:00", "2016-03-14T04:00:00"),  # a day of 23 hours
        ("2016-11-06T04:00:00", "2016-11-07T05:00:00"),  # a day of 25 hours
    ],
)
def test_days_begin_at_local_midnight(day: str, next_day: str) -> None:
    clock = Clock(seconds(24), NEW_YORK)
    assert clock.after(np.datetime64(day), 1) == np.datetime64(next_day)
    assert clock.after(np.datetime64(next_day), -1) == np.datetime64(day)
    assert clock.number(np.datetime64(next_day), np.datetime64(day)) == 1


@given(
    st.sampled_from([1.5, 2, 3, 4, 6, 8, 12, 24]),
    st.integers(-2000, 2000),
    st.sampled_from([NEW_YORK, "Asia/Shanghai", "Europe/Berlin"]),
)
def test_a_slot_s_time_has_the_slot_s_number(hours: float, number: int, zone: str) -> None:
    clock = Clock(seconds(hours), zone)
    origin = utc(np.datetime64("2016-01-01T00:00:00"), zone)
    time = clock.time(origin, np.asarray(number))
    shown = np.datetime64("2016-01-01T00:00:00") + number * clock.step
    skipped = wall(time, zone) != shown
    assert skipped or clock.number(time, origin) == number


def test_wall_time_that_is_shown_twice_is_the_first_and_skipped_the_moment_after() -> None:
    twice = utc(np.array(["2016-11-06T01:30:00"], "datetime64[s]"), NEW_YORK)
    assert twice.tolist() == np.array(["2016-11-06T05:30:00"], "datetime64[s]").tolist()
    skipped = utc(np.array(["2016-03-13T02:30:00"], "datetime64[s]"), NEW_YORK)
    assert skipped.tolist() == np.array(["2016-03-13T07:00:00"], "datetime64[s]").tolist()


@pytest.mark.parametrize(
    ("hours", "zone", "slots"),
    [
        (1, NEW_YORK, 1),
        (0.5, NEW_YORK, 2),
        (0.5, "Australia/Lord_Howe", 1),  # clocks are moved by half an hour
        (1, "Asia/Shanghai", 0),
        (0.5, "UTC", 0),
        (4, NEW_YORK, 0),  # long steps follow the clock themselves
    ],
)
def test_clocks_are_moved_by_so_many_slots(hours: float, zone: str, slots: int) -> None:
    # A week of winter: that clocks will be moved in its year is what counts.
    times = np.datetime64("2016-01-04", "s") + np.arange(3) * np.timedelta64(2, "D")
    assert Clock(seconds(hours), zone).moves(times) == slots


def test_clocks_that_were_moved_in_other_years_are_moved_no_more() -> None:
    # Russia has had one time all the year since October 2014.
    clock = Clock(seconds(1), "Europe/Moscow")
    assert clock.moves(np.array(["2010-02-01", "2010-03-01"], "datetime64[s]")) == 1
    assert clock.moves(np.array(["2016-02-01", "2016-03-01"], "datetime64[s]")) == 0
