"""What is usual, against an average by dates that is worked out here, week by week."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from statistics import median
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from data.holidays import HOLIDAY, ORDINARY
from forecasting.covariates.climatology import Climatology
from forecasting.covariates.day_types import BRIDGE, day_types, substitute_weekdays
from forecasting.covariates.expected import LEAST, Expected
from forecasting.history import History

FlowOf = Callable[..., xr.DataArray]
HOUR = np.timedelta64(1, "h")
DAY = np.timedelta64(1, "D")
NEW_YORK, SHANGHAI = "America/New_York", "Asia/Shanghai"
WEEK = 7 * 24
# New Year's Day, Martin Luther King's and Washington's Birthday.
AMERICAN = {date(2016, 1, 1), date(2016, 1, 18), date(2016, 2, 15)}
# The Spring Festival, for which a Saturday and a Sunday were worked, and the days around New Year.
CHINESE = {date(2016, 1, 1), *(date(2016, 2, day) for day in range(7, 14))}
WORKED = {date(2016, 2, 6), date(2016, 2, 14)}


def noise(slots: int, seed: int = 0, grid: tuple[int, int] = (1, 2)) -> np.ndarray:
    """Counts with a few that lie far off."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(20, (slots, 2, *grid))
    return np.where(rng.random(counts.shape) < 0.03, 30 * counts, counts)


def moment(time: np.datetime64) -> datetime:
    return datetime.fromtimestamp(int(time.astype("datetime64[s]").astype(int)), UTC)


def by_dates(
    flow: xr.DataArray,
    usual: Climatology,
    time: np.datetime64,
    first: int = 1,
    off: frozenset[date] | set[date] = frozenset(),
    worked: frozenset[date] | set[date] = frozenset(),
) -> np.ndarray:
    """The usual flow `(channel, y, x)` at a time, one cell after another, by dates and medians."""
    zone = ZoneInfo(str(flow.attrs["timezone"]))
    stored = dict(zip(flow["time"].values.tolist(), range(len(flow)), strict=True))
    shown = moment(time).astimezone(zone).replace(tzinfo=None)
    # A day of traffic begins at 05:00, by the middle of a slot.
    early = timedelta(hours=5) - timedelta(seconds=int(flow.attrs["step"])) / 2
    found, ages = [], []
    for week in range(first, first + 8):
        then = (shown - timedelta(days=7 * week)).replace(tzinfo=zone)
        at = stored.get(then.astimezone(UTC).replace(tzinfo=None))
        if at is not None and (then.replace(tzinfo=None) - early).date() not in off | worked:
            found.append(flow.values[at].astype(float))
            ages.append((moment(time) - then.astimezone(UTC)) / timedelta(days=7))
    instead = usual.expected(np.array([time]))[0]
    result = np.empty(flow.shape[1:])
    for cell in np.ndindex(result.shape):
        values = [frame[cell] for frame in found]
        total = weight = float(max(0, LEAST - len(values)))
        total *= instead[cell]
        if values:
            middle = median(values)
            spread = 1.4826 * median(abs(value - middle) for value in values) + (middle + 1) ** 0.5
        for value, age in zip(values, ages, strict=True):
            drawn = min(max(value, middle - spread), middle + spread)
            total += 0.5 ** (age / 6) * drawn
            weight += 0.5 ** (age / 6)
        result[cell] = total / weight
    day = (shown - early).date()
    if day in off | worked:
        kin = ((0 if day in worked else 6) + (shown.date() - day).days) % 7
        slot = (shown.hour * 3600 + shown.minute * 60) // int(flow.attrs["step"])
        result = (result + usual.mean[kin, slot]) / 2
    return result


def expected_at(
    expected: Expected,
    flow: xr.DataArray,
    times: np.ndarray,
    first: np.ndarray | int = 1,
    init_time: np.datetime64 | None = None,
) -> np.ndarray:
    """What one forecast expects at times `(k,)`; it is made from the end of the flow if None."""
    newest = flow["time"].values[-1] if init_time is None else init_time
    history = History.of(flow, np.array([newest]))
    return expected.at(history, times[None], np.asarray(first))[0]


