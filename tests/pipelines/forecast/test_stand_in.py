"""Which baseline stands in: that with the lowest error on recent slots, by scores or by a backtest."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from data.city import City
from data.flow import label
from data.store.ingests import Source
from data.store.store import Store
from forecasting.baselines import BASELINES
from forecasting.covariates.climatology import Climatology
from forecasting.history import History
from pipelines.forecast.live import forecast
from pipelines.forecast.stand_in import MIN_FORECASTS
from tests.pipelines.weeks import hourly

HOUR = np.timedelta64(1, "h")
START = np.datetime64("2025-06-02T00:00", "s")  # a Monday
WEEK = 7 * 24
HORIZON = 3


@pytest.fixture
def city(small_store: Store) -> City:
    return hourly("weeks")


def archive(store: Store, city: City, level: np.ndarray) -> xr.DataArray:
    """Stores a flow that is `level`, vehicles per step, in each cell and channel."""
    values = np.broadcast_to(level[:, None, None, None], (len(level), 2, *city.grid))
    flow = label(values.astype(np.float32), START + np.arange(len(level)) * HOUR, city)
    store.flow.add(city, flow, source=Source("made", ""))
    return flow


def directly(name: str, flow: xr.DataArray) -> np.ndarray:
    """The forecast of a baseline that is fitted and called by hand."""
    baseline = BASELINES[name].fit(flow, Climatology.fit(flow))
    return baseline(History.of(flow, flow["time"].values[-1:]), HORIZON).values


def weeks_that_change(noise: float) -> np.ndarray:
    """Five weeks; in the last two the hours of the week have other flows than in the first three."""
    rng = np.random.default_rng(0)
    before, after = rng.uniform(100, 200, (2, WEEK))
    level = np.concatenate([np.tile(before, 3), np.tile(after, 2)])
    return level + rng.normal(0, noise, len(level))


def test_where_the_last_weeks_differ_the_same_slot_last_week_serves(
    small_store: Store, city: City
) -> None:
    flow = archive(small_store, city, weeks_that_change(noise=2.0))
    made = forecast(small_store, city, HORIZON)
    assert made.attrs["forecaster"] == "same slot last week"
    np.testing.assert_array_equal(made.values[0], flow.values[-WEEK : HORIZON - WEEK])
    np.testing.assert_array_equal(made.values, directly("last-week", flow))
    # A difference of two values with noise of 2 has a standard deviation of 2.83.
    (note,) = made.attrs["notes"].splitlines()
    assert note.startswith("weeks has no champion")
    rmse = float(note.split("lowest RMSE, ")[1].split()[0])
    assert rmse == pytest.approx(2 * 2**0.5, rel=0.25)
    # Of the 166 init_times of a week before the last leads every fifth, so that all hours take part.
    assert "of 6 baselines" in note and "on 34 forecasts of a backtest" in note


def test_where_flow_wanders_persistence_serves(small_store: Store, city: City) -> None:
    walk = 1000 + np.cumsum(np.random.default_rng(1).normal(0, 5, 5 * WEEK))
    flow = archive(small_store, city, walk)
    made = forecast(small_store, city, HORIZON)
    assert made.attrs["forecaster"] == "persistence"
    np.testing.assert_array_equal(made.values, directly("persistence", flow))


def scores(name: str, forecast: int, times: np.ndarray, error: float) -> pd.DataFrame:
    """Scores of one cell, with the same error at every lead."""
    rows = [(time, lead) for time in times for lead in range(1, HORIZON + 1)]
    table = pd.DataFrame(rows, columns=["init_time", "lead"])
    sums = {"count": 1, "squared": error**2, "absolute": error, "difference": error}
    return table.assign(forecaster=name, forecast=forecast, ingest=1, **sums)


def test_where_there_are_scores_they_decide(small_store: Store, city: City) -> None:
    flow = archive(small_store, city, weeks_that_change(noise=2.0))
    stored = small_store.forecasts.add(city, forecast(small_store, city, HORIZON))
    newest = flow["time"].values[-1]
    times = newest - (HORIZON + np.arange(MIN_FORECASTS)[::-1]) * HOUR
    for name, error in {"last-week": 5, "persistence": 4, "recent-weeks": 3}.items():
        small_store.scores.add(city, scores(name, stored, times[1:], error))
    assert "of a backtest" in forecast(small_store, city, HORIZON).attrs["notes"]
    for name, error in {"last-week": 5, "persistence": 4, "recent-weeks": 3}.items():
        small_store.scores.add(city, scores(name, stored, times[:1], error))
    # These must not count: too few, and of slots that are not observed yet.
    small_store.scores.add(city, scores("historical-average", stored, times[1:], 1))
    small_store.scores.add(city, scores("persistence", stored, newest - HOUR * np.arange(2), 0))
    made = forecast(small_store, city, HORIZON)
    assert made.attrs["forecaster"] == "recent weeks"
    np.testing.assert_array_equal(made.values, directly("recent-weeks", flow))
    reason = (
        f"of 3 baselines it has the lowest RMSE, 3.00 vehicles per step, on {MIN_FORECASTS} scored"
    )
    assert reason in made.attrs["notes"]


def test_a_forecast_of_the_past_is_chosen_by_what_was_known_then(
    small_store: Store, city: City
) -> None:
    flow = archive(small_store, city, weeks_that_change(noise=2.0))
    at = START + (3 * WEEK - 1) * HOUR
    made = forecast(small_store, city, HORIZON, at=at)
    small_store.flow.add(city, flow[3 * WEEK :] * 2, source=Source("other", ""), replace=True)
    again = forecast(small_store, city, HORIZON, at=at)
    np.testing.assert_array_equal(made.values, again.values)
    assert made.attrs["notes"] == again.attrs["notes"]
    # The three weeks are all alike but for their noise: their mean errs less than any one of them.
    assert made.attrs["forecaster"] in ("historical average", "recent weeks")


@pytest.mark.parametrize("slots", [1, 20])
def test_in_the_first_hours_of_an_archive_the_historical_average_serves(
    small_store: Store, city: City, slots: int
) -> None:
    flow = archive(small_store, city, 10.0 + np.arange(slots))
    made = forecast(small_store, city, HORIZON)
    assert made.attrs["forecaster"] == "historical average"
    np.testing.assert_allclose(made.values, directly("historical-average", flow), rtol=1e-6)
    assert f"of {MIN_FORECASTS} recent forecasts can be judged" in made.attrs["notes"]
