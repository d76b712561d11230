"""Prediction intervals hold what they promise of days like those of their calibration, and follow changes."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from data import windows
from data.city import load_city
from data.flow import label
from forecasting.baselines import Persistence
from forecasting.history import History
from forecasting.intervals.conformal import PredictionIntervals, calibrated
from forecasting.intervals.residuals import BEGINS, BIN_EDGES, bins, levels

HOUR = np.timedelta64(1, "h")
START = np.datetime64("2016-01-04T00:00", "s")
COVERAGES = (0.5, 0.8, 0.95)


def stack(values: np.ndarray, start: np.datetime64 = START) -> xr.DataArray:
    """Hourly forecasts, or what came, of values `(init_time, lead_time, channel, y, x)`."""
    init_time = start + np.arange(len(values)) * HOUR
    leads = np.arange(1, values.shape[1] + 1) * HOUR
    return xr.DataArray(
        values.astype(np.float32),
        dims=("init_time", "lead_time", "channel", "y", "x"),
        coords={
            "init_time": init_time,
            "lead_time": leads,
            "valid_time": (("init_time", "lead_time"), init_time[:, None] + leads),
        },
        attrs={"timezone": "UTC", "step": 3600},
    )


def drawn(
    rng: np.random.Generator, windows: int, lead: int = 1, worse: float = 1
) -> tuple[xr.DataArray, xr.DataArray]:
    """Forecasts from 1 to 400 vehicles and counts that vary by more than chance around them."""
    flow = np.exp(rng.uniform(0, 6, (windows, lead, 2, 5, 5)))
    spoilt = rng.gamma(9 / worse**2, worse**2 / 9, flow.shape)
    return stack(flow), stack(rng.poisson(flow * spoilt))


def held(
    bands: PredictionIntervals, forecast: xr.DataArray, observed: xr.DataArray, lowest: float = 0
) -> np.ndarray:
    """The share of what came that lies within, by coverage, where the forecast is above `lowest`."""
    around = bands.around(forecast)
    lower, upper = around.sel(edge="lower").values, around.sel(edge="upper").values
    came = observed.values
    return ((lower <= came) & (came <= upper))[:, forecast.values >= lowest].mean(axis=1)


def test_bands_hold_what_they_promise_of_exchangeable_scores() -> None:
    rng = np.random.default_rng(0)
    bands = PredictionIntervals.empty(1).scored(*drawn(rng, 400))
    forecast, observed = drawn(rng, 2000)
    np.testing.assert_allclose(held(bands, forecast, observed), COVERAGES, atol=0.01)
    for lowest, highest in ((10, 30), (30, 100), (100, 400)):
        around = bands.around(forecast).values
        flow, came = forecast.values, observed.values
        level = (flow >= lowest) & (flow < highest)
        within = ((around[:, 0] <= came) & (came <= around[:, 1]))[:, level].mean(axis=1)
        # 20,000 scores or so made the bands, and twice as many test them: 1.5 points is four sigma.
        np.testing.assert_allclose(within, COVERAGES, atol=0.015)


def test_one_more_score_lies_within_with_the_probability_promised() -> None:
    rng = np.random.default_rng(1)
    inside = np.zeros(3)
    for _ in range(100):
        # 39 scores and one more of a level: (39 + 1) * 0.95 = 38 of them must lie within.
        flow = np.full((40, 1, 1, 1, 1), 200.0)
        came = stack(np.maximum(rng.normal(200, 20, flow.shape), 0))
        made = PredictionIntervals.empty(1, half_life=np.inf).scored(stack(flow[1:]), came[1:])
        inside += held(made, stack(flow[:1]), came[:1])
    share = inside / 100
    # Not below the promise by more than three sigma of 100 draws, nor far above it.
    sigma = np.sqrt(np.multiply(COVERAGES, np.subtract(1, COVERAGES)) / 100)
    assert (share > COVERAGES - 3 * sigma).all()
    assert (share < COVERAGES + 3 * sigma + 2 / 40).all()


@pytest.mark.parametrize(
    ("mean", "most"),
    # Poisson: P(0), P(up to 1) ... are 0.74, 0.96 for 0.3 and 0.951, 0.9988 for 0.05.
    [(0.3, [0, 1, 1]), (0.05, [0, 0, 0])],
)
def test_of_small_counts_the_likeliest_lie_within(mean: float, most: list[int]) -> None:
    rng = np.random.default_rng(2)
    flow = np.full((400, 1, 2, 5, 5), mean)
    bands = PredictionIntervals.empty(1).scored(stack(flow), stack(rng.poisson(flow)))
    around = bands.around(stack(flow[:1])).values[:, :, 0, 0, 0, 0, 0]
    np.testing.assert_array_equal(around[:, 0], 0)
    np.testing.assert_array_equal(np.floor(around[:, 1]), most)


def test_two_sided_counts_hold_at_least_what_they_promise() -> None:
    rng = np.random.default_rng(3)
    for mean in (1.5, 2.0, 2.7):
        flow = np.full((400, 1, 2, 5, 5), mean)
        bands = PredictionIntervals.empty(1).scored(stack(flow), stack(rng.poisson(flow)))
        lower, upper = bands.around(stack(flow[:1])).values[:, :, 0, 0, 0, 0, 0].T
        counts = np.arange(30)
        pmf = np.exp(-mean) * np.cumprod(np.r_[1, mean / counts[1:]])
        share = [
            pmf[(counts >= low) & (counts <= high)].sum()
            for low, high in zip(lower, upper, strict=True)
        ]
        assert (np.array(share) > np.array(COVERAGES) - 0.005).all()


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), windows=st.integers(1, 30), worse=st.floats(0.1, 3))
def test_bands_are_nested_never_below_zero_and_contain_the_forecast(
    seed: int, windows: int, worse: float
) -> None:
    rng = np.random.default_rng(seed)
    bands = PredictionIntervals.empty(2).scored(*drawn(rng, windows, 2, worse))
    bands = bands.updated(*drawn(rng, windows, 2, 1 / worse))
    forecast = stack(np.r_[rng.uniform(0, 2000, (5, 2, 2, 3, 3)), np.zeros((1, 2, 2, 3, 3))])
    around = bands.around(forecast)
    lower, upper = around.sel(edge="lower").values, around.sel(edge="upper").values
    assert np.isfinite(around.values).all()
    assert (lower >= 0).all()
    assert (lower <= forecast.values).all()
    assert (upper >= forecast.values).all()
    assert (np.diff(lower, axis=0) <= 0).all()
    assert (np.diff(upper, axis=0) >= 0).all()


def test_scores_in_parts_make_the_bands_of_all_where_nothing_is_forgotten() -> None:
    rng = np.random.default_rng(4)
    forecast, observed = drawn(rng, 60, 3)
    bands = PredictionIntervals.empty(3, half_life=np.inf, rate=0)
    whole = bands.scored(forecast, observed)
    parts = bands.scored(forecast[:10], observed[:10]).updated(forecast[10:], observed[10:])
    backwards = bands.scored(forecast[40:], observed[40:]).scored(forecast[:40], observed[:40])
    for one in (parts, backwards):
        np.testing.assert_array_equal(one.counts, whole.counts)
        np.testing.assert_array_equal(one.stretch, 0)
        assert one.newest == whole.newest
    assert whole.counts.sum() == 60 * 3 * 2 * 5 * 5


def test_a_score_counts_half_after_its_half_life() -> None:
    early, late = stack(np.full((1, 1, 1, 1, 1), 5.0)), stack(np.full((1, 1, 1, 1, 1), 50.0))
    late = late.assign_coords(init_time=late["init_time"] + 10 * 24 * HOUR)
    forgetting = PredictionIntervals.empty(1, half_life=10)
    for bands in (
        forgetting.scored(early, early).scored(late, late),
        forgetting.scored(late, late).scored(early, early),
    ):
        by_level = bands.counts.sum(axis=(0, 2))
        assert by_level[levels(np.array(5.0))] == pytest.approx(0.5)
        assert by_level[levels(np.array(50.0))] == pytest.approx(1)


def test_bands_follow_a_forecaster_that_becomes_worse() -> None:
    rng = np.random.default_rng(5)
    bands = PredictionIntervals.empty(1, half_life=14).scored(*drawn(rng, 7 * 24))
    fixed, daily = [], []
    first = bands
    for day in range(7, 35):
        forecast, observed = drawn(rng, 24, worse=2)
        shift = day * 24 * HOUR
        forecast, observed = (
            one.assign_coords(init_time=one["init_time"] + shift) for one in (forecast, observed)
        )
        fixed.append(held(first, forecast, observed, 10))
        daily.append(held(bands, forecast, observed, 10))
        bands = bands.updated(forecast, observed)
    assert (np.mean(fixed, axis=0) < np.subtract(COVERAGES, 0.1)).all()
    # The scores from before the change are still among them, so that a little is left.
    np.testing.assert_allclose(np.mean(daily[7:], axis=0), COVERAGES, atol=0.03)


def test_updates_of_hours_move_the_stretch_as_far_as_one_of_the_day() -> None:
    rng = np.random.default_rng(6)
    bands = PredictionIntervals.empty(1).scored(*drawn(rng, 7 * 24))
    forecast, observed = (
        one.assign_coords(init_time=one["init_time"] + 7 * 24 * HOUR)
        for one in drawn(rng, 24, worse=3)
    )
    hourly = bands
    for hour in range(24):
        hourly = hourly.updated(forecast[[hour]], observed[[hour]])
    whole = bands.updated(forecast, observed)
    busy = (BEGINS > 10) & (BEGINS < 250)
    moved = whole.stretch[0, 0, busy]
    assert (moved > 0.01).all()
    # Each hour has fewer scores, which count for less.
    assert (hourly.stretch[0, 0, busy] > moved / 20).all()
    assert (hourly.stretch[0, 0, busy] < moved).all()


def test_unknown_flow_is_no_score() -> None:
    rng = np.random.default_rng(7)
    forecast, observed = drawn(rng, 20)
    holed = observed.copy(deep=True)
    holed[:, :, :, 0] = np.nan
    some = PredictionIntervals.empty(1).scored(forecast, holed).updated(forecast, holed)
    rest = PredictionIntervals.empty(1).scored(forecast[:, :, :, 1:], observed[:, :, :, 1:])
    rest = rest.updated(forecast[:, :, :, 1:], observed[:, :, :, 1:])
    np.testing.assert_array_equal(some.counts, rest.counts)
    np.testing.assert_array_equal(some.stretch, rest.stretch)


def test_later_leads_take_the_bands_of_the_last() -> None:
    rng = np.random.default_rng(8)
    bands = PredictionIntervals.empty(2).scored(*drawn(rng, 50, 2))
    flow = np.repeat(rng.uniform(0, 300, (3, 1, 2, 4, 4)), 5, axis=1)
    around = bands.around(stack(flow)).values
    np.testing.assert_array_equal(around[:, :, :, 2:], around[:, :, :, [1, 1, 1]])
    assert (around[:, :, :, 0] != around[:, :, :, 1]).any()


def test_bands_of_a_level_without_scores_are_those_of_the_nearest() -> None:
    flow = np.full((100, 1, 2, 5, 5), 50.0)
    came = flow + np.linspace(-20, 20, flow.size).reshape(flow.shape)
    bands = PredictionIntervals.empty(1).scored(stack(flow), stack(came))
    lower, upper = bands.around(stack(np.full((1, 1, 1, 1, 1), 200.0))).values[1, :, 0, 0, 0, 0, 0]
    # The spreads of 200 and 50 are the roots of 200.5 + 400 and 50.5 + 25; 80 % of +-20 is +-16.
    reach = 16 * np.sqrt(600.5 / 75.5)
    assert (lower, upper) == (
        pytest.approx(200 - reach, rel=0.02),
        pytest.approx(200 + reach, rel=0.02),
    )


def test_bands_come_back_from_their_tensors() -> None:
    rng = np.random.default_rng(9)
    bands = (
        PredictionIntervals.empty(2, half_life=np.inf)
        .scored(*drawn(rng, 20, 2))
        .updated(*drawn(rng, 20, 2))
    )
    read = PredictionIntervals.from_tensors(bands.to_tensors())
    assert (read.newest, read.half_life, read.rate) == (bands.newest, np.inf, bands.rate)
    forecast = drawn(rng, 3, 2)[0]
    assert read.around(forecast).identical(bands.around(forecast))
    tensors = bands.to_tensors() | {"counts": bands.counts[:, :-1]}
    with pytest.raises(ValueError, match="bands of"):
        PredictionIntervals.from_tensors(tensors)


def test_a_forecaster_is_calibrated_by_its_errors_at_each_lead() -> None:
    rng = np.random.default_rng(10)
    city = load_city("nyc")
    time = START + np.arange(200) * city.step
    flow = label(rng.poisson(30, (200, 2, *city.grid)), time, city)
    init_times = windows.whole(flow, (0,), 3)
    bands = calibrated(Persistence(), flow, init_times, 3)
    assert bands.horizon == 3
    assert bands.newest == int(init_times[-1].astype(int))
    forecast = Persistence()(History.of(flow, init_times), 3)
    whole = PredictionIntervals.empty(3).scored(forecast, windows.future(flow, init_times, 3))
    np.testing.assert_allclose(bands.counts, whole.counts, rtol=1e-5)


def test_levels_and_bins_tile_what_there_is() -> None:
    assert (levels(BEGINS[1:] * 1.0001) == np.arange(1, len(BEGINS))).all()
    assert (levels(BEGINS[1:] * 0.9999) == np.arange(len(BEGINS) - 1)).all()
    assert levels(np.array([0, 1e9])).tolist() == [0, len(BEGINS) - 1]
    middle = (BIN_EDGES[1:] + BIN_EDGES[:-1]) / 2
    assert (bins(middle) == np.arange(len(middle))).all()
    assert bins(np.array([-1e9, 1e9])).tolist() == [0, len(middle) - 1]
