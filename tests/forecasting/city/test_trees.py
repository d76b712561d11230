"""Trees beside the networks, their share, and what becomes of them in a version."""

import shutil
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from data import windows
from data.city import load_city
from data.errors import FlowcastError
from data.flow import Split, split
from data.paths import models_root
from data.store.store import Store
from forecasting.city.fit import FitPlan, Fitted, fitted, trees_weight
from forecasting.city.recipe import Recipe
from forecasting.city.trees import FittedTrees, TreesProgress
from forecasting.covariates.covariates import Covariates
from forecasting.forecaster import label_forecast
from forecasting.history import History
from forecasting.registry.integrity import verify
from forecasting.registry.manifest import read_manifest
from forecasting.registry.versions import load_version
from forecasting.training.hardware import Computing
from forecasting.trees import forecaster as trees
from forecasting.trees.forecaster import Trees
from pipelines.train.city import RunOptions, TrainingEvent, resume, train
from pipelines.train.version import Trained
from tests.conftest import MakeOnce

pytest.importorskip("sklearn")
CPU = Computing("cpu")
QUICK: dict[str, Any] = {"ensemble_size": 1, "epochs": 1, "history": 2, "horizon": 1, "batch": 128}


@pytest.fixture(scope="session")
def grown_home(_trained_home: Path, make_once: MakeOnce) -> Path:
    """A home whose city `small` has a champion with trees."""

    def grow(home: Path) -> None:
        shutil.copytree(_trained_home, home)
        store = Store()
        list(
            train(
                store,
                load_city("small"),
                Recipe.from_options(trees=True, **QUICK),
                options=RunOptions(CPU),
            )
        )
        store.close()

    return make_once("grown", grow)


@pytest.fixture
def home(grown_home: Path, flowcast_home: Path) -> Path:
    """A copy of it for one test."""
    shutil.copytree(grown_home, flowcast_home)
    return flowcast_home


