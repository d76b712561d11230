"""The operator protocol on the small city: same windows for all, nothing known of the test days."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data import windows
from data.city import load_city
from data.errors import FlowcastError
from data.paths import models_root
from data.store.ingests import Source
from data.store.store import Store
from forecasting.history import History
from forecasting.intervals.coverage import shares
from forecasting.registry.versions import load_intervals, load_version
from pipelines.evaluate.evaluation import (
    BANDS,
    FLOOR,
    Evaluation,
    Scored,
    evaluate,
    evaluate_in_pieces,
)


def test_persistence_is_scored_as_the_difference_of_slots(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    flow = store.flow.read(city).values.astype(np.float64)
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
    noise = np.sqrt(store.flow.read(city, "expected").values[-168:].mean(dtype=np.float64))
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
    other.flow.add(city, store.flow.read(city), source=Source("copy", ""))
    result = evaluate(other, city)
    assert result.version == ""
    assert list(result.errors["forecaster"].values) == [
        "persistence",
        "same slot last week",
        "historical average",
        "historical average + last anomaly",
        "recent weeks",
        "recent weeks + last anomaly",
    ]


def test_windows_with_a_gap_are_left_out_for_all(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    flow = store.flow.read(city)
    holed = flow.isel(time=np.delete(np.arange(flow.sizes["time"]), flow.sizes["time"] - 84))
    other = Store(f"sqlite:///{small_home / 'other.db'}")
    other.flow.add(city, holed, source=Source("holed", ""))
    # A missing slot spoils the windows that hold it among 4 past and 4 future slots.
    assert evaluate(other, city).windows == 165 - 8


def test_too_little_flow_is_a_sentence(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    other = Store(f"sqlite:///{small_home / 'other.db'}")
    with pytest.raises(FlowcastError, match="no flow for small; run: forecast ingest"):
        evaluate(other, city)
    other.flow.add(city, store.flow.read(city)[:100], source=Source("start", ""))
    with pytest.raises(FlowcastError, match=r"4\.2 days of flow"):
        evaluate(other, city)


def test_an_evaluation_in_pieces_is_the_one_of_the_whole(
    small_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    city, store = load_city("small"), Store()
    whole = evaluate(store, city, horizon=6)
    monkeypatch.setattr("forecasting.backtest.PIECE", 250_000)
    *progress, pieces = evaluate_in_pieces(store, city, horizon=6)
    assert isinstance(pieces, Evaluation)
    xr.testing.assert_allclose(pieces.errors, whole.errors, rtol=1e-6)  # float32 in other stacks
    exact = ["persistence", "same slot last week", "historical average", FLOOR]
    xr.testing.assert_allclose(
        pieces.errors.sel(forecaster=exact), whole.errors.sel(forecaster=exact), rtol=1e-12
    )
    # 240 bytes a frame, 12 frames a lead and one more: 250 kB leave at most 12 windows a stack.
    done = [event.windows for event in progress if isinstance(event, Scored)]
    assert len(done) == len(progress) > 10
    assert done == sorted(done)
    assert done[-1] == whole.windows == pieces.windows == 168 - 6 + 1


def test_all_leads_lie_in_the_span(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    flow = store.flow.read(city)
    begin, end = flow["time"].values[-100], flow["time"].values[-80]
    result = evaluate(store, city, begin=begin, end=end)
    assert (result.windows, result.first) == (20 - 4 + 1, begin)
    assert result.last == end - np.timedelta64(1, "h")
    came, newest = flow.values[-100:-83].astype(np.float64), flow.values[-101:-84]
    rmse = result.errors["rmse"].sel(forecaster="persistence", channel="both")[0]
    np.testing.assert_allclose(rmse, np.sqrt(((came - newest) ** 2).mean()), rtol=1e-9)


def test_a_stride_keeps_every_nth_slot_also_behind_a_gap(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    assert evaluate(store, city, stride=24).windows == 7
    flow = store.flow.read(city)
    holed = flow.isel(time=np.delete(np.arange(flow.sizes["time"]), flow.sizes["time"] - 84))
    other = Store(f"sqlite:///{small_home / 'other.db'}")
    other.flow.add(city, holed, source=Source("holed", ""))
    # The first init_time is the last slot before the test days, the 169th from the end; the gap at
    # the 84th spoils the windows from the 88th to the 81st, which is no 169 - n * 24 but 169 - n * 28.
    assert evaluate(other, city, stride=24).windows == 7
    assert evaluate(other, city, stride=28).windows == 6 - 1


def test_the_baselines_know_only_what_lies_before_the_span(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    flow = store.flow.read(city)
    begin = flow["time"].values[-100]
    other = Store(f"sqlite:///{small_home / 'other.db'}")
    changed = flow.copy(deep=True)
    changed[-50:] += 100
    other.flow.add(city, changed, source=Source("changed", ""))
    end = flow["time"].values[-50]
    one, two = (evaluate(store, city, begin=begin, end=end) for store in (store, other))
    names = [str(name) for name in two.errors["forecaster"].values]
    xr.testing.assert_identical(one.errors.sel(forecaster=names), two.errors)


def test_a_span_without_a_window_is_a_sentence(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    time = store.flow.read(city)["time"].values
    hour = np.timedelta64(1, "h")
    with pytest.raises(FlowcastError, match=r"no 4 slots in a row .* 3 slots, have all"):
        evaluate(store, city, begin=time[-50], end=time[-47])
    with pytest.raises(FlowcastError, match="nothing lies between"):
        evaluate(store, city, begin=time[-1] + hour)
    with pytest.raises(FlowcastError, match="nothing lies between"):
        evaluate(store, city, begin=time[-50], end=time[-50])
    with pytest.raises(FlowcastError, match="no flow before 2025-03-03 00:00 for the baselines"):
        evaluate(store, city, begin=time[0])
    with pytest.raises(FlowcastError, match="evaluate a later span, train again"):
        evaluate(store, city, begin=time[-200])


def test_bands_are_judged_as_calibrated_and_as_they_learn(
    calibrated_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    city, store = load_city("small"), Store()
    whole = evaluate(store, city)
    assert whole.coverage is not None
    assert list(whole.coverage["bands"].values) == list(BANDS)
    # Every lead of a window, both channels and 6 x 5 cells; the small city never lacks a vehicle for long.
    np.testing.assert_array_equal(
        whole.coverage["count"].sum(["hour", "flow", "lead_time"]), 165 * 4 * 2 * 30
    )
    first_day = evaluate(store, city, end=store.flow.read(city)["time"].values[-144]).coverage
    assert first_day is not None
    once, daily = (first_day.sel(bands=name, drop=True) for name in BANDS)
    xr.testing.assert_allclose(once, daily, rtol=1e-9)
    assert not np.allclose(*(whole.coverage["held"].sel(bands=name) for name in BANDS))
    monkeypatch.setattr("forecasting.backtest.PIECE", 250_000)
    pieces = evaluate(store, city).coverage
    assert pieces is not None
    # float32 in other stacks: a score at an edge may fall on its other side.
    xr.testing.assert_allclose(
        pieces["held"].sum("flow"), whole.coverage["held"].sum("flow"), atol=3
    )


def test_bands_are_counted_as_they_lie_around_the_forecasts(calibrated_home: Path) -> None:
    city, store = load_city("small"), Store()
    flow, version = store.flow.read(city), str(store.promotions.champion(city))
    result = evaluate(store, city, horizon=2)
    assert result.coverage is not None
    forecaster = load_version(models_root(), city, version)
    bands = load_intervals(models_root(), city, version)
    assert bands is not None
    init_times = flow["time"].values[-169:-2]
    around = bands.around(forecaster(History.of(flow, init_times), 2)).sel(coverage=0.8)
    came = windows.future(flow, init_times, 2).values
    held = (around.values[0] <= came) & (came <= around.values[1])
    counted = shares(result.coverage.sel(bands=BANDS[0]), "lead_time")["held"].sel(coverage=0.8)
    np.testing.assert_allclose(counted, held.mean(axis=(0, 2, 3, 4)), atol=1e-3)


def test_without_a_model_there_are_no_bands_to_judge(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    other = Store(f"sqlite:///{small_home / 'other.db'}")
    other.flow.add(city, store.flow.read(city), source=Source("copy", ""))
    assert evaluate(other, city).coverage is None
