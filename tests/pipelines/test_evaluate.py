"""The operator protocol on the small city: same windows for all, nothing known of the test days."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from data.city import load_city
from data.errors import FlowcastError
from data.store import Source, Store
from pipelines.evaluate import FLOOR, evaluate


def test_persistence_is_scored_as_the_difference_of_slots(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    flow = store.flow(city).values.astype(np.float64)
    result = evaluate(store, city)
    # 7 days of 24 hourly slots; the last window of 4 leads begins 4 slots before the end.
    assert result.windows == 168 - 4 + 1
    for lead in range(1, 5):
        newest = flow[len(flow) - 168 - 1 : len(flow) - 4]
        came = flow[len(flow) - 168 - 1 + lead : len(flow) - 4 + lead]
        rmse = result.errors["rmse"].sel(forecaster="persistence", channel="both")[lead - 1]
        mae = result.errors["mae"].sel(forecaster="persistence", channel="inflow")[lead - 1]
        np.testing.assert_allclose(rmse, np.sqrt(((newest - came) ** 2).mean()), rtol=1e-6)
        np.testing.assert_allclose(mae, abs(newest - came)[:, 0].mean(), rtol=1e-6)


def test_the_floor_of_a_simulated_city_is_its_counting_noise(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    result = evaluate(store, city)
    # Poisson counts scatter around their mean by its root.
    noise = np.sqrt(store.flow(city, "expected").values[-168:].mean(dtype=np.float64))
    floor = result.errors["rmse"].sel(forecaster=FLOOR, channel="both")
    np.testing.assert_allclose(floor, noise, rtol=0.05)
    others = result.errors["rmse"].drop_sel(forecaster=FLOOR)
    assert (others > floor).all()


def test_a_model_that_knows_the_test_days_is_refused(small_home: Path) -> None:
    city = dataclasses.replace(load_city("small"), test_days=10)
    with pytest.raises(FlowcastError, match=r"knows the flow.*train again"):
        evaluate(Store(), city)


def test_without_a_model_the_baselines_are_scored(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    other = Store(f"sqlite:///{small_home / 'other.db'}")
    other.add_flow(city, store.flow(city), source=Source("copy", ""))
    result = evaluate(other, city)
    assert result.version == ""
    assert list(result.errors["forecaster"].values) == [
        "persistence",
        "same slot last week",
        "historical average",
        "historical average + last anomaly",
    ]


def test_windows_with_a_gap_are_left_out_for_all(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    flow = store.flow(city)
    holed = flow.isel(time=np.delete(np.arange(flow.sizes["time"]), flow.sizes["time"] - 84))
    other = Store(f"sqlite:///{small_home / 'other.db'}")
    other.add_flow(city, holed, source=Source("holed", ""))
    # A missing slot spoils the windows that hold it among 4 past and 4 future slots.
    assert evaluate(other, city).windows == 165 - 8


def test_too_little_flow_is_a_sentence(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    other = Store(f"sqlite:///{small_home / 'other.db'}")
    with pytest.raises(FlowcastError, match="no flow for small; run: forecast ingest"):
        evaluate(other, city)
    other.add_flow(city, store.flow(city)[:100], source=Source("start", ""))
    with pytest.raises(FlowcastError, match=r"4\.2 days of flow"):
        evaluate(other, city)
