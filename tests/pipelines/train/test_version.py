"""How a candidate comes to serve: by its export, in int8 where that is as good, else by torch."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from data.city import load_city
from data.flow import split
from data.paths import models_root
from data.store.store import Store
from forecasting.city.fit import FitPlan
from forecasting.city.recipe import Recipe
from forecasting.city.task import CityTask
from forecasting.history import History
from forecasting.networks.swin import SwinBlock
from forecasting.registry.manifest import read_manifest
from forecasting.registry.versions import load_version
from forecasting.rollout.onnx_rollout import OnnxRollout
from forecasting.rollout.torch_rollout import TorchRollout, restore
from forecasting.training.hardware import Computing
from pipelines.train.city import RunOptions, train
from pipelines.train.export import serving_form
from pipelines.train.version import Trained

QUICK = {"epochs": 1, "history": 2, "horizon": 1, "batch": 128}


@pytest.fixture
def task(small_home: Path) -> CityTask:
    city = load_city("small")
    recipe = Recipe.from_options(ensemble_size=1, refit=False, trees=False)
    return FitPlan.prepare(split(Store().flow.read(city), city), city, recipe).task


@pytest.fixture
def network(task: CityTask) -> torch.nn.Module:
    """The champion's network, by torch."""
    from safetensors.numpy import load_file

    assert task.around is not None
    version = str(Store().promotions.champion(load_city("small")))
    tensors = load_file(models_root() / "small" / version / "weights.safetensors")
    weights = {
        name.removeprefix("network.0."): value
        for name, value in tensors.items()
        if name.startswith("network.0.")
    }
    config, around = dataclasses.asdict(task.network), dataclasses.asdict(task.around)
    return restore("swinlstm-b", config, around, weights).network


def test_a_trained_champion_serves_by_its_export(small_home: Path) -> None:
    city = load_city("small")
    version = str(Store().promotions.champion(city))
    manifest = read_manifest(models_root(), "small", version)
    assert manifest.export["precision"] == "float32"
    assert manifest.export["difference"] < 1e-5
    served = load_version(models_root(), city, version)
    assert [type(one) for one in served.rollouts] == [OnnxRollout]


def test_int8_serves_where_the_validation_error_stays(
    task: CityTask, network: torch.nn.Module
) -> None:
    exact = task.error(network)
    service = serving_form(task, [network], "int8")
    own = task.errors(service.forecaster)["all"]
    measured = service.facts["rmse"]
    assert measured["float32"] == pytest.approx(exact, rel=1e-5)
    assert service.facts["precision"] == "int8"
    assert own == measured["int8"] != measured["float32"]
    assert abs(own / exact - 1) < 0.005
    assert "int8 serves" in service.notes[0]


def test_int8_is_refused_where_the_validation_error_moves(
    task: CityTask, network: torch.nn.Module
) -> None:
    # A feature far above the others, which the next matrix ignores: float32 does not mind, but the
    # steps of int8 reach up to it and lose all others.
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, SwinBlock):
                module.get_parameter("mlp.0.bias")[0] = 1e4
                module.get_parameter("mlp.2.weight")[:, 0] = 0
        network.get_parameter("doors.leave.2.weight").mul_(10)
    service = serving_form(task, [network], "int8")
    assert service.facts["precision"] == "float32"
    assert "which is not below 0.5%" in service.facts["refused"]
    change = service.facts["rmse"]["int8"] / service.facts["rmse"]["float32"] - 1
    assert abs(change) >= 0.005
    assert service.notes == (f"float32 serves: {service.facts['refused']}",)
    exact = task.error(network)
    assert task.errors(service.forecaster)["all"] == pytest.approx(exact, rel=1e-4)


def test_torch_serves_where_the_export_does_not_agree(
    task: CityTask, network: torch.nn.Module
) -> None:
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))  # what no comparison holds of
    service = serving_form(task, [network, network], "float32")
    assert service.models == ()
    assert [type(one) for one in service.forecaster.rollouts] == [TorchRollout] * 2
    assert "differs by" in service.facts["failed"]
    assert service.notes[0].startswith("torch serves: ")


def test_several_networks_serve_by_an_export_each(task: CityTask, network: torch.nn.Module) -> None:
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.get_parameter("doors.keep").fill_(0.5)
    service = serving_form(task, [network, other], "float32")
    assert len(service.models) == 2
    assert service.models[0] != service.models[1]
    by_torch = task.errors(task.forecaster(network, other))["all"]
    assert task.errors(service.forecaster)["all"] == pytest.approx(by_torch, rel=1e-5)
    assert task.error(network) != pytest.approx(by_torch, rel=1e-3)


def test_a_version_without_an_export_serves_by_torch_and_says_so(small_home: Path) -> None:
    city, recipe = (
        load_city("small"),
        Recipe.from_options(network="convlstm", ensemble_size=1, trees=False, **QUICK),
    )
    options = RunOptions(Computing("cpu"), serve="int8")
    *_, trained = train(Store(), city, recipe, options=options)
    assert isinstance(trained, Trained)
    assert trained.notes == ("convlstm has no export; torch serves it",)
    served = load_version(models_root(), city, trained.manifest.version)
    assert [type(one) for one in served.rollouts] == [TorchRollout]
    assert trained.manifest.export == {}


@pytest.mark.parametrize("final", [False, True], ids=["selected", "final"])
def test_what_is_judged_is_what_serves(small_home: Path, final: bool) -> None:
    city, recipe = (
        load_city("small"),
        Recipe.from_options(ensemble_size=2, refit=final, trees=False, **QUICK),
    )
    options = RunOptions(Computing("cpu"), serve="int8")
    *_, trained = train(Store(), city, recipe, options=options)
    assert isinstance(trained, Trained)
    manifest = read_manifest(models_root(), "small", trained.manifest.version)
    facts, scores = manifest.export, manifest.metrics["candidate"]
    assert scores["all"] == pytest.approx(facts["rmse"][facts["precision"]], rel=1e-6)
    served = load_version(models_root(), city, trained.manifest.version)
    # What is final serves in the precision that the selected networks were judged in.
    assert served.runtime == f"onnxruntime {facts['precision']}"
    assert len(served.rollouts) == len(facts["sha256"]) == 2
    init_times = Store().flow.read(city)["time"].values[[700]]
    assert np.isfinite(served(History.of(Store().flow.read(city), init_times), 2)).all()


def test_a_precision_that_nothing_serves_in_is_refused() -> None:
    with pytest.raises(ValueError, match="serve 'int4' is none of float32, int8"):
        RunOptions(serve="int4")
