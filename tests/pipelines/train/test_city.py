"""Training, resuming and promoting on a small simulated city."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from data.city import load_city
from data.errors import FlowcastError
from data.flow import split
from data.paths import models_root
from data.store.ingests import Source
from data.store.store import Store
from forecasting.baselines import BASELINES
from forecasting.city.fit import FitPlan
from forecasting.city.recipe import Recipe
from forecasting.city.task import CityTask
from forecasting.ensemble import NeuralForecaster
from forecasting.registry.integrity import verify
from forecasting.registry.manifest import versions
from forecasting.registry.versions import load_version
from forecasting.training.batches import FrameWindows
from forecasting.training.checkpoint import read_facts
from forecasting.training.hardware import Computing
from forecasting.training.loop import Batch
from forecasting.training.state import Epoch
from pipelines.train import export
from pipelines.train.city import FitStarted, RunOptions, TrainingEvent, resume, train
from pipelines.train.export import ServingForm
from pipelines.train.version import Trained, starting_weights

CPU = Computing("cpu")
FOLDER = "models/small/training"
CHECKPOINT = f"{FOLDER}/selection-0.safetensors"


QUICK = {"history": 2, "horizon": 1, "batch": 128}
"""A fifth of the usual work."""


def single(**asked: Any) -> Recipe:
    """One network, which knows the training days alone."""
    return Recipe.from_options(ensemble_size=1, refit=False, trees=False, **asked)


def double(**asked: Any) -> Recipe:
    """Two networks, whose epochs are chosen before they see the validation days too."""
    return Recipe.from_options(
        network="convlstm", ensemble_size=2, epochs=2, trees=False, **QUICK, **asked
    )


def finish(events: Iterator[TrainingEvent | Trained]) -> Trained:
    *_, last = events
    assert isinstance(last, Trained)
    return last


def contents(home: Path) -> dict[str, dict[str, bytes]]:
    """All tensors of each checkpoint."""
    return {
        path.stem: {name: value.tobytes() for name, value in load_file(path).items()}
        for path in sorted((home / FOLDER).glob("*.safetensors"))
    }


def test_a_first_version_that_beats_all_baselines_is_champion(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    champion = store.promotions.champion(city)
    assert [champion] == versions(models_root(), "small")
    manifest = json.loads((models_root() / "small" / champion / "manifest.json").read_text())
    scores = manifest["metrics"]
    baselines = [scores[name]["all"] for name in BASELINES]
    assert scores["candidate"]["all"] < min(baselines)
    # Seven days to test on before the 7th of April and four to validate on, from local midnights.
    assert manifest["selected"] == ["2025-03-03T05:00:00Z", "2025-03-27T03:00:00Z"]
    assert manifest["trained"] == ["2025-03-03T05:00:00Z", "2025-03-31T03:00:00Z"]


def test_the_test_days_are_never_touched_by_training(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    flow = store.flow.read(city)
    changed = flow.copy()
    # Seven days of 24 hours before the end of the archive, the 7th of April 2025, 00:00 local.
    changed[flow["time"].values >= flow["time"].values[-1] - 167 * city.step] += 50
    first = (
        models_root() / "small" / str(store.promotions.champion(city)) / "weights.safetensors"
    ).read_bytes()
    other = Store(f"sqlite:///{small_home / 'other.db'}")
    other.flow.add(city, changed, source=Source("changed", ""))
    trained = finish(train(other, city, single(epochs=2), options=RunOptions(CPU)))
    again = models_root() / "small" / trained.manifest.version / "weights.safetensors"
    assert again.read_bytes() == first


def test_any_network_is_trained_and_kept_with_its_own_slots(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    recipe = single(network="st-resnet", epochs=1, horizon=2)
    trained = finish(train(store, city, recipe, options=RunOptions(CPU)))
    version = trained.manifest.version
    loaded = load_version(models_root(), city, version)
    # Three slots of closeness, and those of the leads a day and a week before; hourly slots.
    assert loaded.lags(2) == (167, 166, 23, 22, 2, 1, 0)
    assert loaded.name == trained.manifest.network == "st-resnet"
    with pytest.raises(FlowcastError, match="no network 'lstm'; there is swinlstm-b"):
        next(train(store, city, single(network="lstm"), options=RunOptions(CPU)))


def test_a_training_killed_after_an_epoch_goes_on_as_if_it_never_was(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    recipe = single(epochs=3, seed=5, optimizer="muon", **QUICK)
    finish(train(store, city, recipe, options=RunOptions(CPU)))
    whole = contents(small_home)
    for progress in train(store, city, recipe, options=RunOptions(CPU)):
        if isinstance(progress, Batch) and progress.epoch == 2 and progress.done > 100:
            break  # the process dies in the middle of the second epoch
    assert (
        len([e for e in resume(store, city, options=RunOptions(CPU)) if isinstance(e, Epoch)]) == 2
    )
    assert contents(small_home) == whole


def test_a_stopped_training_keeps_its_best_epoch_and_can_go_on(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    stop = threading.Event()
    events = []
    for event in train(
        store, city, single(epochs=9, seed=3, **QUICK), options=RunOptions(CPU, stop=stop)
    ):
        events.append(event)
        if isinstance(event, Epoch):
            stop.set()
    assert isinstance(events[-1], Trained)
    assert events[-1].stopped
    (told,) = events[-1].manifest.training["fits"]
    assert (told["kind"], told["seed"], told["chosen_epoch"]) == ("selection", 3, 1)
    assert load_version(models_root(), city, events[-1].manifest.version).lags(4)
    again = finish(resume(store, city, epochs=2, options=RunOptions(CPU)))
    assert not again.stopped
    assert len(again.manifest.training["fits"][0]["history"]) == 2


def test_a_training_that_ends_with_its_minutes_was_not_stopped(
    small_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The clock is looked at again later, when a further epoch may seem to fit in after all.
    monkeypatch.setattr("pipelines.train.city.is_finished", lambda state: False)
    trained = finish(
        train(Store(), load_city("small"), single(epochs=1, **QUICK), options=RunOptions(CPU))
    )
    assert not trained.stopped


def test_a_training_stopped_before_its_first_epoch_says_that_nothing_was_kept(
    small_home: Path,
) -> None:
    stop = threading.Event()
    stop.set()
    before = versions(models_root(), "small")
    with pytest.raises(FlowcastError, match="before its first epoch"):
        list(train(Store(), load_city("small"), single(), options=RunOptions(CPU, stop=stop)))
    assert versions(models_root(), "small") == before


def test_a_version_that_is_no_better_than_the_champion_stays_a_candidate(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    champion = store.promotions.champion(city)
    recipe = single(epochs=1, learning_rate=1e-7, batch=128)
    trained = finish(train(store, city, recipe, options=RunOptions(CPU)))
    assert not trained.promoted
    assert trained.reason.startswith(("baseline", "overall"))
    assert store.promotions.champion(city) == champion
    assert trained.manifest.version in versions(models_root(), "small")


def test_champion_and_candidate_are_judged_alike(small_home: Path) -> None:
    again = finish(train(Store(), load_city("small"), single(epochs=2), options=RunOptions(CPU)))
    scores = again.manifest.metrics  # the same training once more
    assert scores["champion"] == pytest.approx(scores["candidate"])
    assert again.promoted  # as at night, it may be up to 1 % above the champion


def test_one_training_of_a_city_runs_at_a_time(small_home: Path) -> None:
    with (
        filelock.FileLock(small_home / "models/small/training/training.lock"),
        pytest.raises(FlowcastError, match="another training of small is under way"),
    ):
        next(iter(train(Store(), load_city("small"), single(), options=RunOptions(CPU))))


def test_resuming_a_finished_training_says_how_to_get_more_epochs(small_home: Path) -> None:
    with pytest.raises(FlowcastError, match=r"all of its 2 epochs.*--epochs"):
        list(resume(Store(), load_city("small"), options=RunOptions(CPU)))


def test_a_training_killed_before_its_version_was_written_gets_it_by_resuming(
    small_home: Path,
) -> None:
    city, store = load_city("small"), Store()
    lost = small_home / "models" / "small" / str(store.promotions.champion(city))
    shutil.rmtree(lost)
    again = finish(resume(store, city, options=RunOptions(CPU)))
    assert versions(models_root(), "small") == [again.manifest.version]
    with pytest.raises(FlowcastError, match="all of its 2 epochs"):
        list(resume(store, city, options=RunOptions(CPU)))


def test_resuming_where_nothing_was_trained_is_a_sentence(flowcast_home: Path) -> None:
    with pytest.raises(FlowcastError, match=r"no training to go on with .*without --resume"):
        list(resume(Store(), load_city("demo"), options=RunOptions(CPU)))


def test_resuming_after_the_flow_changed_is_refused(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    flow = store.flow.read(city)[:1] + 1
    flow.attrs = store.flow.read(city).attrs
    store.flow.add(city, flow, source=Source("corrected", ""), replace=True)
    with pytest.raises(FlowcastError, match=r"the flow has changed.*without --resume"):
        list(resume(store, city, epochs=9, options=RunOptions(CPU)))


def test_a_device_that_is_not_there_is_a_sentence(small_home: Path) -> None:
    with pytest.raises(FlowcastError, match="no device 'tpu9'"):
        list(train(Store(), load_city("small"), single(), options=RunOptions(Computing("tpu9"))))


# Several fits


def kept_forecast(home: Path, trained: Trained) -> NeuralForecaster:
    return load_version(home / "models", load_city("small"), trained.manifest.version)


@pytest.fixture(scope="module")
def _whole(
    _trained_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[TrainingEvent | Trained]]:
    """A home with a training of two networks, never interrupted, and what it told."""
    home = tmp_path_factory.mktemp("whole") / "home"
    shutil.copytree(_trained_home, home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWCAST_HOME", str(home))
        events = list(train(Store(), load_city("small"), double(), options=RunOptions(CPU)))
    return home, events


def test_every_member_is_fitted_twice_and_the_final_fits_take_the_epochs_found(
    _whole: tuple[Path, list[TrainingEvent | Trained]],
) -> None:
    _, events = _whole
    begun = [(e.number, e.count, e.kind, e.seed) for e in events if isinstance(e, FitStarted)]
    assert begun == [
        (1, 4, "selection", 0),
        (2, 4, "selection", 1),
        (3, 4, "final", 0),
        (4, 4, "final", 1),
    ]
    trained = events[-1]
    assert isinstance(trained, Trained)
    manifest = trained.manifest
    assert (manifest.members, trained.stopped) == (2, False)
    fits = manifest.training["fits"]
    assert [(fit["kind"], fit["seed"]) for fit in fits] == [
        (kind, seed) for *_, kind, seed in begun
    ]
    for selected, final in ((fits[0], fits[2]), (fits[1], fits[3])):
        errors = [epoch["validation"] for epoch in selected["history"]]
        assert selected["chosen_epoch"] == 1 + int(np.argmin(errors))
        assert len(final["history"]) == final["chosen_epoch"] == selected["chosen_epoch"]
        assert {epoch["validation"] for epoch in final["history"]} == {None}


def test_what_serves_knows_the_validation_days_and_what_is_judged_does_not(
    _whole: tuple[Path, list[TrainingEvent | Trained]],
) -> None:
    home, events = _whole
    trained = events[-1]
    assert isinstance(trained, Trained)
    saved = contents(home)
    weights = load_file(home / "models/small" / trained.manifest.version / "weights.safetensors")
    for member in (0, 1):
        best = {
            name.removeprefix("best."): value
            for name, value in saved[f"final-{member}"].items()
            if name.startswith("best.")
        }
        prefix = f"network.{member}."
        ours = {
            name.removeprefix(prefix): value.tobytes()
            for name, value in weights.items()
            if name.startswith(prefix)
        }
        assert ours == best
        assert ours != {name: saved[f"selection-{member}"][f"best.{name}"] for name in ours}


def in_final(event: TrainingEvent | Trained, seen: list[TrainingEvent | Trained]) -> bool:
    begun = [one for one in seen if isinstance(one, FitStarted)]
    return isinstance(event, Batch) and begun[-1].number == 4 and event.done > 100


def between(event: TrainingEvent | Trained, seen: list[TrainingEvent | Trained]) -> bool:
    return isinstance(event, FitStarted) and event.number == 3


@pytest.mark.parametrize("moment", [in_final, between])
def test_a_training_killed_in_any_of_its_fits_goes_on_as_if_it_never_was(
    small_home: Path,
    _whole: tuple[Path, list[TrainingEvent | Trained]],
    moment: Callable[[TrainingEvent | Trained, list[TrainingEvent | Trained]], bool],
) -> None:
    city, store = load_city("small"), Store()
    seen: list[TrainingEvent | Trained] = []
    for event in train(store, city, double(), options=RunOptions(CPU)):
        if moment(event, seen):
            break
        seen.append(event)
    again = finish(resume(store, city, options=RunOptions(CPU)))
    assert contents(small_home) == contents(_whole[0])
    ours, theirs = (
        (home / "models/small" / one.manifest.version / "weights.safetensors").read_bytes()
        for home, one in ((small_home, again), (_whole[0], finish(iter(_whole[1]))))
    )
    assert ours == theirs


def test_a_training_stopped_in_a_final_fit_serves_what_was_selected_and_can_go_on(
    small_home: Path, _whole: tuple[Path, list[TrainingEvent | Trained]]
) -> None:
    city, store = load_city("small"), Store()
    stop = threading.Event()
    events: list[TrainingEvent | Trained] = []
    for event in train(store, city, double(), options=RunOptions(CPU, stop=stop)):
        if in_final(event, events):
            stop.set()
        events.append(event)
    first = finish(iter(events))
    assert first.stopped
    assert [fit["kind"] for fit in first.manifest.training["fits"]] == ["selection"] * 2
    assert len(kept_forecast(small_home, first).rollouts) == 2
    again = finish(resume(store, city, options=RunOptions(CPU)))
    assert not again.stopped
    assert contents(small_home) == contents(_whole[0])
    assert again.manifest.metrics["candidate"] == first.manifest.metrics["candidate"]
    with pytest.raises(FlowcastError, match=r"all of its 2 epochs.*--epochs"):
        list(resume(store, city, options=RunOptions(CPU)))


def test_more_epochs_train_every_member_on_and_the_final_fits_anew(
    small_home: Path, _whole: tuple[Path, list[TrainingEvent | Trained]]
) -> None:
    shutil.rmtree(small_home)
    shutil.copytree(_whole[0], small_home)
    city, store = load_city("small"), Store()
    events = list(resume(store, city, epochs=3, options=RunOptions(CPU)))
    again = finish(iter(events))
    fits = again.manifest.training["fits"]
    assert [len(fit["history"]) for fit in fits[:2]] == [3, 3]
    before = finish(iter(_whole[1])).manifest.training["fits"]
    assert [fit["history"][:2] for fit in fits[:2]] == [fit["history"] for fit in before[:2]]
    # The schedule of the final fits is another one: they begin anew.
    epochs = [e for e in events if isinstance(e, Epoch)]
    assert len(epochs) == 2 + sum(fit["chosen_epoch"] for fit in fits[:2])
    assert not again.stopped


def test_a_version_of_another_format_is_no_hindrance(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    version = str(store.promotions.champion(city))
    path = models_root() / "small" / version / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 1}))
    again = finish(resume(store, city, options=RunOptions(CPU)))
    assert again.promoted  # over a champion that cannot serve
    assert again.manifest.version != version


def test_parts_of_the_context_can_be_left_out(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    parts = ["anomaly", "expected", "yesterday", "hour", "holiday", "weather", "place"]
    bare = finish(
        train(store, city, single(epochs=1, without=parts, **QUICK), options=RunOptions(CPU))
    )
    assert bare.manifest.around == {}
    assert kept_forecast(small_home, bare).optional_lags(4) == ()
    less = finish(
        train(store, city, single(epochs=1, without=["hour"], **QUICK), options=RunOptions(CPU))
    )
    assert less.manifest.context["config"]["hour"] is False
    assert less.manifest.around["numbers"] == 4  # of holidays
    assert less.manifest.config_hash != bare.manifest.config_hash


def test_a_version_made_in_the_second_of_another_takes_a_later_one(small_home: Path) -> None:
    root, asked = models_root() / "small", single(epochs=1, network="convlstm", **QUICK)
    city, store = load_city("small"), Store()
    [former] = versions(models_root(), "small")
    now = pd.Timestamp.now("UTC")
    taken = [
        root / f"{now + pd.Timedelta(seconds=second):%Y%m%d-%H%M%S}{former[15:]}"
        for second in range(120)
    ]
    for folder in taken:
        shutil.copytree(root / former, folder)
    made = finish(train(store, city, asked, options=RunOptions(CPU)))
    assert made.manifest.version == max(versions(models_root(), "small")) > taken[-1].name
    assert store.promotions.champion(city) == (made.manifest.version if made.promoted else former)
    for folder in taken:
        for path in (root / former).iterdir():
            assert (folder / path.name).read_bytes() == path.read_bytes()


# Networks on frames alone beside the others


def mixed(**asked: Any) -> Recipe:
    """A network of each kind."""
    return Recipe.from_options(
        ensemble_size=1, raw_ensemble=True, trees=False, epochs=1, **QUICK, **asked
    )


def test_a_second_kind_of_networks_is_trained_kept_and_gone_on_with(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    events = list(train(store, city, mixed(refit=True), options=RunOptions(CPU)))
    begun = [(e.number, e.count, e.kind) for e in events if isinstance(e, FitStarted)]
    kinds = ["selection", "selection", "final", "final"]
    assert begun == [(number, 4, kind) for number, kind in enumerate(kinds, start=1)]
    trained = finish(iter(events))
    manifest, loaded = trained.manifest, kept_forecast(small_home, trained)
    assert (manifest.members, manifest.networks) == (1, 2)
    assert loaded.raw is not None
    assert loaded.raw_weight == manifest.plain["share"] > 0
    assert loaded.raw.optional_lags(1) == ()
    assert loaded.raw.runtime == loaded.runtime == "onnxruntime float32"
    assert verify(models_root(), "small", manifest.version) == []
    whole = contents(small_home)
    killed = train(store, city, mixed(refit=True), options=RunOptions(CPU))
    next(e for e in killed if isinstance(e, FitStarted) and e.number == 2)
    killed.close()
    again = finish(resume(store, city, options=RunOptions(CPU)))
    assert contents(small_home) == whole
    assert again.manifest.plain == manifest.plain
    # Each kind of a warm start begins with its own weights.
    plan = FitPlan.prepare(split(store.flow.read(city), city), city, mixed())
    weights = [
        starting_weights(city, manifest.version, member, plan.selection(member))
        for member in range(2)
    ]
    for member, one in enumerate(weights):
        assert one is not None
        kept = whole[f"final-{member}"]
        assert {name: value.tobytes() for name, value in one.items()} == {
            name: kept[f"best.{name}"] for name in one
        }


def test_networks_on_frames_alone_that_add_nothing_stay_away(
    small_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.train.version.LEAST", 1.1)
    city = load_city("small")
    trained = finish(train(Store(), city, mixed(refit=False), options=RunOptions(CPU)))
    assert (trained.manifest.plain, trained.manifest.networks) == ({}, 1)
    assert "raw-flow networks are left out: they do not lower the RMSE on the validation days" in (
        trained.notes
    )
    assert kept_forecast(small_home, trained).raw is None
    assert verify(models_root(), "small", trained.manifest.version) == []


def test_int8_that_does_not_do_for_one_kind_serves_neither(
    small_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(task: CityTask, networks: Sequence[nn.Module], exact: ServingForm) -> ServingForm:
        if task.around is not None:
            return measure(task, networks, exact)
        return replace(exact, notes=("float32 serves: as if int8 changed too much",))

    measure = export._measured
    monkeypatch.setattr(export, "_measured", measured)
    options = RunOptions(CPU, serve="int8")
    trained = finish(train(Store(), load_city("small"), mixed(refit=False), options=options))
    assert trained.manifest.plain
    assert trained.manifest.export["precision"] == "float32"
    assert "float32 serves: as if int8 changed too much" in trained.notes
    assert not any("int8 serves" in note for note in trained.notes)
    loaded = kept_forecast(small_home, trained)
    assert loaded.raw is not None
    assert loaded.runtime == loaded.raw.runtime == "onnxruntime float32"


def test_a_training_stopped_before_its_second_kind_serves_the_first(small_home: Path) -> None:
    stop = threading.Event()
    events: list[TrainingEvent | Trained] = []
    for event in train(Store(), load_city("small"), mixed(), options=RunOptions(CPU, stop=stop)):
        events.append(event)
        if isinstance(event, Epoch):
            stop.set()
    trained = finish(iter(events))
    assert (trained.stopped, trained.manifest.plain) == (True, {})
    assert "the forecast has no raw-flow networks" in trained.notes[0]
    assert kept_forecast(small_home, trained).raw is None


def test_a_second_kind_that_comes_to_no_finite_end_costs_no_more_than_itself(
    small_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(self: CityTask, device: torch.device) -> FrameWindows:
        cut = feed(self, device)
        if self.around is None:
            cut.frames.fill_(torch.nan)
        return cut

    feed = CityTask.feed
    monkeypatch.setattr(CityTask, "feed", spoilt)
    trained = finish(train(Store(), load_city("small"), mixed(), options=RunOptions(CPU)))
    assert (trained.stopped, trained.manifest.plain) == (False, {})
    assert len(trained.manifest.training["fits"]) == 2  # that of the selection, and the final one
    assert "the forecast has no raw-flow networks" in trained.notes[0]


def test_a_training_that_began_before_there_was_a_second_kind_goes_on(small_home: Path) -> None:
    city, store = load_city("small"), Store()
    path = small_home / CHECKPOINT
    recipe = json.loads(read_facts(path)["recipe"])
    assert "plain" not in recipe  # as it was written then
    assert Recipe.from_fields(recipe).raw_ensemble is False
    more = resume(store, city, epochs=3, options=RunOptions(CPU))
    assert len([event for event in more if isinstance(event, Epoch)]) == 1
