"""What networks are shown of a city: live windows against training, and against nothing but dates."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from data.city import City
from data.weather import label_weather
from forecasting.covariates.config import PARTS, RAW_FLOW, CovariatesConfig
from forecasting.covariates.covariates import Covariates, NetworkInputs, fit_covariates
from forecasting.history import History

FlowOf = Callable[..., xr.DataArray]
HOUR = np.timedelta64(1, "h")
NEW_YORK = "America/New_York"
WEEK = 7 * 24
EVERYTHING = CovariatesConfig(**dict.fromkeys(PARTS, True))
LAGS, HORIZON = (3, 2, 1, 0), 4
TARGETS = (-2, -1, 0, 1, 2, 3, 4)


def without(name: str) -> CovariatesConfig:
    return dataclasses.replace(EVERYTHING, **{name: False})


def noise(slots: int, seed: int = 0) -> np.ndarray:
    hour = np.arange(slots)[:, None, None, None]
    mean = 20 + 15 * np.sin(hour * np.pi / 12) + 5 * np.arange(4).reshape(1, 2, 1, 2)
    return np.random.default_rng(seed).poisson(np.maximum(mean, 0))


@pytest.fixture(scope="module")
def flow(flow_of: FlowOf) -> xr.DataArray:
    """Thirteen weeks of New York from 4 January 2016, two holidays and moved clocks among them."""
    return flow_of(noise(13 * WEEK), "2016-01-04T05", NEW_YORK, country="US")


@pytest.fixture(scope="module")
def context(flow: xr.DataArray) -> Covariates:
    """All that follows from the flow, nothing switched off."""
    return fit_covariates(flow, EVERYTHING)[0]


def ahead(horizon: int) -> tuple[int, ...]:
    return tuple(range(-2, horizon + 1))


def shown(
    context: Covariates, flow: xr.DataArray, init_times: np.ndarray, horizon: int = HORIZON
) -> NetworkInputs:
    """What windows of a flow show a recurrent network of four slots."""
    return context.inputs(History.of(flow, init_times), LAGS, ahead(horizon), horizon)


def expected_at(context: Covariates, flow: xr.DataArray, time: np.datetime64) -> np.ndarray:
    """What is expected at a time of the weeks before it."""
    history = History.of(flow, flow["time"].values[-1:])
    return context.expected.at(history, np.array([[time]]), np.array([1]))[0, 0]


def at(flow: xr.DataArray, init_times: np.ndarray, offsets: tuple[int, ...]) -> np.ndarray:
    """Where the slots some steps after init_times stand, dims `(init_time, offset)`."""
    return np.searchsorted(flow["time"].values, init_times)[:, None] + np.array(offsets)


# Training and serving


def test_live_windows_show_what_training_showed(flow: xr.DataArray) -> None:
    # The last three weeks, with eight before them; clocks go forward on 13 March, ten weeks in.
    context, rows = fit_covariates(flow, EVERYTHING)
    init_times = flow["time"].values[9 * WEEK : -HORIZON : 5]
    seen = shown(context, flow, init_times)
    back = tuple(-lag for lag in LAGS)
    np.testing.assert_allclose(seen.frames, rows.frames[at(flow, init_times, back)], atol=1e-5)
    told = at(flow, init_times, TARGETS)
    np.testing.assert_allclose(seen.maps, rows.maps[told], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(seen.vector, rows.vector[told], atol=1e-6)
    # What the frames differ from is what outputs are added to.
    leads = at(flow, init_times, (1, 2, 3, 4))
    usual = flow.values - rows.frames * context.scale
    np.testing.assert_allclose(seen.base, usual[leads], atol=1e-3)
    assert (rows.maps.dtype, rows.frames.dtype) == (np.float16, np.float32)


@pytest.mark.parametrize("horizon", [30, 200])
def test_the_longest_lead_is_shown_in_training_what_it_is_shown_live(
    flow: xr.DataArray, horizon: int
) -> None:
    context, rows = fit_covariates(flow, EVERYTHING, horizon=horizon)
    init_times = flow["time"].values[10 * WEEK : 11 * WEEK : 17]
    seen = shown(context, flow, init_times, horizon)
    told = rows.maps[at(flow, init_times, ahead(horizon))]
    # Last week's and yesterday's difference: a nearer day would be a target of a shorter lead.
    last_week, yesterday = slice(2, 4), slice(4, 6)
    np.testing.assert_allclose(
        seen.maps[:, :, yesterday], told[:, :, yesterday], rtol=1e-3, atol=1e-3
    )
    if horizon < WEEK:
        np.testing.assert_allclose(
            seen.maps[:, :, last_week], told[:, :, last_week], rtol=1e-3, atol=1e-3
        )


def test_maps_tell_of_the_same_slot_a_week_and_a_day_before(
    flow: xr.DataArray, context: Covariates
) -> None:
    # 16 March, 12:00 EDT; a week before clocks showed 12:00 an hour later in UTC.
    init_time = np.datetime64("2016-03-16T16", "s")
    seen = shown(context, flow, np.array([init_time]))
    base = seen.base[0, 0]
    week, day = (
        flow.sel(time=np.datetime64(time)).values for time in ("2016-03-09T18", "2016-03-15T17")
    )
    np.testing.assert_allclose(seen.maps[0, 3, :2], np.sqrt(base / context.typical), rtol=1e-5)
    np.testing.assert_allclose(seen.maps[0, 3, 2:4], (week - base) / context.scale, rtol=1e-4)
    usual = expected_at(context, flow, np.datetime64("2016-03-15T17", "s"))
    np.testing.assert_allclose(
        seen.maps[0, 3, 4:6], (day - usual) / context.scale, rtol=1e-4, atol=1e-5
    )


def test_the_last_maps_tell_by_what_part_the_expected_flow_grows(
    flow: xr.DataArray, context: Covariates
) -> None:
    init_times = flow["time"].values[9 * WEEK : 9 * WEEK + 50]
    seen = shown(context, flow, init_times)
    before, after = (seen.base[:, lead] + context.scale for lead in (0, 1))
    np.testing.assert_allclose(seen.maps[:, 4, 6:], after / before - 1, rtol=1e-3, atol=1e-5)
    assert (seen.maps[..., 6:, :, :] >= 1 / 5 - 1).all()
    assert (seen.maps[..., 6:, :, :] <= 5 - 1).all()


def test_the_week_after_a_holiday_is_not_told_of_it(flow: xr.DataArray) -> None:
    context, rows = fit_covariates(flow, EVERYTHING)
    # 22 February, 12:00; a week before was Washington's Birthday, and the 21st a Sunday like others.
    init_time = np.datetime64("2016-02-22T16", "s")
    seen = shown(context, flow, np.array([init_time]))
    assert not seen.maps[0, 3, 2:4].any()
    assert seen.maps[0, 3, 4:].any()
    assert not rows.maps[at(flow, np.array([init_time]), (1,))[0, 0], 2:4].any()


def test_the_vector_tells_the_hour_and_the_holidays(
    flow: xr.DataArray, context: Covariates
) -> None:
    # At 06:00, after dawn, on Sunday, on the Monday of Washington's Birthday and on Tuesday.
    times = np.array(["2016-02-14T11", "2016-02-15T11", "2016-02-16T11"], "datetime64[s]")
    vector = context.vector(times, flow)
    # A quarter of the day: sine 1, cosine 0; half of the second wave: 0 and -1.
    np.testing.assert_allclose(vector[:, :4], [[1, 0, 0, -1]] * 3, atol=1e-6)
    # Whether yesterday, today and tomorrow are holidays, and whether today is worked in exchange.
    assert vector[:, 4:].tolist() == [[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]]


def test_the_night_belongs_to_the_day_before_and_a_bridge_to_the_holiday(
    flow: xr.DataArray, context: Covariates
) -> None:
    # 04:00 and 05:00 on the Monday of Washington's Birthday; the Friday after Thanksgiving.
    times = np.array(["2016-02-15T09", "2016-02-15T10", "2016-11-25T12"], "datetime64[s]")
    vector = context.vector(times, flow)
    assert vector[:, 4:].tolist() == [[0, 0, 1, 0], [0, 1, 0, 0], [1, 1, 0, 0]]


def test_a_weekend_that_is_worked_is_told(flow_of: FlowOf) -> None:
    flow = flow_of(noise(3), "2016-02-13T22", "Asia/Shanghai", country="CN")
    _, rows = fit_covariates(flow, EVERYTHING)
    # Sunday, 14 February 2016, was worked after seven days off.
    assert rows.vector[0, 4:].tolist() == [1, 0, 0, 1]


def test_numbers_stand_for_vehicles(flow: xr.DataArray) -> None:
    context, rows = fit_covariates(flow, RAW_FLOW)
    assert context.typical == pytest.approx(float(np.sqrt((flow.values.astype(float) ** 2).mean())))
    square = (flow.values.astype(float) ** 2).mean(axis=0)
    np.testing.assert_allclose(context.scale, np.sqrt(square + 0.01 * square.mean()), rtol=1e-5)
    np.testing.assert_allclose(rows.frames * context.scale, flow.values, rtol=1e-5, atol=1e-4)


def test_a_cell_without_any_flow_and_a_city_without_any_have_a_scale(flow_of: FlowOf) -> None:
    values = noise(9 * WEEK)
    values[..., 0] = 0
    context, rows = fit_covariates(flow_of(values), EVERYTHING)
    # A tenth of the root mean square of all cells is added, as a square.
    assert context.scale.min() ** 2 == pytest.approx(0.01 / 1.01 * (context.scale**2).mean())
    still, quiet = fit_covariates(flow_of([0] * 30), EVERYTHING)
    for one in (rows, quiet):
        assert np.isfinite(one.frames).all()
        assert np.isfinite(one.maps).all()
    assert (still.scale == 1).all()


# What is missing, and what is switched off


def test_an_optional_slot_that_is_missing_is_as_if_it_were_as_expected(
    flow: xr.DataArray, context: Covariates
) -> None:
    init_times = flow["time"].values[[10 * WEEK, 10 * WEEK + 9]]
    needed = np.unique(at(flow, init_times, tuple(-lag for lag in LAGS)))
    seen, whole = (shown(context, one, init_times) for one in (flow[needed], flow))
    assert not seen.maps[:, :, 2:6].any()
    times = init_times[:, None] + np.arange(1, 5) * HOUR
    np.testing.assert_allclose(seen.base, context.expected.climatology.expected(times), rtol=1e-5)
    np.testing.assert_array_equal(seen.vector, whole.vector)


@settings(max_examples=20)
@given(gone=st.sets(st.integers(0, 200), min_size=1, max_size=60))
def test_any_optional_slots_may_be_missing(
    flow: xr.DataArray, context: Covariates, gone: set[int]
) -> None:
    init_times = flow["time"].values[[10 * WEEK]]
    optional = sorted({*context.optional_lags(LAGS, TARGETS)} - {*LAGS})
    lost = init_times - np.array([optional[at % len(optional)] for at in gone]) * HOUR
    less = flow[~np.isin(flow["time"].values, lost)]
    seen, before = (shown(context, one, init_times) for one in (less, flow))
    assert all(np.isfinite(one).all() for one in seen)
    # The flow of the frames is what it was; only what is usual may be another.
    unusual = seen.frames * context.scale - before.frames * context.scale
    assert np.abs(unusual).max() < flow.values.max()


def parts_of(seen: NetworkInputs) -> dict[str, np.ndarray]:
    """The arrays that each part alone decides."""
    return {
        "expected": seen.maps[:, :, :2],
        "last_week": seen.maps[:, :, 2:4],
        "yesterday": seen.maps[:, :, 4:6],
        "growth": seen.maps[:, :, 6:],
        "hour": seen.vector[..., :4],
        "holiday": seen.vector[..., 4:],
    }


@pytest.mark.parametrize("name", ["expected", "last_week", "yesterday", "hour", "holiday"])
def test_a_part_that_is_switched_off_leaves_all_others_as_they_are(
    flow: xr.DataArray, name: str
) -> None:
    init_times = flow["time"].values[9 * WEEK : 9 * WEEK + 50]
    context, rows = fit_covariates(flow, EVERYTHING)
    whole = shown(context, flow, init_times)
    config = without(name)
    less, fewer = fit_covariates(flow, config)
    seen = shown(less, flow, init_times)
    gone = {name, "growth"} if name == "expected" else {name}
    kept = {key: value for key, value in parts_of(whole).items() if key not in gone}
    maps = [kept[key] for key in ("expected", "last_week", "yesterday", "growth") if key in kept]
    vector = [kept[key] for key in ("hour", "holiday") if key in kept]
    np.testing.assert_array_equal(seen.maps, np.concatenate(maps, axis=2))
    np.testing.assert_array_equal(seen.vector, np.concatenate(vector, axis=-1))
    np.testing.assert_array_equal(seen.frames, whole.frames)
    np.testing.assert_array_equal(seen.base, whole.base)
    assert fewer.maps.shape[1:] == seen.maps.shape[2:]
    assert config.maps == seen.maps.shape[2]
    assert less.features == seen.vector.shape[-1] == fewer.vector.shape[-1]
    assert rows.frames.shape == fewer.frames.shape


def test_without_anomalies_frames_are_the_flow_itself(flow: xr.DataArray) -> None:
    init_times = flow["time"].values[9 * WEEK : 9 * WEEK + 50]
    context, rows = fit_covariates(flow, without("anomaly"))
    seen = shown(context, flow, init_times)
    back = flow.values[at(flow, init_times, (-3, -2, -1, 0))]
    np.testing.assert_allclose(seen.frames * context.scale, back, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(rows.frames * context.scale, flow.values, rtol=1e-5, atol=1e-4)
    assert not seen.base.any()
    other, _ = fit_covariates(flow, EVERYTHING)
    whole = shown(other, flow, init_times)
    np.testing.assert_array_equal(seen.vector, whole.vector)
    np.testing.assert_allclose(
        seen.maps[:, :, 2:] * np.tile(context.scale, (2, 1, 1)),
        whole.maps[:, :, 2:6] * np.tile(other.scale, (2, 1, 1)),
        rtol=1e-4,
        atol=1e-3,
    )


def test_places_change_nothing_that_is_shown(flow: xr.DataArray) -> None:
    init_times = flow["time"].values[9 * WEEK : 9 * WEEK + 5]
    whole, less = (
        shown(fit_covariates(flow, config)[0], flow, init_times)
        for config in (EVERYTHING, without("place"))
    )
    for one, other in zip(whole, less, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_plain_sees_frames_and_looks_for_nothing(flow: xr.DataArray) -> None:
    assert RAW_FLOW.raw_flow
    assert not any(dataclasses.replace(RAW_FLOW, **{name: True}).raw_flow for name in PARTS)
    context, rows = fit_covariates(flow, RAW_FLOW)
    assert context.optional_lags(LAGS, TARGETS) == ()
    seen = shown(context, flow, flow["time"].values[[5, 6]])
    assert (seen.maps.size, seen.vector.size, seen.base.any()) == (0, 0, False)
    assert (rows.maps.size, rows.vector.size) == (0, 0)


def test_parts_are_switched_off_and_on_by_name() -> None:
    some = dataclasses.replace(EVERYTHING, last_week=False)
    config = some.changed(without=["hour", "place"], also=["last_week"])
    assert config == dataclasses.replace(EVERYTHING, hour=False, place=False)
    assert CovariatesConfig.without("hour") == without("hour")


def test_a_city_with_few_weeks_is_not_shown_what_it_would_learn_by_heart() -> None:
    few, many = CovariatesConfig.for_windows(3000), CovariatesConfig.for_windows(100_000)
    assert (few.last_week, few.weather) == (False, False)
    assert many == EVERYTHING == dataclasses.replace(few, last_week=True, weather=True)


def test_a_part_that_there_is_not_is_told() -> None:
    with pytest.raises(ValueError, match="no covariate 'color'; there is anomaly, expected"):
        CovariatesConfig.without("hour", "color")


# Weather


def weather_of(values: object, start: str, variables: list[str]) -> xr.DataArray:
    """Weather of which a record becomes known every six hours."""
    records = np.asarray(values, dtype=float).reshape(-1, len(variables))
    time = np.datetime64(start, "s") + np.arange(len(records)) * 6 * HOUR
    city = City("toy", "Toy", NEW_YORK, HOUR, (1, 2))
    return label_weather(records, time, variables, city)


def test_the_newest_weather_is_told_in_standard_deviations(flow: xr.DataArray) -> None:
    # Rain 1 and 3 by turns: mean 2, standard deviation 1; what never changes tells nothing.
    values = [[1 + 2 * (n % 2), 7] for n in range(13 * 7 * 4)]
    weather = weather_of(values, "2016-01-04T05", ["rain", "fog"])
    context, rows = fit_covariates(flow, EVERYTHING, weather)
    assert context.weather == (("rain", 2.0, 1.0),)
    assert context.features == 4 + 4 + 1
    assert rows.vector.shape == (len(flow), 8)  # the same for all steps of a window, it comes later
    init_times = flow["time"].values[10 * WEEK : 10 * WEEK + 12]
    seen = context.inputs(History.of(flow, init_times), LAGS, TARGETS, HORIZON, weather)
    # 1680 hours are 280 records: 1 until a sixth hour has gone by, then 3.
    assert seen.vector[:, :, 8].tolist() == [[-1.0] * 7] * 6 + [[1.0] * 7] * 6
    later = weather.copy()
    later[weather["time"].values > init_times[0]] = 50
    again = context.inputs(History.of(flow, init_times[:1]), LAGS, TARGETS, HORIZON, later)
    np.testing.assert_array_equal(again.vector, seen.vector[:1])


def test_weather_that_is_not_known_or_beyond_belief_is_told_as_such(flow: xr.DataArray) -> None:
    weather = weather_of([1, 3] * 60, "2016-01-04T05", ["rain"])
    context, _ = fit_covariates(flow, EVERYTHING, weather)
    late = np.array(["2016-01-04T04", "2016-01-04T05", "2016-03-01T00"], "datetime64[s]")
    assert context.known_weather(weather, late)[:, 0].tolist() == [0, -1, 0]
    assert context.known_weather(1e9 * weather, late[[1]])[0, 0] == 4
    assert context.known_weather(None, late).tolist() == [[0], [0], [0]]
    other = weather_of([1, 3], "2016-01-04T05", ["wind"])
    assert context.known_weather(other, late).tolist() == [[0], [0], [0]]


def test_without_weather_none_is_learnt(flow: xr.DataArray) -> None:
    weather = weather_of([1, 3] * 60, "2016-01-04T05", ["rain"])
    less, _ = fit_covariates(flow, without("weather"), weather)
    none, _ = fit_covariates(flow, EVERYTHING)
    before = weather_of([1, 3] * 60, "2012-01-01", ["rain"])
    early, _ = fit_covariates(flow, EVERYTHING, before)
    assert less.weather == none.weather == early.weather == ()
    assert less.features == none.features == 8


# Nothing but the past


@pytest.mark.parametrize("horizon", [4, 30, WEEK - 1, WEEK, WEEK + 30])
def test_a_stack_equals_its_windows_and_no_later_one_counts(
    flow: xr.DataArray, horizon: int
) -> None:
    context, _ = fit_covariates(flow[: 4 * WEEK], EVERYTHING)
    # Before and after clocks go forward on 13 March at 07:00 UTC.
    forward = np.datetime64("2016-03-13T07", "s")
    init_times = forward + np.array([-200, -30, -1, 0, 100, 190]) * HOUR
    stack = shown(context, flow, init_times, horizon)
    for number, init_time in enumerate(init_times):
        other = flow.copy()
        other[flow["time"].values > init_time] += 500
        single = shown(context, other, init_times[[number]], horizon)
        for one, many in zip(single, stack, strict=True):
            np.testing.assert_allclose(one[0], many[number], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("horizon", [1, 24, WEEK, 2 * WEEK])
def test_no_slot_that_is_looked_for_lies_in_the_future(flow: xr.DataArray, horizon: int) -> None:
    context, _ = fit_covariates(flow[: 4 * WEEK], EVERYTHING)
    lags = context.optional_lags(LAGS, ahead(horizon))
    assert min(lags) >= 0
    assert list(lags) == sorted(set(lags), reverse=True)


def test_a_day_ahead_yesterday_is_the_newest_day_that_is_known(flow_of: FlowOf) -> None:
    flow = flow_of(noise(11 * WEEK))
    context, _ = fit_covariates(flow, EVERYTHING)
    init_time = flow["time"].values[10 * WEEK]
    seen = shown(context, flow, np.array([init_time]), 50)
    for lead, days in ((1, 1), (24, 1), (25, 2), (48, 2), (49, 3)):
        time = init_time + (lead - 24 * days) * HOUR
        usual = expected_at(context, flow, time)
        unusual = (flow.sel(time=time).values - usual) / context.scale
        np.testing.assert_allclose(seen.maps[0, 2 + lead, 4:6], unusual, rtol=1e-4, atol=1e-5)
