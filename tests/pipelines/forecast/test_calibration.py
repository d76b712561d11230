"""Calibration: each day it learns from the forecasts whose leads have passed, and no others."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data import windows
from data.city import City, load_city
from data.intervals import intervals_of
from data.paths import models_root
from data.store.ingests import Source
from data.store.store import Store
from forecasting.history import History
from forecasting.intervals.conformal import PredictionIntervals
from forecasting.registry.versions import load_intervals, load_version
from pipelines.forecast.calibration import intervals_at
from pipelines.forecast.live import forecast

HOUR = np.timedelta64(1, "h")
MIDNIGHT = np.datetime64("2025-04-01T04:00", "s")  # in New York


@pytest.fixture
def city(calibrated_home: Path) -> City:
    return load_city("small")


def served(
    store: Store, city: City, start: np.datetime64, hours: int, **attrs: str
) -> tuple[xr.DataArray, list[PredictionIntervals]]:
    """Stored forecasts of some hours in a row, and the bands that each would have had."""
    version = str(store.promotions.champion(city))
    forecaster = load_version(models_root(), city, version)
    init_times = start + np.arange(hours) * HOUR
    made = forecaster(History.of(store.flow.read(city), init_times), 4)
    made.attrs |= {"forecaster": forecaster.name, "model_version": version, **attrs}
    bands = []
    for hour, init_time in enumerate(init_times):
        one = intervals_at(store, city, version, init_time)
        assert one is not None
        bands.append(one)
        store.forecasts.add(city, made[[hour]])
    return made, bands


def test_a_forecast_of_a_calibrated_model_carries_its_bands(city: City) -> None:
    store = Store()
    result = forecast(store, city, 4)
    around = intervals_of(result)
    bands = load_intervals(models_root(), city, str(store.promotions.champion(city)))
    assert around is not None
    assert bands is not None
    np.testing.assert_array_equal(around.values, bands.around(result).values)
    # The last window of the validation days ends with them, on 30 March in New York.
    assert result.attrs["calibrated_until"] == "2025-03-30T23:00:00Z"
    assert result.attrs["notes"] == ""


def test_later_leads_than_were_calibrated_are_told(city: City) -> None:
    assert "calibrated for 4 steps; later steps" in forecast(Store(), city, 5).attrs["notes"]


def test_what_stands_in_for_the_model_has_no_bands(city: City) -> None:
    store = Store()
    weights = models_root() / "small" / str(store.promotions.champion(city)) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    result = forecast(store, city, 4)
    assert intervals_of(result) is None
    assert result.attrs["calibrated_until"] == ""
    assert "without prediction intervals" in result.attrs["notes"]


def test_bands_learn_at_the_first_forecast_of_a_day(city: City) -> None:
    store = Store()
    made, bands = served(store, city, MIDNIGHT, 27)
    first = bands[0]
    for one in bands[:24]:
        np.testing.assert_array_equal(one.counts, first.counts)
    # The forecast of 20:00 is the last one whose fourth hour had been observed at midnight.
    past = made[:21]
    expected = first.updated(
        past, windows.future(store.flow.read(city), past["init_time"].values, 4)
    )
    for one in bands[24:]:
        np.testing.assert_allclose(one.counts, expected.counts, rtol=1e-6)
        np.testing.assert_allclose(one.stretch, expected.stretch, atol=1e-6)
    live = forecast(store, city, 4, at=MIDNIGHT + 27 * HOUR)
    around = intervals_of(live)
    assert around is not None
    np.testing.assert_allclose(around.values, expected.around(live).values, rtol=1e-5)
    assert live.attrs["calibrated_until"] == f"{MIDNIGHT + 20 * HOUR}Z"


def test_a_forecast_of_an_earlier_time_knows_no_later_score(city: City) -> None:
    store = Store()
    _, bands = served(store, city, MIDNIGHT, 30)
    again = intervals_at(store, city, str(store.promotions.champion(city)), MIDNIGHT + 3 * HOUR)
    assert again is not None
    np.testing.assert_array_equal(again.counts, bands[3].counts)
    np.testing.assert_array_equal(again.stretch, bands[3].stretch)


def test_forecasts_of_another_version_teach_nothing(city: City) -> None:
    store = Store()
    _, bands = served(store, city, MIDNIGHT, 30, model_version="another")
    np.testing.assert_array_equal(bands[-1].counts, bands[0].counts)
    np.testing.assert_array_equal(bands[-1].stretch, bands[0].stretch)


def test_flow_that_never_came_teaches_nothing(city: City, calibrated_home: Path) -> None:
    store = Store()
    made, bands = served(store, city, MIDNIGHT, 2)
    flow = store.flow.read(city)
    lost = (flow["time"].values >= MIDNIGHT) & (flow["time"].values <= MIDNIGHT + 27 * HOUR)
    holed = Store(f"sqlite:///{calibrated_home / 'holed.db'}")
    holed.flow.add(city, flow[~lost], source=Source("holed", ""))
    for row in range(2):
        holed.forecasts.add(city, made[[row]])
    blind = intervals_at(holed, city, str(store.promotions.champion(city)), MIDNIGHT + 30 * HOUR)
    assert blind is not None
    # What was known counts less as it grows older; nothing is new.
    age = (blind.newest - bands[0].newest) / 86_400
    np.testing.assert_allclose(blind.counts, bands[0].counts * 0.5 ** (age / 14), rtol=1e-5)
    np.testing.assert_array_equal(blind.stretch, bands[0].stretch)
