import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load, save

from data.city import City, load_city
from data.errors import FlowcastError, NotNowError
from data.files import sha256
from data.paths import models_root
from data.store.ingests import Source
from data.store.store import Store
from forecasting.city.recipe import Recipe
from forecasting.registry import versions as registry
from forecasting.registry.integrity import verify
from forecasting.registry.manifest import read_manifest, versions
from forecasting.training.hardware import Computing
from forecasting.training.interrupt import Stop
from forecasting.training.state import Epoch
from pipelines.forecast.champion import load_champion, problems
from pipelines.operate import nightly as nights
from pipelines.operate.nightly import KEPT, Night, nightly, prune, settle
from pipelines.promotion.gates import Gate
from pipelines.train.city import RunOptions, train
from pipelines.train.version import Trained

HORIZON = 4
RECIPE = Recipe.from_options(ensemble_size=1, refit=False, trees=False, epochs=1, batch=128)
OPTIONS = RunOptions(Computing("cpu"))


class Place(NamedTuple):
    """The trained city, and the moment of its newest slot."""

    store: Store
    city: City
    now: np.datetime64

    @property
    def champion(self) -> str:
        """The version that was trained."""
        return str(self.store.promotions.champion(self.city))

    def resolved(self, version: str) -> Night:
        """What becomes of a candidate."""
        return settle(self.store, self.city, version, now=self.now, until=self.now, horizon=HORIZON)


@pytest.fixture
def place(small_store: Store) -> Place:
    store, city = small_store, load_city("small")
    span = store.flow.span(city)
    assert span is not None
    return Place(store, city, span[1])


def made(
    place: Place, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]], **fields: Any
) -> str:
    """A version like the champion, but for its weights, which torch runs; honestly hashed."""
    folder = models_root() / place.city.name / place.champion
    other = folder.with_name(
        f"2099{len(versions(models_root(), place.city.name)):04d}-000000-abcd00"
    )
    shutil.copytree(folder, other)
    for path in other.glob("*.onnx"):
        path.unlink()
    weights = other / "weights.safetensors"
    weights.write_bytes(save(change(load(weights.read_bytes()))))
    manifest = json.loads((other / "manifest.json").read_text())
    manifest |= {"version": other.name, "weights_sha256": sha256(weights), "export": {}, **fields}
    (other / "manifest.json").write_text(json.dumps(manifest))
    return other.name


