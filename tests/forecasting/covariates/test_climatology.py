from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from forecasting.covariates.climatology import Climatology, calendar

FlowOf = Callable[..., xr.DataArray]
HALF_DAY = np.timedelta64(12, "h")
MONDAY = "2016-01-04"
NEW_YORK = "America/New_York"


def at(climatology: Climatology, *times: str) -> list[float]:
    """What is expected in the first cell."""
    return climatology.expected(np.array(times, "datetime64[s]"))[:, 0, 0, 0].tolist()


def test_the_mean_is_that_of_the_same_weekday_and_slot(flow_of: FlowOf) -> None:
    # Two Mondays of two slots, six days between.
    flow = flow_of([1, 10, *[100] * 12, 3, 30], MONDAY, step=HALF_DAY)
    climatology = Climatology.fit(flow)
    assert at(climatology, "2016-01-18T00", "2016-01-18T12", "2016-01-19T00") == [2, 20, 100]
    assert climatology.count[0].tolist() == [2, 2]
    assert climatology.count[1:].tolist() == [[1, 1]] * 6


def test_channels_and_cells_are_kept_apart(flow_of: FlowOf) -> None:
    values = np.arange(2 * 2 * 2 * 3).reshape(2, 2, 2, 3)
    climatology = Climatology.fit(flow_of(values, MONDAY, step=HALF_DAY))
    assert climatology.mean.shape == (7, 2, 2, 2, 3)
    assert np.array_equal(climatology.mean[0], values)


def test_a_weekday_never_seen_is_the_mean_of_its_slot_over_the_other_days(flow_of: FlowOf) -> None:
    # Monday 1 and 10, Tuesday 5 and 30: Wednesday was never seen.
    climatology = Climatology.fit(flow_of([1, 10, 5, 30], MONDAY, step=HALF_DAY))
    assert at(climatology, "2016-01-06T00", "2016-01-06T12") == [3, 20]


def test_a_filled_slot_weighs_slots_not_weekdays(flow_of: FlowOf) -> None:
    # Monday twice with 1, the other days once with 7, but for Sunday, which is missing.
    flow = flow_of([1, *[7] * 5, 99, 1], MONDAY, step=np.timedelta64(1, "D"))
    flow = flow.isel(time=[0, 1, 2, 3, 4, 5, 7])
    assert at(Climatology.fit(flow), "2016-01-17") == pytest.approx([(2 * 1 + 5 * 7) / 7])


def test_a_slot_never_seen_on_any_day_is_the_mean_of_all(flow_of: FlowOf) -> None:
    flow = flow_of([2, 4, 9], MONDAY)
    assert at(Climatology.fit(flow), "2016-01-04T17", "2016-01-09T03") == [5, 5]


def test_weekday_and_slot_are_those_of_the_citys_wall_clock() -> None:
    # 03:00 UTC on Monday is 22:00 on Sunday in New York.
    weekday, slot = calendar(np.array(["2016-01-04T03:30"], "datetime64[s]"), NEW_YORK, 1800)
    assert (weekday.tolist(), slot.tolist()) == ([6], [45])


def test_the_wall_clock_goes_through_daylight_saving(flow_of: FlowOf) -> None:
    # New York is at UTC-5 until 13 March 2016, 02:00, then at UTC-4.
    before, after = "2016-03-07T13", "2016-03-14T12"  # Mondays, 08:00 each
    times = np.array([before, after], "datetime64[s]")
    weekday, slot = calendar(times, NEW_YORK, 3600)
    assert weekday.tolist() == [0, 0]
    assert slot.tolist() == [8, 8]
    flow = flow_of(range(14 * 24), "2016-03-01T05", NEW_YORK)
    climatology = Climatology.fit(flow)
    both = flow.sel(time=times).values.mean()
    assert at(climatology, before, after) == [both, both]


def test_the_hour_that_daylight_saving_skips_is_not_counted(flow_of: FlowOf) -> None:
    # The whole of Sunday 13 March, 05:00 UTC to 04:00 UTC, has 23 hours.
    climatology = Climatology.fit(flow_of([1] * 23, "2016-03-13T05", NEW_YORK))
    assert climatology.count[6].tolist() == [1, 1, 0, *[1] * 21]
    assert climatology.count[:6].sum() == 0


def test_expected_flow_has_the_shape_of_the_times(flow_of: FlowOf) -> None:
    climatology = Climatology.fit(flow_of(np.ones((48, 2, 3, 4)), MONDAY))
    times = np.datetime64(MONDAY, "s") + np.arange(6).reshape(2, 3) * np.timedelta64(1, "h")
    assert climatology.expected(times).shape == (2, 3, 2, 3, 4)
    assert climatology.expected(times[:, :0]).shape == (2, 0, 2, 3, 4)


@given(cuts=st.lists(st.integers(1, 59), max_size=4, unique=True).map(sorted))
def test_the_climatology_is_the_same_to_the_bit_however_the_flow_is_cut(
    flow_of: FlowOf, cuts: list[int]
) -> None:
    values = np.random.default_rng(0).random((60, 2, 2, 3)) * 1e3
    flow = flow_of(values, MONDAY, NEW_YORK, HALF_DAY)
    ends = [0, *cuts, 60]
    pieces = Climatology.fit_pieces(flow[a:b] for a, b in pairwise(ends))
    whole = Climatology.fit(flow)
    assert np.array_equal(pieces.mean, whole.mean)
    assert np.array_equal(pieces.count, whole.count)
