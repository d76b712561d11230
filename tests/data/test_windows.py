"""Windows, against a definition by brute force: sets of slot numbers."""

from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from data.city import City
from data.flow import label
from data.windows import future, missing, positions, rows, thin, whole

START = np.datetime64("2016-01-01T00:00", "s")
STEPS = [np.timedelta64(minutes * 60, "s") for minutes in (5, 30, 60, 1440)]
CELLS = np.arange(12).reshape(2, 2, 3)

present_slots = st.sets(st.integers(0, 60), min_size=1)
lag_lists = st.lists(st.integers(0, 12), unique=True, max_size=5)
horizons = st.integers(0, 5)
steps = st.sampled_from(STEPS)


def flow_at(numbers: set[int], step: np.timedelta64) -> xr.DataArray:
    """A flow whose vehicles tell the slot's number and the cell."""
    slots = np.array(sorted(numbers))
    city = City("toy", "Toy", "Asia/Shanghai", step, (2, 3))
    return label(100 * slots[:, None, None, None] + CELLS, START + slots * step, city)


def numbers_of(times: np.ndarray, step: np.timedelta64) -> list[int]:
    """The slot numbers of times, which must be the exact starts of slots."""
    assert ((times - START) % step == np.timedelta64(0, "s")).all()
    return [int(number) for number in (times - START) // step]


@given(present_slots, lag_lists, horizons, steps)
def test_every_whole_window_is_found_and_none_crosses_a_gap(
    present: set[int], lags: list[int], horizon: int, step: np.timedelta64
) -> None:
    expected = [
        slot
        for slot in sorted(present)
        if all(slot - lag in present for lag in lags)
        and all(slot + lead in present for lead in range(1, horizon + 1))
    ]
    assert numbers_of(whole(flow_at(present, step), lags, horizon), step) == expected


@given(present_slots, lag_lists, horizons, steps)
def test_a_future_holds_the_flow_of_exactly_its_times(
    present: set[int], lags: list[int], horizon: int, step: np.timedelta64
) -> None:
    flow = flow_at(present, step)
    init_times = whole(flow, lags, horizon)
    after = future(flow, init_times, horizon)
    assert after.dims == ("init_time", "lead_time", "channel", "y", "x")
    assert after["init_time"].values.tolist() == init_times.tolist()
    assert (after["lead_time"].values == np.arange(1, horizon + 1) * step).all()
    for at, init_time in enumerate(init_times):
        slot = int((init_time - START) // step)
        expected = [(100 * (slot + lead) + CELLS).tolist() for lead in range(1, horizon + 1)]
        assert after.values[at].tolist() == expected


@given(present_slots, st.integers(-5, 70), lag_lists, steps)
def test_missing_names_exactly_the_missing_slots_oldest_first(
    present: set[int], slot: int, lags: list[int], step: np.timedelta64
) -> None:
    absent = missing(flow_at(present, step), START + slot * step, lags)
    assert numbers_of(absent, step) == sorted(
        slot - lag for lag in lags if slot - lag not in present
    )


@given(
    st.sets(st.integers(0, 60)), st.lists(st.integers(-5, 70)), st.lists(st.integers(-9, 9)), steps
)
def test_a_position_is_where_the_slot_stands_and_minus_1_where_it_is_missing(
    present: set[int], slots: list[int], offsets: list[int], step: np.timedelta64
) -> None:
    stored = sorted(present)
    expected = [
        [stored.index(slot + offset) if slot + offset in present else -1 for offset in offsets]
        for slot in slots
    ]
    init_times = START + np.array(slots, dtype=np.int64) * step
    flow = flow_at(present or {0}, step)[: len(present)]
    found = positions(flow, init_times, np.array(offsets, dtype=np.int64))
    assert found.shape == (len(slots), len(offsets))
    assert found.tolist() == expected


@given(present_slots, st.lists(st.one_of(st.none(), st.integers(-5, 70)), max_size=6), steps)
def test_rows_are_where_times_stand_and_minus_1_where_there_is_none(
    present: set[int], slots: list[int | None], step: np.timedelta64
) -> None:
    stored = sorted(present)
    nat = np.datetime64("NaT", "s")
    times = np.array(
        [nat if slot is None else START + slot * step for slot in slots], "datetime64[s]"
    )
    expected = [stored.index(slot) if slot in present else -1 for slot in slots]
    assert rows(flow_at(present, step), times).tolist() == expected
    assert rows(flow_at(present, step), times[:, None]).tolist() == [[row] for row in expected]
    assert rows(flow_at(present, step)[:0], times).tolist() == [-1] * len(slots)


def test_an_empty_flow_has_no_windows_and_lacks_every_slot() -> None:
    flow = flow_at({0}, STEPS[1])[:0]
    assert len(whole(flow, [0, 1], 4)) == 0
    assert len(missing(flow, START, [0, 1, 2])) == 3


def test_the_attributes_travel_with_a_window() -> None:
    flow = flow_at({0, 1, 2}, STEPS[1])
    init_times = whole(flow, [0, 1], 1)
    assert future(flow, init_times, 1).attrs == flow.attrs


def days(first: str, last: str, timezone: str) -> xr.DataArray:
    """A flow of whole local days, each slot at the midnight of the city."""
    midnights = [day.replace(tzinfo=ZoneInfo(timezone)) for day in pd.date_range(first, last)]
    time = np.array([int(at.timestamp()) for at in midnights], dtype="datetime64[s]")
    city = City("toy", "Toy", timezone, np.timedelta64(1, "D"), (2, 3))
    return label(100 * np.arange(len(time))[:, None, None, None] + CELLS, time, city)


@given(
    timezone=st.sampled_from(["America/New_York", "Europe/London", "Australia/Lord_Howe"]),
    first=st.dates(pd.Timestamp("2015-01-01").date(), pd.Timestamp("2017-01-01").date()),
)
def test_days_of_23_and_25_hours_are_no_gaps(timezone: str, first: pd.Timestamp) -> None:
    last = pd.Timestamp(first) + pd.Timedelta(days=399)
    flow = days(str(first), str(last.date()), timezone)
    init_times = whole(flow, range(7), 2)
    assert len(init_times) == 400 - 6 - 2
    assert (init_times == flow["time"].values[6:-2]).all()
    # the next day stands one slot ahead, whether it has 23, 24 or 25 hours
    assert (future(flow, init_times, 1)[:, 0, 0, 0, 0] // 100 == np.arange(7, 399)).all()


def test_a_missing_day_is_a_gap_also_where_clocks_change() -> None:
    # clocks go forward on 13 March 2016: the slot of the 14th stands 47 hours after that of the 12th
    flow = days("2016-03-10", "2016-03-16", "America/New_York")
    hours = np.diff(flow["time"].values) / np.timedelta64(3600, "s")
    assert hours.tolist() == [24, 24, 24, 23, 24, 24]
    without = flow[[0, 1, 2, 4, 5, 6]]
    # the 11th and 12th (after the 10th, 11th), the 15th and 16th (after the 14th, 15th)
    assert (whole(without, [1], 0) == flow["time"].values[[1, 2, 5, 6]]).all()


@given(count=st.integers(0, 500), most=st.integers(1, 60), step=steps)
def test_thinned_windows_are_few_evenly_spread_and_of_all_times_of_day(
    count: int, most: int, step: np.timedelta64
) -> None:
    flow = flow_at({0}, step)
    init_times = START + np.arange(count) * step
    thinned = thin(flow, init_times, most)
    assert len(thinned) <= most
    strides = {int(one) for one in np.diff(thinned) // step}
    assert len(strides) <= 1
    assert all(np.gcd(stride, 86_400 // int(flow.attrs["step"])) == 1 for stride in strides)
    if count <= most:
        assert thinned.tolist() == init_times.tolist()
