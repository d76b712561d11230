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

from data.city import City
from data.errors import FlowcastError
from data.files import sha256
from data.weather import label_weather
from forecasting.covariates.config import RAW_FLOW, CovariatesConfig
from forecasting.covariates.covariates import fit_covariates
from forecasting.ensemble import NeuralForecaster
from forecasting.history import History
from forecasting.networks.swinlstm_b import SwinLSTMConfig
from forecasting.networks.with_covariates import CovariateShape, RecurrentWithCovariates
from forecasting.onnx_export.export import export
from forecasting.registry.covariate_tensors import covariate_fields
from forecasting.registry.integrity import NETWORK, WEIGHTS, verify
from forecasting.registry.manifest import MANIFEST, Manifest, read_manifest, versions
from forecasting.registry.versions import flow_hash, load_version, save_version
from forecasting.rollout.torch_rollout import TorchRollout, build_network, weights_of

FlowOf = Callable[..., xr.DataArray]
HOUR = np.timedelta64(1, "h")
TOY = City("toy", "Toy", "America/New_York", HOUR, (6, 5), country="US")
CONFIG = SwinLSTMConfig(
    grid=TOY.grid, patch=2, width=8, window=2, depths=(2,), heads=(2,), output="identity"
)
VERSION = "20260101-120000-abcd00"
MEMBERS = 2
OTHER_CONFIG = dataclasses.asdict(CONFIG) | {"width": 16}


@pytest.fixture(scope="module")
def flow(flow_of: FlowOf) -> xr.DataArray:
    values = np.random.default_rng(0).integers(0, 300, (15 * 24, 2, *TOY.grid))
    return flow_of(values, "2016-03-01T05", TOY.timezone, HOUR, country="US")


@pytest.fixture(scope="module")
def weather(flow: xr.DataArray) -> xr.DataArray:
    time = flow["time"].values[::6]
    return label_weather(np.arange(len(time))[:, None] % 5, time, ["rain"], TOY)


def made(shown: CovariatesConfig, flow: xr.DataArray, weather: xr.DataArray) -> NeuralForecaster:
    """A forecaster of two networks whose weights have all left their beginnings."""
    context, _ = fit_covariates(flow, shown, weather)
    around = None if shown.raw_flow else CovariateShape(shown.maps, context.features, features=8)
    torch.manual_seed(0)
    networks = [build_network("swinlstm-b", CONFIG, around) for _ in range(MEMBERS)]
    with torch.no_grad():
        for network in networks:
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    rollouts = tuple(TorchRollout(network, CONFIG) for network in networks)
    return NeuralForecaster(rollouts, context, "swinlstm-b")


@pytest.fixture(scope="module", params=["in context", "plain"])
def forecaster(
    request: pytest.FixtureRequest, flow: xr.DataArray, weather: xr.DataArray
) -> NeuralForecaster:
    return made(RAW_FLOW if request.param == "plain" else CovariatesConfig(), flow, weather)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


def manifest_of(
    version: str = VERSION, forecaster: NeuralForecaster | None = None, **changes: Any
) -> Manifest:
    fields: dict[str, Any] = {
        "version": version,
        "city": "toy",
        "timezone": TOY.timezone,
        "step": 3600,
        "grid": TOY.grid,
        "network": "swinlstm-b",
        "config": dataclasses.asdict(CONFIG),
        "around": {},
        "context": {},
        "members": MEMBERS,
        "training": {"epochs": 3, "learning_rate": 1e-3},
        "history": 4,
        "selected": ("2016-03-01T05:00:00Z", "2016-03-14T04:00:00Z"),
        "trained": ("2016-03-01T05:00:00Z", "2016-03-16T04:00:00Z"),
        "data_hash": "0" * 64,
        "metrics": {"candidate": {"lead 1": 11.5, "all": 13.25}},
        "code_version": "0.1.0",
    }
    if forecaster is not None:
        network = networks_of(forecaster)[0]
        around = (
            dataclasses.asdict(network.covariates)
            if isinstance(network, RecurrentWithCovariates)
            else {}
        )
        fields |= {"around": around, "context": covariate_fields(forecaster.context)}
    return Manifest(**fields | changes)


def networks_of(forecaster: NeuralForecaster) -> list[nn.Module]:
    return [one.network for one in forecaster.rollouts if isinstance(one, TorchRollout)]


def history_at(flow: xr.DataArray, *rows: int) -> History:
    """The history of forecasts from some slots of a flow."""
    return History.of(flow, flow["time"].values[list(rows)])


@pytest.fixture
def folder(root: Path, forecaster: NeuralForecaster) -> Path:
    """The folder of a saved version."""
    return save(root, forecaster, manifest_of(forecaster=forecaster))


