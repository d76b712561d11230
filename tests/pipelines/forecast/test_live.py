"""Live forecasts on the small city: the champion, and what stands in where it cannot serve."""

from pathlib import Path

import numpy as np
import pytest

from data.city import City, load_city
from data.errors import FlowcastError
from data.intervals import without_intervals
from data.paths import models_root
from data.store.ingests import Source
from data.store.store import Store
from pipelines.forecast import stand_in
from pipelines.forecast.live import forecast


@pytest.fixture
def city(small_home: Path) -> City:
    return load_city("small")


def without(store: Store, city: City, home: Path, *missing: int) -> Store:
    """A store with the same champion whose flow lacks the slots at these positions."""
    flow = store.flow.read(city)
    kept = np.delete(np.arange(flow.sizes["time"]), [flow.sizes["time"] + at for at in missing])
    other = Store(f"sqlite:///{home / 'other.db'}")
    other.flow.add(city, flow.isel(time=kept), source=Source("holed", ""))
    other.promotions.promote(city, str(store.promotions.champion(city)), "copied")
    return other


def test_the_champion_forecasts_the_slots_after_the_newest_and_is_stored(city: City) -> None:
    store = Store()
    result = forecast(store, city, 4)
    newest = store.flow.read(city)["time"].values[-1]
    assert result.attrs["model_version"] == store.promotions.champion(city)
    assert result.attrs["data_cutoff"] == f"{newest}Z"
    assert result.attrs["notes"] == ""
    hours = np.arange(1, 5) * np.timedelta64(1, "h")
    assert (result["valid_time"].values[0] == newest + hours).all()
    stored = store.forecasts.newest(city)
    assert stored is not None
    assert without_intervals(stored).identical(without_intervals(result))


def test_a_short_horizon_is_the_start_of_a_long_one(city: City) -> None:
    short, long = forecast(Store(), city, 2), forecast(Store(), city, 30)
    assert long.sizes["lead_time"] == 30
    np.testing.assert_allclose(short.values, long.values[:, :2], rtol=1e-5, atol=1e-4)
    assert float(long.max()) < 3 * float(Store().flow.read(city).max())


def test_a_forecast_at_a_past_time_sees_nothing_after_it(city: City, small_home: Path) -> None:
    store = Store()
    at = store.flow.read(city)["time"].values[-50]
    whole = forecast(store, city, 4, at=at + np.timedelta64(59, "m"))
    cut = Store(f"sqlite:///{small_home / 'cut.db'}")
    cut.flow.add(city, store.flow.read(city)[:-49], source=Source("cut", ""))
    cut.promotions.promote(city, str(store.promotions.champion(city)), "copied")
    newest = forecast(cut, city, 4)
    assert whole["init_time"].values[0] == at
    np.testing.assert_array_equal(whole.values, newest.values)


def test_a_forecast_of_a_time_that_the_model_was_trained_on_says_so(city: City) -> None:
    early = forecast(Store(), city, 1, at=np.datetime64("2025-03-20T12:00"))
    assert "was trained on flow after this time" in early.attrs["notes"]


def test_where_baselines_cannot_be_compared_the_historical_average_serves_and_says_so(
    city: City, small_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand_in, "MIN_FORECASTS", 10_000)
    store = Store()
    other = Store(f"sqlite:///{small_home / 'other.db'}")
    flow = store.flow.read(city)
    other.flow.add(city, flow, source=Source("copy", ""))
    result = forecast(other, city, 3)
    assert result.attrs["forecaster"] == "historical average"
    assert "small has no champion" in result.attrs["notes"]
    assert "baselines cannot be compared yet: 0 of 10000" in result.attrs["notes"]
    # The archive ends on a Sunday at 23:00; the next slots are those of five Mondays before.
    wall = flow["time"].values - np.timedelta64(4, "h")
    for lead in range(3):
        monday = (wall.astype("datetime64[D]").astype(int) - 4) % 7 == 0
        hour = (wall - wall.astype("datetime64[D]")) == np.timedelta64(lead, "h")
        # The first Monday, before daylight saving began, is one hour off in this arithmetic.
        first = wall < np.datetime64("2025-03-09")
        winter = wall - np.timedelta64(1, "h")
        winter_monday = (winter.astype("datetime64[D]").astype(int) - 4) % 7 == 0
        winter_hour = (winter - winter.astype("datetime64[D]")) == np.timedelta64(lead, "h")
        kind = np.where(first, winter_monday & winter_hour, monday & hour)
        assert kind.sum() == 5
        np.testing.assert_allclose(
            result.values[0, lead], flow.values[kind].mean(axis=0), rtol=1e-5, atol=1e-4
        )