def assert_by_dates(
    flow: xr.DataArray, times: np.ndarray, first: int = 1, **days: set[date]
) -> None:
    expected = Expected.fit(flow)
    ours = expected_at(expected, flow, times, first)
    theirs = [by_dates(flow, expected.climatology, time, first, **days) for time in times]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)


# The weeks before


def test_hours_across_daylight_saving_are_those_of_the_clock(flow_of: FlowOf) -> None:
    # From 4 January on; clocks go forward on 13 March at 02:00, ten weeks later.
    flow = flow_of(noise(12 * WEEK), "2016-01-04T05", NEW_YORK)
    assert_by_dates(flow, flow["time"].values[-3 * WEEK :: 5])


def test_half_hours_where_clocks_go_back(flow_of: FlowOf) -> None:
    # Clocks go back on 6 November: the hour from 01:00 on comes twice, and the first counts.
    flow = flow_of(noise(22 * WEEK), "2016-09-05T04", NEW_YORK, np.timedelta64(30, "m"))
    twice = flow["time"].values >= np.datetime64("2016-11-06T04")
    assert_by_dates(flow, flow["time"].values[twice][: 2 * WEEK + 8 : 5])


def test_steps_longer_than_an_hour_follow_the_clock(flow_of: FlowOf) -> None:
    midnights = np.datetime64("2016-01-04T05", "s") + np.arange(90) * DAY
    midnights[70:] -= HOUR  # from 14 March on
    flow = flow_of(noise(90), step=DAY).assign_coords(time=midnights)
    flow.attrs["timezone"] = NEW_YORK
    assert_by_dates(flow, flow["time"].values[-20:])
    assert_by_dates(flow, flow["time"].values[-20:], first=3)


@pytest.mark.parametrize("kept", [0.7, 0.3])
def test_slots_that_are_missing_are_not_counted(flow_of: FlowOf, kept: float) -> None:
    flow = flow_of(noise(11 * WEEK), "2016-01-04T05", NEW_YORK)
    there = np.random.default_rng(1).random(11 * WEEK) < kept
    # Of eight weeks 2.4 are there in the mean: the usual flow stands in for what lacks to four.
    assert_by_dates(flow[there], flow["time"].values[-WEEK::3])


def test_what_lies_further_ahead_is_known_from_older_weeks(flow_of: FlowOf) -> None:
    flow = flow_of(noise(12 * WEEK), "2016-01-04T05", NEW_YORK)
    later = flow["time"].values[-1] + np.arange(1, 200, 14) * HOUR
    for first in (1, 2, 3):
        assert_by_dates(flow, later, first)


def test_a_day_between_a_holiday_and_a_weekend_lies_halfway_to_a_sunday(flow_of: FlowOf) -> None:
    # Thanksgiving was Thursday, 24 November 2016; nothing else was a holiday then.
    flow = flow_of(noise(12 * WEEK), "2016-09-13T04", NEW_YORK, country="US")
    off = {date(2016, 10, 10), date(2016, 11, 11), date(2016, 11, 24), date(2016, 11, 25)}
    times = flow["time"].values[flow["time"].values >= np.datetime64("2016-11-23T05")]
    assert_by_dates(flow, times[:120:3], off=off)


def test_bridges_and_the_kin_of_holidays_follow_the_weekend_of_the_country(flow_of: FlowOf) -> None:
    # Passover of 2024 begins on Tuesday 23 April; Israel works on Sundays and Mondays.
    israel = flow_of(noise(10), "2024-04-18T21", "Asia/Jerusalem", country="IL")
    days = np.arange("2024-04-19", "2024-04-25", dtype="datetime64[D]")
    assert day_types(israel, days).tolist() == [ORDINARY] * 4 + [HOLIDAY, ORDINARY]
    assert substitute_weekdays(israel) == (5, 6)
    # Independence Day of 2019 was a Thursday.
    america = flow_of(noise(10), "2019-07-01T04", NEW_YORK, country="US")
    days = np.arange("2019-07-03", "2019-07-07", dtype="datetime64[D]")
    assert day_types(america, days).tolist() == [ORDINARY, HOLIDAY, BRIDGE, ORDINARY]
    assert substitute_weekdays(america) == (6, 0)


