"""Training, resuming and promoting on a small simulated city."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest
from safetensors.numpy import load_file

from data.city import load_city
from data.errors import FlowcastError
from data.store import Source, Store
from forecasting.computing import Computing
from forecasting.registry import load_version, models_root, versions
from forecasting.state import Epoch, TrainingConfig
from forecasting.training import Batch
from pipelines.candidate import Trained
from pipelines.train import Means, Progress, resume, train

CPU = Computing("cpu")
CHECKPOINT = "models/small/training/checkpoint.safetensors"


def finish(events: Iterator[Progress | Trained]) -> Trained:
    *_, last = events
    assert isinstance(last, Trained)
    return last


def test_a_first_version_that_beats_the_historical_average_is_champion(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    champion = store.champion(city)
    assert [champion] == versions(models_root(), "small")
    manifest = json.loads((models_root() / "small" / champion / "manifest.json").read_text())
    scores = manifest["metrics"]
    assert scores["candidate"]["all"] < scores["historical-average"]["all"]
    assert manifest["trained"][1] < manifest["climatology"][1] < "2025-03-31T04:00:00Z"


def test_the_test_days_are_never_touched_by_training(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    flow = store.flow(city)
    changed = flow.copy()
    # Seven days of 24 hours before the end of the archive, the 7th of April 2025, 00:00 local.
    changed[flow["time"].values >= flow["time"].values[-1] - 167 * city.step] += 50
    first = (
        models_root() / "small" / str(store.champion(city)) / "weights.safetensors"
    ).read_bytes()
    other = Store(f"sqlite:///{small_home / 'other.db'}")
    other.add_flow(city, changed, source=Source("changed", ""))
    trained = finish(train(other, city, TrainingConfig(epochs=2), means=Means(CPU)))
    again = models_root() / "small" / trained.manifest.version / "weights.safetensors"
    assert again.read_bytes() == first


def test_any_network_is_trained_and_kept_with_its_own_slots(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    config = TrainingConfig(epochs=1, horizon=2)
    trained = finish(train(store, city, config, network="st-resnet", means=Means(CPU)))
    version = trained.manifest.version
    loaded = load_version(models_root(), city, version)
    # Three slots of closeness, and those of the leads a day and a week before; hourly slots.
    assert loaded.lags(2) == (167, 166, 23, 22, 2, 1, 0)
    assert loaded.name == trained.manifest.network == "st-resnet"
    with pytest.raises(FlowcastError, match="no network 'lstm'; there is swinlstm-b"):
        next(train(store, city, config, network="lstm", means=Means(CPU)))


def test_a_training_killed_after_an_epoch_goes_on_as_if_it_never_was(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    config = TrainingConfig(epochs=3, seed=5)
    finish(train(store, city, config, means=Means(CPU)))
    whole = load_file(small_home / CHECKPOINT)
    (small_home / CHECKPOINT).unlink()
    for progress in train(store, city, config, means=Means(CPU)):
        if isinstance(progress, Batch) and progress.epoch == 2 and progress.done > 100:
            break  # the process dies in the middle of the second epoch
    assert len([e for e in resume(store, city, means=Means(CPU)) if isinstance(e, Epoch)]) == 2
    resumed = load_file(small_home / CHECKPOINT)
    assert whole.keys() == resumed.keys()
    assert all(whole[name].tobytes() == resumed[name].tobytes() for name in whole)


def test_a_stopped_training_keeps_its_best_epoch_and_can_go_on(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    stop = threading.Event()
    events = []
    for event in train(store, city, TrainingConfig(epochs=9, seed=3), means=Means(CPU, stop=stop)):
        events.append(event)
        if isinstance(event, Epoch):
            stop.set()
    assert isinstance(events[-1], Trained)
    assert events[-1].stopped
    assert events[-1].manifest.training["chosen_epoch"] == 1
    assert load_version(models_root(), city, events[-1].manifest.version).lags(4)
    again = finish(resume(store, city, epochs=2, means=Means(CPU)))
    assert not again.stopped
    assert len(again.manifest.training["history"]) == 2


def test_a_training_stopped_before_its_first_epoch_says_that_nothing_was_kept(
    small_home: Path,
) -> None:
    stop = threading.Event()
    stop.set()
    before = versions(models_root(), "small")
    with pytest.raises(FlowcastError, match="before its first epoch"):
        list(train(Store(), load_city("small"), TrainingConfig(), means=Means(CPU, stop=stop)))
    assert versions(models_root(), "small") == before


def test_a_version_that_is_no_better_than_the_champion_stays_a_candidate(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    champion = store.champion(city)
    trained = finish(
        train(store, city, TrainingConfig(epochs=1, learning_rate=1e-7), means=Means(CPU))
    )
    assert not trained.promoted
    assert "champion" in trained.reason or "historical average" in trained.reason
    assert store.champion(city) == champion
    assert trained.manifest.version in versions(models_root(), "small")


def test_champion_and_candidate_are_judged_alike(small_home: Path) -> None:
    again = finish(train(Store(), load_city("small"), TrainingConfig(epochs=2), means=Means(CPU)))
    scores = again.manifest.metrics  # the same training once more
    assert scores["champion"] == pytest.approx(scores["candidate"])
    assert not again.promoted


def test_one_training_of_a_city_runs_at_a_time(small_home: Path) -> None:
    with (
        filelock.FileLock(small_home / "models/small/training/checkpoint.lock"),
        pytest.raises(FlowcastError, match="another training of small is under way"),
    ):
        next(iter(train(Store(), load_city("small"), TrainingConfig(), means=Means(CPU))))


def test_resuming_a_finished_training_says_how_to_get_more_epochs(small_home: Path) -> None:
    with pytest.raises(FlowcastError, match=r"all of its 2 epochs.*--epochs"):
        list(resume(Store(), load_city("small"), means=Means(CPU)))


def test_a_training_killed_before_its_version_was_written_gets_it_by_resuming(
    small_home: Path,
) -> None:
    city, store = load_city("small"), Store()
    lost = small_home / "models" / "small" / str(store.champion(city))
    shutil.rmtree(lost)
    again = finish(resume(store, city, means=Means(CPU)))
    assert versions(models_root(), "small") == [again.manifest.version]
    with pytest.raises(FlowcastError, match="all of its 2 epochs"):
        list(resume(store, city, means=Means(CPU)))


def test_resuming_where_nothing_was_trained_is_a_sentence(flowcast_home: Path) -> None:
    with pytest.raises(FlowcastError, match="no flow for demo"):
        list(resume(Store(), load_city("demo"), means=Means(CPU)))


def test_resuming_after_the_flow_changed_is_refused(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    flow = store.flow(city)[:1] + 1
    flow.attrs = store.flow(city).attrs
    store.add_flow(city, flow, source=Source("corrected", ""), replace=True)
    with pytest.raises(FlowcastError, match=r"the flow has changed.*without --resume"):
        list(resume(store, city, epochs=9, means=Means(CPU)))


def test_a_device_that_is_not_there_is_a_sentence(small_home: Path) -> None:
    with pytest.raises(FlowcastError, match="no device 'tpu9'"):
        list(train(Store(), load_city("small"), TrainingConfig(), means=Means(Computing("tpu9"))))