def same(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return tensors


def keep(share: float) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """What makes the share of the newest frame that is kept another one."""

    def change(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        name = "network.0.doors.keep"
        return tensors | {name: np.full_like(tensors[name], share)}

    return change


# Bad candidates made on purpose


def test_one_as_good_as_the_champion_is_promoted(place: Place) -> None:
    former, version = place.champion, made(place, same)
    night = place.resolved(version)
    failed = [gate for gate in night.gates if not gate.passed and not gate.name.startswith("band")]
    assert failed == []
    if night.promoted:  # the bands of two epochs may be what fails
        assert (place.champion, place.store.promotions.previous(place.city)) == (version, former)


@pytest.mark.parametrize(
    ("change", "gate"),
    [(keep(np.nan), "finite"), (keep(5.0), "baseline"), (keep(-1.0), "baseline")],
    ids=["nan", "far off", "unlike all"],
)
def test_a_bad_candidate_is_refused_with_its_reason(place: Place, change: Any, gate: str) -> None:
    former = place.champion
    night = place.resolved(made(place, change))
    assert not night.promoted
    assert night.reason.startswith(gate)
    assert place.champion == former
    last = place.store.promotions.decisions(place.city).iloc[-1]
    assert (last["verdict"], last["reason"], last["champion"]) == ("refused", night.reason, former)


def test_one_that_was_trained_on_shifted_data_is_refused(
    place: Place, on_sqlite: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = place.store.flow.read(place.city)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(models_root().parent / "cities", elsewhere / "cities")
    shutil.copytree(models_root(), elsewhere / "models")
    with monkeypatch.context() as patch:
        patch.setenv("FLOWCAST_HOME", str(elsewhere))
        patch.delenv("FLOWCAST_STORE", raising=False)
        other = Store()
        shifted = flow.copy(data=np.roll(flow.values, (11, 2), axis=(0, 3)))
        other.flow.add(place.city, shifted, source=Source("shifted.h5", ""))
        thorough = Recipe.from_options(
            ensemble_size=1, refit=False, trees=False, epochs=4, learning_rate=0.01
        )
        trained = list(train(other, place.city, thorough, options=OPTIONS))[-1]
        other.close()
    assert isinstance(trained, Trained)
    version = trained.manifest.version
    shutil.copytree(elsewhere / "models" / "small" / version, models_root() / "small" / version)
    night = place.resolved(version)
    assert not night.promoted
    assert {"overall", "peak hours"} & {gate.name for gate in night.gates if not gate.passed}


def test_a_constant_candidate_is_refused(place: Place) -> None:
    def constant(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        still = {name: np.zeros_like(one) for name, one in tensors.items() if "network" in name}
        return tensors | still | {"context.usual": np.full_like(tensors["context.usual"], 30.0)}

    night = place.resolved(made(place, constant))
    assert not night.promoted and night.reason.startswith("baseline")


def tampered(version: str) -> None:
    weights = models_root() / "small" / version / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def test_one_whose_files_were_altered_before_judging_does_not_serve(place: Place) -> None:
    version = made(place, same)
    tampered(version)
    night = place.resolved(version)
    assert not night.promoted and night.reason.startswith("files")
    assert "SHA-256" in night.reason
    assert place.champion != version


def test_one_whose_files_were_altered_after_judging_does_not_serve(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = made(place, same)

    def judged_and_altered(*arguments: Any, **options: Any) -> list[Gate]:
        found = [Gate("overall", True, 1.0, 2.0, "as it was judged")]
        tampered(version)
        return found

    monkeypatch.setattr("pipelines.operate.nightly.run_gates", judged_and_altered)
    night = place.resolved(version)
    assert not night.promoted and night.reason.startswith("files, once judged")
    assert place.champion != version


def softened(version: str) -> None:
    """Changes a manifest so that its files still agree with it."""
    path = models_root() / "small" / version / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["metrics"]["candidate"]["lead 1"] = 0.001
    path.write_text(json.dumps(manifest))


def test_one_whose_manifest_was_altered_after_judging_does_not_serve(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = made(place, same)

    def judged_and_altered(*arguments: Any, **options: Any) -> list[Gate]:
        softened(version)
        return [Gate("overall", True, 1.0, 2.0, "as it was judged")]

    monkeypatch.setattr("pipelines.operate.nightly.run_gates", judged_and_altered)
    night = place.resolved(version)
    assert not night.promoted and "not the manifest that was judged" in night.reason
    assert problems(place.store, place.city, version)


def test_a_champion_whose_manifest_is_altered_serves_no_more(place: Place) -> None:
    assert problems(place.store, place.city, place.champion) == []
    load_champion(place.store, place.city, place.champion)
    softened(place.champion)
    assert verify(models_root(), "small", place.champion) == []
    (wrong,) = problems(place.store, place.city, place.champion)
    assert "not the manifest that was judged" in wrong
    with pytest.raises(FlowcastError, match="not the manifest that was judged"):
        load_champion(place.store, place.city, place.champion)


def test_a_night_that_is_told_to_end_judges_nothing_and_goes_on_later(place: Place) -> None:
    stop = Stop()
    with pytest.raises(NotNowError, match="goes on where it was kept"):
        for event in nightly(
            place.store,
            place.city,
            place.now,
            recipe=RECIPE,
            options=RunOptions(Computing("cpu"), stop=stop),
            days=7,
        ):
            if isinstance(event, Epoch):  # what the signal to terminate does in a job
                stop.hurried = True
                stop.set()
    assert place.store.promotions.decisions(place.city)["version"].tolist() == [place.champion]
    events = nightly(place.store, place.city, place.now, recipe=RECIPE, options=OPTIONS, days=7)
    *_, night = events
    assert isinstance(night, Night)
    assert night.version in place.store.promotions.decisions(place.city)["version"].tolist()


def test_one_without_its_weights_or_manifest_is_refused(place: Place) -> None:
    for name in ("weights.safetensors", "manifest.json"):
        version = made(place, same)
        (models_root() / "small" / version / name).unlink()
        night = place.resolved(version)
        assert not night.promoted and night.reason.startswith("files")


def test_one_that_knows_the_days_it_is_judged_by_is_not_judged(place: Place) -> None:
    until = f"{place.now}Z"
    night = place.resolved(made(place, same, trained=[until, until]))
    assert not night.promoted
    assert night.reason.startswith("it could not be judged: small has 0 whole windows")


def test_a_champion_that_is_gone_need_not_be_beaten(place: Place) -> None:
    shutil.rmtree(models_root() / "small" / place.champion)
    place.store.promotions.promote(place.city, "20200101-000000-abcd00", "gone")
    # No version is left to copy: one is trained.
    events = nightly(place.store, place.city, place.now, recipe=RECIPE, options=OPTIONS, days=7)
    night = [event for event in events if isinstance(event, Night)][-1]
    assert not any(gate.name in ("overall", "peak hours") for gate in night.gates)


# Nights


def test_a_night_trains_on_frozen_days_and_judges_by_later_ones(place: Place) -> None:
    until = place.now - np.timedelta64(30, "h")
    events = list(nightly(place.store, place.city, until, recipe=RECIPE, options=OPTIONS, days=5))
    night = events[-1]
    assert isinstance(night, Night)
    assert not any(isinstance(event, Trained) for event in events)
    manifest = read_manifest(models_root(), "small", night.version)
    trained = np.datetime64(manifest.trained[1].removesuffix("Z"))
    assert trained == until - np.timedelta64(5 * 24, "h")
    names = {gate.name for gate in night.gates}
    assert {"files", "finite", "overall", "lead 4", "peak hours", "busiest cells"} <= names
    assert {"baseline recent-and-anomaly", "band 80%"} <= names
    last = place.store.promotions.decisions(place.city).iloc[-1]
    assert last["version"] == night.version
    assert last["gates"].keys() == names
    assert len(place.store.promotions.table(place.city)) == 1 + night.promoted


def test_a_night_that_was_interrupted_goes_on_with_the_same_days(
    place: Place, on_sqlite: None
) -> None:
    two = Recipe.from_options(ensemble_size=2, refit=False, trees=False, epochs=1, batch=128)
    events = nightly(place.store, place.city, place.now - 7200, recipe=two, options=OPTIONS, days=5)
    for event in events:
        if type(event).__name__ == "Epoch":  # the first member is done
            break
    events.close()  # type: ignore[attr-defined]
    again = list(nightly(place.store, place.city, place.now, recipe=two, options=OPTIONS, days=5))
    assert sum(type(event).__name__ == "Epoch" for event in again) == 1
    night = again[-1]
    assert isinstance(night, Night)
    manifest = read_manifest(models_root(), "small", night.version)
    trained = np.datetime64(manifest.trained[1].removesuffix("Z"))
    assert trained == place.now - 7200 - np.timedelta64(5 * 24, "h")


@pytest.mark.parametrize("count", [3_000, 20_000])
def test_a_night_goes_on_however_many_windows_there_are(count: int) -> None:
    recipe = replace(Recipe.from_options(), until="2026-05-01T06:00:00")
    settled = replace(recipe, until="2026-05-01T05:00:00").resolved(count).to_fields()
    last = Recipe.from_fields(json.loads(json.dumps(settled)))
    assert nights._same_night(last, recipe, load_city("nyc"))
    other = replace(recipe, optimizer="muon" if count < 10_000 else "adamw")
    assert not nights._same_night(last, other, load_city("nyc"))


def test_a_night_may_begin_with_the_champions_weights(place: Place, on_sqlite: None) -> None:
    recipe = Recipe.from_options(
        ensemble_size=1, refit=False, trees=False, epochs=1, learning_rate=0.0
    )
    events = nightly(
        place.store, place.city, place.now, recipe=recipe, options=OPTIONS, days=7, warm=True
    )
    night = [event for event in events if isinstance(event, Night)][-1]
    weights = [
        registry.load_weights(models_root(), read_manifest(models_root(), "small", version), 0)
        for version in (place.champion, night.version)
    ]
    for name, value in weights[0].items():
        np.testing.assert_array_equal(weights[1][name], value)


def test_a_night_that_may_begin_with_a_champion_that_is_gone_begins_anew(
    place: Place, on_sqlite: None
) -> None:
    shutil.rmtree(models_root() / "small" / place.champion)
    events = nightly(place.store, place.city, place.now, recipe=RECIPE, options=OPTIONS, warm=True)
    night = [event for event in events if isinstance(event, Night)][-1]
    assert night.gates


@pytest.mark.parametrize("time", ["2999-01-01T00:00:00Z", "soon"])
def test_a_champion_whose_manifest_is_no_good_need_not_be_beaten(place: Place, time: str) -> None:
    version, path = made(place, same), models_root() / "small" / place.champion / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"trained": [manifest["trained"][0], time]}))
    night = place.resolved(version)
    assert {"finite", "baseline persistence"} <= {gate.name for gate in night.gates}
    assert "overall" not in {gate.name for gate in night.gates}


def test_old_versions_go_and_champion_previous_and_newest_stay(place: Place) -> None:
    first = place.champion
    copies = [made(place, same) for _ in range(KEPT + 3)]
    place.store.promotions.decide(place.city, copies[1], "promoted", "for the test", place.now)
    assert prune(place.store, place.city) == [copies[0], copies[2]]
    left = versions(models_root(), "small")
    assert {first, copies[1], *copies[-KEPT:]} == {*left}
    assert not [path for path in (models_root() / "small").iterdir() if "removing" in path.name]


def test_a_version_is_verified_file_by_file(place: Place) -> None:
    assert verify(models_root(), "small", place.champion) == []
    folder = models_root() / "small" / place.champion
    (folder / "strange.txt").touch()
    (folder / "network-0.onnx").write_bytes(b"")
    assert len(verify(models_root(), "small", place.champion)) == 2
    assert len(verify(models_root(), "small", "20200101-000000-abcd00")) == 1


def test_training_by_hand_keeps_its_judgement(place: Place) -> None:
    trained = list(train(place.store, place.city, RECIPE, options=OPTIONS))[-1]
    assert isinstance(trained, Trained)
    last = place.store.promotions.decisions(place.city).iloc[-1]
    assert (last["version"], last["reason"]) == (trained.manifest.version, trained.reason)
    assert last["verdict"] == ("promoted" if trained.promoted else "refused")
