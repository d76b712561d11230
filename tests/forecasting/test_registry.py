import dataclasses
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors.torch import load_file, save_file
from torch import nn

from data import windows
from data.city import City
from data.errors import FlowcastError
from data.files import sha256
from forecasting.climatology import Climatology
from forecasting.export import export
from forecasting.models import SwinLSTMConfig
from forecasting.neural import NeuralForecaster
from forecasting.registry import (
    MANIFEST,
    NETWORK,
    WEIGHTS,
    Manifest,
    flow_hash,
    load_version,
    read_manifest,
    save_version,
    versions,
)
from forecasting.torch_rollout import TorchRollout, build_network, weights_of

FlowOf = Callable[..., xr.DataArray]
HOUR = np.timedelta64(1, "h")
TOY = City("toy", "Toy", "America/New_York", HOUR, (6, 5))
CONFIG = SwinLSTMConfig(
    grid=TOY.grid, patch=2, width=8, window=2, depths=(2,), heads=(2,), output="identity"
)
VERSION = "20260101-120000-abcd00"
OTHER_CONFIG = dataclasses.asdict(CONFIG) | {"width": 16}


@pytest.fixture(scope="module")
def flow(flow_of: FlowOf) -> xr.DataArray:
    values = np.random.default_rng(0).integers(0, 300, (15 * 24, 2, *TOY.grid))
    return flow_of(values, "2016-03-01T05", TOY.timezone, HOUR)