def refusal(action: Callable[[], object], match: str) -> None:
    """Checks that the action ends with one sentence that says what to do."""
    with pytest.raises(FlowcastError, match=match) as error:
        action()
    assert "\n" not in str(error.value)


def save(root: Path, forecaster: NeuralForecaster, manifest: Manifest) -> Path:
    weights = [weights_of(network) for network in networks_of(forecaster)]
    return save_version(root, manifest, weights, forecaster.context)


def load(root: Path, city: City = TOY) -> NeuralForecaster:
    return load_version(root, city, VERSION)


# What is saved


def test_a_loaded_version_gives_the_same_forecast(
    root: Path,
    folder: Path,
    forecaster: NeuralForecaster,
    flow: xr.DataArray,
    weather: xr.DataArray,
) -> None:
    loaded = load(root)
    past = history_at(flow, 10, 200, 330)
    xr.testing.assert_identical(loaded(past, 6), forecaster(past, 6))
    of_rain = [dataclasses.replace(one, weather=weather) for one in (loaded, forecaster)]
    xr.testing.assert_identical(of_rain[0](past, 6), of_rain[1](past, 6))
    assert of_rain[0](past, 6).equals(loaded(past, 6)) == (not loaded.context.weather)
    assert [one.config for one in loaded.rollouts if isinstance(one, TorchRollout)] == [CONFIG] * 2
    assert loaded.name == "swinlstm-b"


def test_a_loaded_context_is_the_saved_one(
    root: Path, folder: Path, forecaster: NeuralForecaster
) -> None:
    ours, theirs = load(root).context, forecaster.context
    assert (ours.config, ours.weather, ours.typical) == (
        *(theirs.config, theirs.weather, theirs.typical),
    )
    assert np.array_equal(ours.scale, theirs.scale)
    assert ours.expected.shift == theirs.expected.shift == 1
    mine, usual = ours.expected.climatology, theirs.expected.climatology
    assert np.array_equal(mine.mean, usual.mean)
    assert np.array_equal(mine.count, usual.count)
    assert (mine.timezone, mine.step) == (usual.timezone, usual.step)


def test_a_manifest_survives_its_file(
    root: Path, folder: Path, forecaster: NeuralForecaster
) -> None:
    manifest, ours = read_manifest(root, "toy", VERSION), manifest_of(forecaster=forecaster)
    lists = {
        name: json.loads(json.dumps(getattr(ours, name)))
        for name in ("config", "around", "context")
    }
    assert dataclasses.replace(manifest, weights_sha256="") == manifest_of(**lists)
    assert manifest.weights_sha256 == sha256(folder / WEIGHTS)
    assert manifest.config_hash == ours.config_hash


def test_a_version_is_safetensors_and_json_and_no_pickle(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, WEIGHTS]
    names = load_file(folder / WEIGHTS)
    assert all(name.startswith(("network.0.", "network.1.", "context.")) for name in names)
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
    assert one.config_hash != manifest_of(context={"config": {"hour": False}}).config_hash
    assert one.config_hash != manifest_of(around={"maps": 4}).config_hash


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
    refusal(lambda: save(root, forecaster, manifest_of(history=1)), "is there already")
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
        b'{"format": 2}',
        b'{"format": 2, "grid": 3, "trained": [], "selected": []}',
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
    for other in (1, 5):
        rewrite(folder, format=other, something="new")
        refusal(
            lambda: load(root),
            "has format [15], this version of flowcast reads 2 to 4; .*train again",
        )


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"config": OTHER_CONFIG}, id="another width"),
        pytest.param({"config": {"color": "red"}}, id="unknown key"),
        pytest.param({"config": {"patch": 3}}, id="impossible"),
        pytest.param({"network": "oracle"}, id="unknown network"),
        pytest.param({"members": 3}, id="a member too many"),
        pytest.param({"context": {}}, id="no context"),
        pytest.param({"around": {"maps": 1, "numbers": 1}}, id="other surroundings"),
    ],
)
def test_a_manifest_that_does_not_fit_its_weights_is_refused(
    root: Path, folder: Path, changes: dict[str, Any]
) -> None:
    rewrite(folder, **changes)
    refusal(lambda: load(root), "do not belong together; use another version or train again")


@pytest.mark.parametrize("name", ["context.usual", "context.scale", "network.1."])
def test_weights_without_a_part_are_refused(root: Path, folder: Path, name: str) -> None:
    tensors = {
        key: value for key, value in load_file(folder / WEIGHTS).items() if not key.startswith(name)
    }
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