def test_holidays_are_left_out_and_lie_halfway_to_a_sunday(flow_of: FlowOf) -> None:
    flow = flow_of(noise(10 * WEEK), "2015-12-28T05", NEW_YORK, country="US")
    # The three Mondays have one or two holidays before them; the 15th of February is one itself.
    for day in ("2016-02-08", "2016-02-15", "2016-02-22"):
        start = np.datetime64(f"{day}T05", "s")
        assert_by_dates(flow, start + np.arange(0, 24, 3) * HOUR, off=AMERICAN)


def test_worked_weekends_lie_halfway_to_a_monday(flow_of: FlowOf) -> None:
    flow = flow_of(noise(11 * WEEK), "2015-12-28T16", SHANGHAI, country="CN")
    days = [np.datetime64("2016-02-05T16", "s") + n * DAY for n in (0, 1, 4, 8, 9, 15)]
    times = np.concatenate([day + np.arange(0, 24, 3) * HOUR for day in days])
    assert_by_dates(flow, times, off=CHINESE, worked=WORKED)


def test_an_average_by_hand(flow_of: FlowOf) -> None:
    # Mondays 10, 20, 30, 40: within 1.4826 * 10 + root(26) of 25, so none is drawn in.
    flow = flow_of([v for monday in (10, 20, 30, 40) for v in (monday, *[5] * 6)], step=DAY)
    weight = [0.5 ** (weeks / 6) for weeks in (4, 3, 2, 1)]
    mean = sum(w * v for w, v in zip(weight, (10, 20, 30, 40), strict=True)) / sum(weight)
    expected = Expected.fit(flow)
    ours = expected_at(expected, flow, np.array(["2016-02-01"], "datetime64[s]"))
    assert ours[0, 0, 0, 0] == pytest.approx(mean)
    assert ours[0, 0, 0, 0] == pytest.approx(26.44, abs=0.005)


def test_a_storm_of_one_week_moves_what_is_expected_little(flow_of: FlowOf) -> None:
    calm = flow_of([100] * 56, step=DAY)
    times = calm["time"].values[-7:] + 7 * DAY
    for storm in (0, 1000):
        flow = calm.copy()
        flow[-7:] = storm
        moved = expected_at(Expected.fit(calm), flow, times)
        # Drawn in to 100 -+ root(101), and one week of eight at most a fifth of the weight.
        assert 0 < np.abs(moved - 100).max() < 0.2 * 101**0.5
        assert np.abs(moved - 100).min() > 1


# Nothing but the past


@pytest.fixture(scope="module")
def city(flow_of: FlowOf) -> xr.DataArray:
    """Fourteen weeks of New York, with three holidays, whose clocks go forward in the eleventh."""
    return flow_of(noise(14 * WEEK, grid=(1, 1)), "2016-01-01T05", NEW_YORK, country="US")


@settings(max_examples=40)
@given(
    newest=st.integers(0, 14 * WEEK - 1),
    offsets=st.lists(st.integers(-30, 3 * WEEK), min_size=1, max_size=5),
    seed=st.integers(0, 9),
)
def test_nothing_after_the_slot_of_a_forecast_counts(
    city: xr.DataArray, newest: int, offsets: list[int], seed: int
) -> None:
    expected = Expected.fit(city[: 2 * WEEK])
    ahead = np.array(offsets)
    times = city["time"].values[newest] + ahead * HOUR
    first = expected.first(ahead)
    known = city[: newest + 1]
    newest_time = city["time"].values[newest]
    ours = expected_at(expected, known, times, first)
    other = city.copy(data=noise(14 * WEEK, seed + 1, (1, 1)).astype(np.float32))
    other[: newest + 1] = known.values
    np.testing.assert_array_equal(expected_at(expected, other, times, first, newest_time), ours)
    # Of the past it needs no more than the slots that it names.
    named = [newest - lag for lag in sorted(expected.lags(ahead), reverse=True) if lag <= newest]
    if named:
        less = expected_at(expected, city[named], times, first, newest_time)
        np.testing.assert_array_equal(less, ours)