@pytest.fixture
def forecaster(flow: xr.DataArray) -> NeuralForecaster:
    torch.manual_seed(0)
    network = build_network("swinlstm-b", CONFIG)
    nn.init.ones_(network.gain)  # untrained it is 0, and no weight would count
    return NeuralForecaster(
        TorchRollout(network, CONFIG), Climatology.fit(flow), 42.5, "swinlstm-b"
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


def manifest_of(version: str = VERSION, **changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "version": version,
        "city": "toy",
        "timezone": TOY.timezone,
        "step": 3600,
        "grid": TOY.grid,
        "network": "swinlstm-b",
        "config": dataclasses.asdict(CONFIG),
        "training": {"epochs": 3, "learning_rate": 1e-3},
        "history": 4,
        "scale": 42.5,
        "trained": ("2016-03-01T05:00:00Z", "2016-03-14T04:00:00Z"),
        "climatology": ("2016-03-01T05:00:00Z", "2016-03-16T04:00:00Z"),
        "data_hash": "0" * 64,
        "metrics": {"candidate": {"lead 1": 11.5, "all": 13.25}},
        "code_version": "0.1.0",
    }
    return Manifest(**fields | changes)


@pytest.fixture
def folder(root: Path, forecaster: NeuralForecaster) -> Path:
    """The folder of a saved version."""
    return save(root, forecaster, manifest_of())


def refusal(action: Callable[[], object], match: str) -> None:
    """Checks that the action ends with one sentence that says what to do."""
    with pytest.raises(FlowcastError, match=match) as error:
        action()
    assert "\n" not in str(error.value)


def save(root: Path, forecaster: NeuralForecaster, manifest: Manifest) -> Path:
    assert isinstance(forecaster.rollout, TorchRollout)
    weights = weights_of(forecaster.rollout.network)
    return save_version(root, manifest, weights, forecaster.climatology)


def load(root: Path, city: City = TOY) -> NeuralForecaster:
    return load_version(root, city, VERSION)


# What is saved


def test_a_loaded_version_gives_the_same_forecast(
    root: Path, folder: Path, forecaster: NeuralForecaster, flow: xr.DataArray
) -> None:
    loaded = load(root)
    init_times = flow["time"].values[[10, 200, 330]]
    past = windows.past(flow, init_times, forecaster.lags(6))
    xr.testing.assert_identical(loaded(past, 6), forecaster(past, 6))
    assert isinstance(loaded.rollout, TorchRollout)
    assert (loaded.scale, loaded.rollout.config, loaded.name) == (42.5, CONFIG, "swinlstm-b")


def test_a_loaded_climatology_is_the_saved_one(
    root: Path, folder: Path, forecaster: NeuralForecaster
) -> None:
    ours, theirs = load(root).climatology, forecaster.climatology
    assert np.array_equal(ours.mean, theirs.mean)
    assert np.array_equal(ours.count, theirs.count)
    assert (ours.timezone, ours.step) == (theirs.timezone, theirs.step)


def test_a_manifest_survives_its_file(root: Path, folder: Path) -> None:
    manifest = read_manifest(root, "toy", VERSION)
    lists = json.loads(json.dumps(manifest_of().config))
    assert dataclasses.replace(manifest, weights_sha256="") == manifest_of(config=lists)
    assert manifest.weights_sha256 == sha256(folder / WEIGHTS)
    assert manifest.config_hash == manifest_of().config_hash


def test_a_version_is_safetensors_and_json_and_no_pickle(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, WEIGHTS]
    assert all(
        name.startswith(("network.", "climatology.")) for name in load_file(folder / WEIGHTS)
    )
    fields = json.loads((folder / MANIFEST).read_text())
    assert fields["weights_sha256"] == sha256(folder / WEIGHTS)
    assert fields["grid"] == [6, 5]


def test_a_version_lies_under_its_city_and_name(root: Path, folder: Path) -> None:
    assert folder == root / "toy" / VERSION
    assert [path.name for path in folder.parent.iterdir()] == [VERSION]


def test_the_configuration_hash_knows_network_and_training() -> None:
    one = manifest_of()
    assert one.config_hash == manifest_of("another", metrics={}).config_hash
    assert one.config_hash != manifest_of(config=OTHER_CONFIG).config_hash
    assert one.config_hash != manifest_of(training={"epochs": 4}).config_hash


def test_versions_are_sorted_from_the_oldest(root: Path, forecaster: NeuralForecaster) -> None:
    names = ["20260301-000000-aaaa00", "20251231-235959-ffff00", "20260101-000000-bbbb00"]
    for name in names:
        save(root, forecaster, manifest_of(name))
    assert versions(root, "toy") == sorted(names)


def test_only_folders_with_a_manifest_are_versions(root: Path, folder: Path) -> None:
    (root / "toy" / "training").mkdir()
    (root / "toy" / ".writing-x").mkdir()
    (root / "toy" / ".writing-x" / MANIFEST).write_text("{}")
    assert versions(root, "toy") == [VERSION]
    assert versions(root, "unknown") == []


def test_a_version_is_never_written_over(
    root: Path, folder: Path, forecaster: NeuralForecaster
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    refusal(lambda: save(root, forecaster, manifest_of(scale=1.0)), "cannot be written")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == [VERSION]


# What cannot be saved


@pytest.mark.parametrize("size", [0, 100, 10_000])
def test_a_full_disk_leaves_nothing_of_a_version(
    root: Path,
    forecaster: NeuralForecaster,
    largest_file: Callable[[int], AbstractContextManager[None]],
    size: int,
) -> None:
    with largest_file(size):
        refusal(lambda: save(root, forecaster, manifest_of()), "nothing was kept .* room")
    assert list((root / "toy").iterdir()) == []


def test_a_manifest_that_fails_leaves_nothing_of_a_version(
    root: Path,
    forecaster: NeuralForecaster,
    largest_file: Callable[[int], AbstractContextManager[None]],
) -> None:
    weights = (save(root, forecaster, manifest_of("small")) / WEIGHTS).stat().st_size
    long = manifest_of(training={"notes": "x" * weights})
    with largest_file(weights):
        refusal(lambda: save(root, forecaster, long), "cannot be written")
    assert versions(root, "toy") == ["small"]
    assert len(list((root / "toy").iterdir())) == 1


def test_a_place_that_is_no_folder_is_told(tmp_path: Path, forecaster: NeuralForecaster) -> None:
    (tmp_path / "models").write_text("in the way")
    refusal(lambda: save(tmp_path / "models", forecaster, manifest_of()), "be written")


# What cannot be loaded


@pytest.mark.parametrize("part", [0.001, 0.5, 0.999])
def test_a_flipped_byte_in_the_weights_is_found(root: Path, folder: Path, part: float) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[int(part * len(content))] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    refusal(lambda: load(root), "is damaged: its SHA-256 is not the manifest's")


def test_truncated_weights_are_found(root: Path, folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])
    refusal(lambda: load(root), "is damaged")


def test_missing_weights_are_told(root: Path, folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    refusal(lambda: load(root), "cannot be read .*train again")


def test_a_version_without_manifest_is_no_version(root: Path, folder: Path) -> None:
    (folder / MANIFEST).unlink()
    refusal(lambda: load(root), f"toy has no version '{VERSION}'; it has: none")


@pytest.mark.parametrize("name", ["nothing", "", ".", "..", f"../toy/{VERSION}"])
def test_a_name_that_is_no_version_is_answered_with_those_there_are(
    root: Path, folder: Path, name: str
) -> None:
    refusal(lambda: load_version(root, TOY, name), f"no version '.*'; it has: {VERSION}")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"manifest"',
        b'{"format": 1}',
        b'{"format": 1, "grid": 3, "trained": [], "climatology": []}',
    ],
    ids=repr,
)
def test_a_garbled_manifest_is_told(root: Path, folder: Path, text: bytes) -> None:
    (folder / MANIFEST).write_bytes(text)
    refusal(lambda: load(root), "cannot be read .*train again")


def rewrite(folder: Path, **changes: Any) -> None:
    """Changes fields of a manifest."""
    fields = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(fields | changes))