def test_a_gap_in_the_input_is_named_and_the_best_baseline_stands_in(
    city: City, small_home: Path
) -> None:
    store = without(Store(), city, small_home, -3)
    result = forecast(store, city, 4)
    assert result.attrs["model_version"] == ""
    assert f"the baseline {result.attrs['forecaster']} stands in" in result.attrs["notes"]
    assert "missing in the input: 2025-04-06 21:00" in result.attrs["notes"]


def test_where_even_the_newest_slot_is_missing_a_baseline_that_does_without_stands_in(
    city: City, small_home: Path
) -> None:
    store = without(Store(), city, small_home, -30)
    missing = Store().flow.read(city)["time"].values[-30]
    result = forecast(store, city, 4, at=missing)
    assert result["init_time"].values[0] == missing
    assert result.attrs["forecaster"] in (
        "historical average",
        "recent weeks",
        "same slot last week",
    )
    assert "missing in the input: 2025-04-05 18:00" in result.attrs["notes"]


def test_a_champion_that_serves_needs_no_comparison_of_baselines(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(stand_in, "best_baseline", fails)
    assert forecast(Store(), city, 4).attrs["model_version"] == Store().promotions.champion(city)


def test_a_damaged_champion_does_not_stop_the_forecast(city: City) -> None:
    store = Store()
    weights = models_root() / "small" / str(store.promotions.champion(city)) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    result = forecast(store, city, 4)
    assert "the champion cannot serve" in result.attrs["notes"]
    assert "baselines it has the lowest RMSE" in result.attrs["notes"]


def test_a_forecast_tells_what_ran_it(city: City, small_home: Path) -> None:
    store = Store()
    assert forecast(store, city, 1).attrs["runtime"] == "onnxruntime float32"
    other = Store(f"sqlite:///{small_home / 'other.db'}")
    other.flow.add(city, store.flow.read(city), source=Source("copy", ""))
    assert forecast(other, city, 1).attrs["runtime"] == ""


def test_torch_runs_the_same_network_where_the_export_is_damaged_and_says_so(city: City) -> None:
    store = Store()
    whole = forecast(store, city, 4)
    network = models_root() / "small" / str(store.promotions.champion(city)) / "network-0.onnx"
    network.write_bytes(network.read_bytes()[:-1])
    damaged = forecast(store, city, 4)
    assert damaged.attrs["model_version"] == whole.attrs["model_version"]
    assert damaged.attrs["runtime"] == "torch"
    assert "is damaged or cannot be read; torch runs the same network" in damaged.attrs["notes"]
    np.testing.assert_allclose(damaged.values, whole.values, rtol=1e-4, atol=1e-3)


def test_a_named_version_that_is_not_there_is_a_sentence(city: City) -> None:
    with pytest.raises(FlowcastError, match=r"no version 'x'; it has: 20"):
        forecast(Store(), city, 4, model="x")


def test_a_time_before_the_archive_is_a_sentence(city: City) -> None:
    with pytest.raises(FlowcastError, match="no flow up to"):
        forecast(Store(), city, 4, at=np.datetime64("2020-01-01"))


def test_a_time_after_the_newest_slot_is_a_sentence_and_nothing_is_stored(city: City) -> None:
    with pytest.raises(FlowcastError, match="after the newest slot"):
        forecast(Store(), city, 4, at=np.datetime64("2025-04-07T04:00:00"))
    assert Store().forecasts.newest(city) is None


def test_one_slot_of_flow_is_enough_for_a_forecast(city: City, small_home: Path) -> None:
    other = Store(f"sqlite:///{small_home / 'other.db'}")
    other.flow.add(city, Store().flow.read(city)[:1], source=Source("one", ""))
    result = forecast(other, city, 4)
    np.testing.assert_array_equal(result.values[0, 3], Store().flow.read(city).values[0])