@settings(max_examples=40)
@given(
    step=st.sampled_from([HOUR, 4 * HOUR, DAY]),
    slots=st.integers(1, 300),
    gaps=st.sets(st.integers(0, 299), max_size=60),
    slot=st.integers(0, 299),
    country=st.sampled_from(["", "US"]),
)
def test_a_slot_is_never_in_what_is_expected_of_it(
    flow_of: FlowOf, step: np.timedelta64, slots: int, gaps: set[int], slot: int, country: str
) -> None:
    # From Christmas on: Saturdays and Sundays among the first days are no holidays.
    flow = flow_of(noise(slots), "2015-12-21T05", NEW_YORK, step, country=country)
    kept = [at for at in range(slots) if at not in gaps or at == slot % slots]
    flow, at = flow[kept], kept.index(slot % slots)
    changed = flow.copy()
    changed[at] += 1000
    before, after = (Expected.fit(one).series(one) for one in (flow, changed))
    np.testing.assert_array_equal(after[at], before[at])


def test_a_series_is_what_forecasts_knew_where_eight_weeks_lie_before(city: xr.DataArray) -> None:
    expected = Expected.fit(city)
    later = slice(9 * WEEK, None)
    ours = expected.series(city)[later]
    live = expected_at(expected, city, city["time"].values[later])
    np.testing.assert_allclose(ours, live, rtol=1e-6)


def test_in_the_first_weeks_of_a_series_those_after_stand_in(flow_of: FlowOf) -> None:
    # Three weeks of 10, 20 and 30. The first sees 20 and 30, and for the two that lack to four
    # the mean of its slot over all other days; all lie within root(26) + 7 of 25.
    flow = flow_of([10] * 7 + [20] * 7 + [30] * 7, step=DAY)
    near, far = 0.5 ** (1 / 6), 0.5 ** (2 / 6)
    others = [(420 - own) / 20 for own in (10, 20, 30)]
    first = (near * 20 + far * 30 + 2 * others[0]) / (near + far + 2)
    second = (near * 10 + near * 30 + 2 * others[1]) / (near + near + 2)
    third = (near * 20 + far * 10 + 2 * others[2]) / (near + far + 2)
    series = Expected.fit(flow).series(flow)[:, 0, 0, 0]
    assert series[::7].tolist() == pytest.approx([first, second, third])


def test_a_flow_of_nothing_but_holidays_has_something_usual(flow_of: FlowOf) -> None:
    flow = flow_of([7] * 5, "2016-02-07T16", SHANGHAI, DAY, country="CN")
    expected = Expected.fit(flow)
    assert expected.climatology.mean == pytest.approx(7)
    assert expected.series(flow) == pytest.approx(7)


def test_without_any_slot_that_is_known_the_usual_flow_is_expected(flow_of: FlowOf) -> None:
    flow = flow_of(noise(2 * WEEK))
    expected = Expected.fit(flow)
    times = flow["time"].values[:5] + 20 * 7 * DAY
    for known in (flow, flow[:0]):
        ours = expected_at(expected, known, times, 1, times[0])
        np.testing.assert_allclose(ours, expected.climatology.expected(times), rtol=1e-6)


def test_what_is_usual_at_last_are_the_ordinary_days_of_the_last_weeks(flow_of: FlowOf) -> None:
    # 18 weeks of 1, then 8 of 3, of which Memorial Day, the 30th of May 2016, is 99.
    flow = flow_of([1] * 18 * 7 + [3] * 8 * 7, "2016-01-03T04", NEW_YORK, DAY, country="US")
    flow[flow["time"].values == np.datetime64("2016-05-30T04")] = 99
    assert np.unique(Expected.fit(flow).climatology.mean).tolist() == [3]


def test_the_slots_of_weeks_are_looked_for_around_where_clocks_may_be_moved(
    flow_of: FlowOf,
) -> None:
    shanghai = Expected.fit(flow_of([1, 2], "2016-01-04", SHANGHAI))
    assert shanghai.lags(np.array([1])) == {week * WEEK - 1 for week in range(1, 9)}
    new_york = Expected.fit(flow_of([1, 2], "2016-01-04", NEW_YORK))
    weeks = [week * WEEK - 1 for week in range(1, 9)]
    assert new_york.lags(np.array([1])) == {lag + by for lag in weeks for by in (-1, 0, 1)}
    # A week ahead the newest slot that is known lies two weeks before where clocks may be moved.
    assert shanghai.first(np.array([-3, 1, WEEK, WEEK + 1])).tolist() == [1, 1, 1, 2]
    assert new_york.first(np.array([-3, 1, WEEK - 1, WEEK])).tolist() == [1, 1, 1, 2]