def test_a_manifest_of_an_unknown_format_is_refused(root: Path, folder: Path) -> None:
    rewrite(folder, format=2, something="new")
    refusal(lambda: load(root), "has format 2, this version of flowcast reads 1")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"config": OTHER_CONFIG}, id="another width"),
        pytest.param({"config": {"colour": "red"}}, id="unknown key"),
        pytest.param({"config": {"patch": 3}}, id="impossible"),
        pytest.param({"network": "oracle"}, id="unknown network"),
    ],
)
def test_a_manifest_that_does_not_fit_its_weights_is_refused(
    root: Path, folder: Path, changes: dict[str, Any]
) -> None:
    rewrite(folder, **changes)
    refusal(lambda: load(root), "do not belong together; use another version or train again")


def test_weights_without_a_climatology_are_refused(root: Path, folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    del tensors["climatology.mean"]
    save_file(tensors, folder / WEIGHTS)
    rewrite(folder, weights_sha256=sha256(folder / WEIGHTS))
    refusal(lambda: load(root), "do not belong together")


def test_weights_that_are_no_safetensors_are_refused(root: Path, folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"no tensors in here")
    rewrite(folder, weights_sha256=sha256(folder / WEIGHTS))
    refusal(lambda: load(root), "cannot be read .*train again")


@pytest.mark.parametrize(
    "changes",
    [
        {"grid": (5, 6)},
        {"timezone": "America/Chicago"},
        {"step": np.timedelta64(30, "m")},
    ],
    ids=str,
)
def test_a_version_for_another_shape_of_the_city_is_refused(
    root: Path, folder: Path, changes: dict[str, Any]
) -> None:
    other = dataclasses.replace(TOY, **changes)
    refusal(lambda: load(root, other), r"trained for grid \[6, 5\], 3600 s and America/New_York")


# Exports


def step_of(forecaster: NeuralForecaster) -> bytes:
    assert isinstance(forecaster.rollout, TorchRollout)
    return export("swinlstm-b", forecaster.rollout.network, CONFIG).model


@pytest.fixture
def exported(root: Path, forecaster: NeuralForecaster) -> Path:
    """The folder of a version with an export."""
    weights = weights_of(forecaster.rollout.network)  # type: ignore[attr-defined]
    manifest = manifest_of(export={"precision": "float32", "difference": 1e-7})
    return save_version(root, manifest, weights, forecaster.climatology, step_of(forecaster))


def test_an_exported_version_forecasts_as_torch_does(
    root: Path, exported: Path, forecaster: NeuralForecaster, flow: xr.DataArray
) -> None:
    loaded = load(root)
    assert loaded.runtime == "onnxruntime float32"
    past = windows.past(flow, flow["time"].values[[10, 200, 330]], forecaster.lags(6))
    xr.testing.assert_allclose(loaded(past, 6), forecaster(past, 6), rtol=1e-4, atol=1e-3)
    assert read_manifest(root, "toy", VERSION).export["sha256"] == sha256(exported / NETWORK)


@pytest.mark.parametrize("content", [None, b"", b"no network in here"], ids=str)
def test_torch_stands_in_for_an_export_that_is_damaged_or_gone(
    root: Path,
    exported: Path,
    forecaster: NeuralForecaster,
    flow: xr.DataArray,
    content: bytes | None,
) -> None:
    (exported / NETWORK).unlink()
    if content is not None:
        (exported / NETWORK).write_bytes(content)
    loaded = load(root)
    assert loaded.runtime == "torch"
    past = windows.past(flow, flow["time"].values[[200]], forecaster.lags(2))
    xr.testing.assert_identical(loaded(past, 2), forecaster(past, 2))


def test_torch_stands_in_for_an_export_that_this_runtime_cannot_read(
    root: Path, exported: Path
) -> None:
    (exported / NETWORK).write_bytes(b"of the future")
    digest = sha256(exported / NETWORK)
    rewrite(exported, export={"precision": "float32", "sha256": digest})
    assert load(root).runtime == "torch"


def test_damaged_weights_do_not_serve_with_a_whole_export(root: Path, exported: Path) -> None:
    (exported / WEIGHTS).write_bytes((exported / WEIGHTS).read_bytes()[:-1])
    refusal(lambda: load(root), "is damaged")


# The hash of a flow


def test_the_hash_of_a_flow_knows_every_value_and_time(flow: xr.DataArray) -> None:
    changed = flow.copy(deep=True)
    changed[3, 1, 2, 0] += 1
    moved = flow.assign_coords(time=flow["time"].values + HOUR)
    hashes = {flow_hash(one) for one in (flow, changed, moved, flow[:-1], flow[1:])}
    assert len(hashes) == 5
    assert flow_hash(flow.copy(deep=True)) == flow_hash(flow)


def test_the_hash_of_a_flow_does_not_depend_on_how_it_lies_in_memory(flow: xr.DataArray) -> None:
    mirrored = flow.transpose("x", "y", "channel", "time").copy().transpose(*flow.dims)
    finer = flow.assign_coords(time=flow["time"].values.astype("datetime64[ns]"))
    assert flow_hash(mirrored) == flow_hash(finer) == flow_hash(flow)
