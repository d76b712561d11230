"""Coverage is counted by lead, hour and level; bands that learn know no score before its time."""

import numpy as np
import pytest
import xarray as xr

from forecasting.intervals.conformal import PredictionIntervals
from forecasting.intervals.coverage import FLOWS, OnlineIntervals, covered, shares

HOUR = np.timedelta64(1, "h")
START = np.datetime64("2016-01-04T00:00", "s")


def stack(values: np.ndarray, start: np.datetime64 = START, zone: str = "UTC") -> xr.DataArray:
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
        attrs={"timezone": zone, "step": 3600},
    )


def drawn(windows: int, seed: int = 0) -> tuple[xr.DataArray, xr.DataArray]:
    rng = np.random.default_rng(seed)
    flow = rng.gamma(1, 40, (windows, 3, 2, 3, 3))
    return stack(flow), stack(rng.poisson(flow * rng.gamma(9, 1 / 9, flow.shape)))


def test_scores_are_counted_where_they_belong() -> None:
    # Two windows of two leads and one cell, in New York 5 hours behind UTC.
    forecast = stack(
        np.array([5.0, 0.1, 5.0, 20.0]).reshape(2, 2, 1, 1, 1), zone="America/New_York"
    )
    observed = stack(np.array([7.0, 0.0, 9.0, np.nan]).reshape(2, 2, 1, 1, 1))
    edges = np.stack([forecast.values - 1, forecast.values + 2]).clip(0)
    band = xr.DataArray(
        np.stack([edges, edges + np.array([0, 3]).reshape(2, 1, 1, 1, 1, 1)]),
        dims=("coverage", "edge", *forecast.dims),
        coords={"coverage": [0.5, 0.8], "edge": ["lower", "upper"]},
    )
    total = covered(band, forecast, observed)
    assert float(total["count"].sum()) == 3
    first = {"lead_time": HOUR, "flow": 3.0}
    # 01:00 UTC is 20:00, 02:00 is 21:00.
    assert total["count"].sel(first).values.nonzero()[0].tolist() == [20, 21]
    assert total["held"].sel(first).sel(coverage=0.5).sum() == 1
    assert total["held"].sel(first).sel(coverage=0.8).sum() == 2
    assert total["width"].sel(first).sel(coverage=0.8).sum() == 2 * 6
    second = total.sel(lead_time=2 * HOUR, flow=0.0, hour=21)
    assert (second["count"], second["zero"]) == (1, 1)
    by_lead = shares(total, "lead_time")
    np.testing.assert_allclose(by_lead["held"].sel(coverage=0.5), [0.5, 1])
    np.testing.assert_allclose(by_lead["zero"], [0, 1])
    np.testing.assert_allclose(by_lead["share"], [2 / 3, 1 / 3])
    assert np.isnan(shares(total, "flow")["held"].sel(flow=FLOWS[-1])).all()


def test_sums_of_parts_are_those_of_the_whole() -> None:
    forecast, observed = drawn(30)
    bands = PredictionIntervals.empty(3).scored(forecast, observed)
    parts = [
        covered(bands.around(forecast[part]), forecast[part], observed[part])
        for part in (slice(0, 7), slice(7, 30))
    ]
    whole = covered(bands.around(forecast), forecast, observed)
    xr.testing.assert_allclose(parts[0] + parts[1], whole, rtol=1e-12)


@pytest.mark.parametrize("cuts", [[50], [1, 23, 25, 60, 61], list(range(5, 120, 7))])
def test_bands_that_learn_are_the_same_however_the_windows_are_cut(cuts: list[int]) -> None:
    forecast, observed = drawn(120)
    first = OnlineIntervals(PredictionIntervals.empty(3).scored(*drawn(100, seed=1)))
    whole = first.after(forecast, observed)
    parts = first
    for start, stop in zip([0, *cuts], [*cuts, 120], strict=True):
        parts = parts.after(forecast[start:stop], observed[start:stop])
    np.testing.assert_allclose(parts.bands.counts, whole.bands.counts, rtol=1e-5)
    np.testing.assert_allclose(parts.bands.stretch, whole.bands.stretch, atol=1e-5)
    assert parts.total is not None
    assert whole.total is not None
    xr.testing.assert_allclose(parts.total, whole.total, rtol=1e-9)


def test_bands_of_a_day_know_what_was_observed_before_it_and_no_more() -> None:
    forecast, observed = drawn(72)
    first = OnlineIntervals(PredictionIntervals.empty(3).scored(*drawn(100, seed=1)))
    two_days = first.after(forecast[:48], observed[:48])
    # At midnight of the second day the last lead of the forecast of 21:00 is known, not that of 22:00.
    by_hand = first.bands.updated(forecast[:22], observed[:22])
    np.testing.assert_array_equal(two_days.bands.counts, by_hand.counts)
    np.testing.assert_array_equal(two_days.bands.stretch, by_hand.stretch)
    third = two_days.after(forecast[48:], observed[48:])
    later = by_hand.updated(forecast[22:46], observed[22:46])
    np.testing.assert_array_equal(third.bands.counts, later.counts)
    np.testing.assert_array_equal(third.bands.stretch, later.stretch)


def test_the_first_day_is_judged_by_the_bands_as_they_were() -> None:
    forecast, observed = drawn(24)
    bands = PredictionIntervals.empty(3).scored(*drawn(100, seed=1))
    followed = OnlineIntervals(bands).after(forecast, observed)
    assert followed.total is not None
    xr.testing.assert_identical(followed.total, covered(bands.around(forecast), forecast, observed))