@pytest.fixture(scope="module")
def made(_trained_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """What the same recipe makes without keeping it: networks by torch, trees by scikit-learn."""
    home = tmp_path_factory.mktemp("made") / "home"
    shutil.copytree(_trained_home, home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWCAST_HOME", str(home))
        patch.delenv("FLOWCAST_STORE", raising=False)
        city, store = load_city("small"), Store()
        parts = split(store.flow.read(city), city)
        store.close()
        return fitted(parts, city, Recipe.from_options(trees=True, **QUICK), computing=CPU)


@pytest.fixture
def parts(small_home: Path) -> Split:
    city = load_city("small")
    return split(Store().flow.read(city), city)


def newest(home: Path) -> str:
    return max(path.parent.name for path in (home / "models/small").glob("2*/manifest.json"))


def plan(parts: Split, **asked: Any) -> FitPlan:
    return FitPlan.prepare(parts, load_city("small"), Recipe.from_options(**(QUICK | asked)))


# The share


@dataclass(frozen=True)
class Constant:
    """Forecasts the same everywhere."""

    value: float
    name: str = "constant"

    def lags(self, horizon: int) -> tuple[int, ...]:
        return (0,)

    def optional_lags(self, horizon: int) -> tuple[int, ...]:
        return ()

    def __call__(self, history: History, horizon: int) -> xr.DataArray:
        shape = (len(history.init_times), horizon, *history.flow.shape[1:])
        return label_forecast(np.full(shape, self.value, dtype=np.float32), history)


class Ten:
    """Trees that say ten above the base."""

    def predict(self, features: np.ndarray) -> np.ndarray:
        return np.full(len(features), 10.0)


@pytest.mark.parametrize("ours", [0.0, 4.0, 30.0])
def test_the_share_is_that_of_least_squares(parts: Split, ours: float) -> None:
    task = plan(parts, without=["anomaly"]).task
    assert not isinstance(task.context, Covariates) or not task.context.config.anomaly
    others = Trees((Ten(),), (0.0,), history=2)
    # (ours + s (10 - ours)) is to be the mean of what was observed.
    init_times = np.intersect1d(task.init_times, windows.whole(task.known, (1, 0), 1))
    mean = float(windows.future(task.known, init_times, 1).values.mean())
    expected = np.clip((mean - ours) / (10 - ours), 0, 1)
    assert trees_weight(task, Constant(ours), others) == pytest.approx(expected, abs=1e-5)


def test_where_both_say_the_same_the_networks_serve(parts: Split) -> None:
    task = plan(parts, without=["anomaly"]).task
    assert trees_weight(task, Constant(10.0), Trees((Ten(),), (0.0,), 2)) == 0.0


# What is fitted


def values_of(forecaster: Any, flow: xr.DataArray, horizon: int) -> np.ndarray:
    init_times = flow["time"].values[[400, 450, 500]]
    return np.asarray(forecaster(History.of(flow, init_times), horizon).values)


def test_the_forecast_is_the_networks_and_the_trees_by_their_shares(
    parts: Split, made: Fitted
) -> None:
    assert made.forecaster.name == "swinlstm-b+trees"
    for whole in (made.selected, made.forecaster):
        assert whole.trees is not None
        assert 0 < whole.share <= 1
        networks = values_of(replace(whole, trees=None), parts.train, 3)
        theirs = values_of(trees.TreesForecaster(whole.trees, whole.context), parts.train, 1)
        mixed = values_of(whole, parts.train, 3)
        expected = networks[:, :1] + whole.share * (theirs - networks[:, :1])
        clear = (networks[:, :1] > 0) & (theirs > 0)  # where neither was raised to zero
        np.testing.assert_allclose(mixed[:, :1][clear], expected[clear], rtol=1e-4, atol=1e-3)
        # Beyond the leads that trees were grown for the networks forecast alone.
        np.testing.assert_array_equal(mixed[:, 1:], networks[:, 1:])


def test_the_test_days_are_not_looked_at(parts: Split, made: Fitted) -> None:
    asked, other = Recipe.from_options(trees=True, **QUICK), parts._replace(test=parts.test + 100)
    one, two = made, fitted(other, load_city("small"), asked, computing=CPU)
    for first, second in ((one.selected, two.selected), (one.forecaster, two.forecaster)):
        np.testing.assert_array_equal(
            values_of(first, parts.train, 2), values_of(second, parts.train, 2)
        )


def test_trees_are_grown_lead_by_lead_and_can_be_stopped(parts: Split) -> None:
    grown = list(plan(parts, trees=True).grow())
    assert [one for one in grown if isinstance(one, TreesProgress)] == [
        TreesProgress(n, 2) for n in (1, 2)
    ]
    assert isinstance(grown[-1], FittedTrees)
    stop = threading.Event()
    stop.set()
    assert list(plan(parts, trees=True).grow(stop)) == [TreesProgress(1, 2)]


# What becomes of them


def test_a_version_keeps_its_trees_and_forecasts_with_them(home: Path, made: Fitted) -> None:
    city, store, name = load_city("small"), Store(), newest(home)
    manifest = read_manifest(models_root(), "small", name)
    assert 0 < manifest.trees["share"] <= 1
    assert len(manifest.trees["sha256"]) == len(manifest.trees["shares"]) == 1
    assert verify(models_root(), "small", name) == []
    loaded = load_version(models_root(), city, name)
    assert loaded.share == manifest.trees["share"]
    # The same recipe without a version has the trees of scikit-learn themselves.
    flow = store.flow.read(city)
    np.testing.assert_allclose(
        values_of(loaded, flow, 2), values_of(made.forecaster, flow, 2), rtol=1e-3, atol=5e-3
    )


def test_damaged_trees_are_refused_with_a_way_out(home: Path) -> None:
    name = newest(home)
    path = home / "models/small" / name / "trees-1.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(FlowcastError, match=r"trees-1.onnx is damaged.*use another version"):
        load_version(models_root(), load_city("small"), name)
    assert [
        line for line in verify(models_root(), "small", name) if "trees-1.onnx is damaged" in line
    ]
    path.unlink()
    with pytest.raises(FlowcastError, match=r"cannot be read.*train again"):
        load_version(models_root(), load_city("small"), name)


def test_a_training_that_is_resumed_grows_the_same_trees(home: Path) -> None:
    city, store, name = load_city("small"), Store(), newest(home)
    before = read_manifest(models_root(), "small", name)
    shutil.rmtree(home / "models/small" / name)  # as if it had died before its version was made
    events: list[TrainingEvent | Trained] = list(resume(store, city, options=RunOptions(CPU)))
    assert isinstance(events[-1], Trained)
    again = events[-1].manifest
    assert again.trees["rounds"] == before.trees["rounds"]
    assert again.trees["share"] == pytest.approx(before.trees["share"], abs=1e-6)


def test_without_trees_a_version_is_of_networks_alone(small_home: Path) -> None:
    asked = Recipe.from_options(trees=False, **QUICK)
    *_, made = train(Store(), load_city("small"), asked, options=RunOptions(CPU))
    assert isinstance(made, Trained)
    assert (made.manifest.trees, made.notes) == ({}, ())
    assert not list((small_home / "models/small").glob("2*/trees-*"))