@pytest.fixture
def exported(root: Path, forecaster: NeuralForecaster) -> Path:
    """The folder of a version with an export."""
    networks = networks_of(forecaster)
    manifest = manifest_of(
        forecaster=forecaster, export={"precision": "float32", "difference": 1e-7}
    )
    return save_version(
        root,
        manifest,
        [weights_of(network) for network in networks],
        forecaster.context,
        [export("swinlstm-b", network, CONFIG).model for network in networks],
    )


def files_of(folder: Path) -> list[Path]:
    return [folder / NETWORK.format(member) for member in range(MEMBERS)]


def test_an_exported_version_forecasts_as_torch_does(
    root: Path, exported: Path, forecaster: NeuralForecaster, flow: xr.DataArray
) -> None:
    loaded = load(root)
    assert loaded.runtime == "onnxruntime float32"
    past = history_at(flow, 10, 200, 330)
    assert (loaded.lags(6), loaded.optional_lags(6)) == (
        forecaster.lags(6),
        forecaster.optional_lags(6),
    )
    xr.testing.assert_allclose(loaded(past, 6), forecaster(past, 6), rtol=1e-4, atol=1e-3)
    hashes = [sha256(path) for path in files_of(exported)]
    assert read_manifest(root, "toy", VERSION).export["sha256"] == hashes
    assert hashes[0] != hashes[1]


@pytest.mark.parametrize("content", [None, b"", b"no network in here"], ids=str)
@pytest.mark.parametrize("member", range(MEMBERS))
def test_torch_stands_in_where_one_of_the_exports_is_damaged_or_gone(
    root: Path,
    exported: Path,
    forecaster: NeuralForecaster,
    flow: xr.DataArray,
    content: bytes | None,
    member: int,
) -> None:
    path = files_of(exported)[member]
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    loaded = load(root)
    assert loaded.runtime == "torch"
    past = history_at(flow, 200)
    xr.testing.assert_identical(loaded(past, 6), forecaster(past, 6))


@pytest.fixture
def both(flow: xr.DataArray, weather: xr.DataArray) -> NeuralForecaster:
    """A forecaster of both kinds of networks, trained for four hours ahead."""
    one, other = (made(shown, flow, weather) for shown in (CovariatesConfig(), RAW_FLOW))
    one = dataclasses.replace(one, context=dataclasses.replace(one.context, horizon=4))
    return one.with_raw(other, 0.3)


@pytest.mark.parametrize("is_exported", [False, True])
def test_networks_on_frames_alone_are_kept_behind_the_others(
    root: Path, both: NeuralForecaster, flow: xr.DataArray, is_exported: bool
) -> None:
    assert both.raw is not None
    networks = [*networks_of(both), *networks_of(both.raw)]
    changes: dict[str, Any] = {"plain": {"members": MEMBERS, "share": 0.3}}
    if is_exported:
        changes["export"] = {"precision": "float32", "difference": 1e-7}
    folder = save_version(
        root,
        manifest_of(forecaster=both, **changes),
        [weights_of(network) for network in networks],
        both.context,
        [export("swinlstm-b", one, CONFIG).model for one in networks] if is_exported else (),
        plain=both.raw.context,
    )
    assert verify(root, "toy", VERSION) == []
    loaded, past = load(root), history_at(flow, 10, 200)
    assert loaded.raw is not None
    assert loaded.runtime == loaded.raw.runtime == ("torch", "onnxruntime float32")[is_exported]
    ours, theirs = both(past, 6), both.raw(past, 6)
    xr.testing.assert_allclose(loaded(past, 6), ours, rtol=1e-4, atol=1e-3)
    xr.testing.assert_allclose(loaded.raw(past, 6), theirs, rtol=1e-4, atol=1e-3)
    alone = dataclasses.replace(both, raw=None)(past, 6)
    mixed = alone.copy(data=0.7 * alone.values + 0.3 * theirs.values)
    mixed[:, 4:] = alone[:, 4:]  # leads that it was not trained for
    xr.testing.assert_allclose(ours, mixed, rtol=1e-4, atol=1e-3)
    if is_exported:
        (folder / NETWORK.format(MEMBERS)).unlink()  # the first one on frames alone
        assert load(root).runtime == "torch"
        xr.testing.assert_identical(load(root)(past, 6), ours)


def test_exports_that_were_swapped_do_not_serve(root: Path, exported: Path) -> None:
    one, two = files_of(exported)
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    assert load(root).runtime == "torch"


def test_torch_stands_in_for_an_export_that_this_runtime_cannot_read(
    root: Path, exported: Path
) -> None:
    one, two = files_of(exported)
    two.write_bytes(b"of the future")
    hashes = [sha256(one), sha256(two)]
    rewrite(exported, export={"precision": "float32", "sha256": hashes})
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
