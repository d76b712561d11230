"""The registry: trained forecasters on disk, one folder a version, never changed once written.

`<root>/<city>/<version>/` holds `weights.safetensors` (the networks and what they know of the city),
where they can be exported `network-0.onnx` and so on, `trees-1.onnx` and so on where trees have a share
in the forecast (a file for each lead), and `manifest.json`, which tells all that a
forecast needs and the SHA-256 of each. Which version is champion stands in the store. Nothing here
needs torch but a version without an export that can serve.
"""

import errno
import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import xarray as xr
from safetensors import SafetensorError
from safetensors.numpy import load, save

from data.city import City
from data.errors import FlowcastError
from data.files import sha256, sync
from forecasting.covariates.config import RAW_FLOW
from forecasting.covariates.covariates import Covariates
from forecasting.ensemble import NeuralForecaster
from forecasting.intervals.conformal import PredictionIntervals
from forecasting.registry.covariate_tensors import covariate_tensors, covariates_of
from forecasting.registry.integrity import NETWORK, TREES, WEIGHTS, model_files
from forecasting.registry.manifest import MANIFEST, Manifest, read_manifest
from forecasting.rollout.rollout import Rollout
from forecasting.trees.forecaster import Trees


class VersionTakenError(FlowcastError):
    """A version of that name stands already; it was left as it is."""


def save_version(
    root: Path,
    manifest: Manifest,
    weights: Sequence[Mapping[str, np.ndarray]],
    context: Covariates,
    networks: Sequence[bytes] = (),
    bands: PredictionIntervals | None = None,
    trees: Sequence[bytes] = (),
    plain: Covariates | None = None,
) -> Path:
    """Writes a version, whole or not at all, and returns its folder.

    Args:
        root: of the registry.
        manifest: the hashes are filled in.
        weights: of each network, as `weights_of` returns them; those on frames alone last.
        context: that they serve with.
        networks: the exported steps, which `manifest.export` tells of; none where there are none.
        bands: calibrated on days that the networks were not trained on; None for none.
        trees: of each lead, from 1, which `manifest.trees` tells of; none where there are none.
        plain: context of networks on frames alone, which `manifest.plain` tells of; None without them.

    Raises:
        VersionTakenError: another version has its name.
        FlowcastError: the disk is full, or the folder may not be written.
    """
    folder = root / manifest.city / manifest.version
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".writing-"))
        learnt = {} if bands is None else bands.to_tensors()
        tensors = {f"bands.{name}": value for name, value in learnt.items()}
        tensors |= covariate_tensors(context)
        if plain is not None:
            tensors["plain.scale"] = np.ascontiguousarray(plain.scale)
        _write(temporary, manifest, weights, tensors, model_files(networks, trees))
        temporary.chmod(0o755)
        temporary.replace(folder)
        sync(folder.parent)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and folder.exists():
            raise VersionTakenError(f"{folder} is there already; choose another name") from error
        raise FlowcastError(
            f"{folder} cannot be written ({error.strerror or error}); nothing was kept of this version; "
            f"make room, then go on with: forecast train --city {manifest.city} --resume"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def load_version(root: Path, city: City, version: str) -> NeuralForecaster:
    """Returns the forecaster of a version, after checking its hashes and that it fits the city.

    Its export runs by ONNX Runtime. Where there is none, or it is damaged, torch runs the weights;
    `runtime` of the forecaster tells.

    Raises:
        FlowcastError: it is missing, damaged, or made for another grid, step or timezone.
    """
    manifest = read_manifest(root, city.name, version)
    ours = (city.grid, city.timezone, int(city.step / np.timedelta64(1, "s")))
    if (manifest.grid, manifest.timezone, manifest.step) != ours:
        raise FlowcastError(
            f"version {version} was trained for grid {list(manifest.grid)}, {manifest.step} s and "
            f"{manifest.timezone}, which is not what the TOML of {city.name} says now; train again"
        )
    folder = root / city.name / version
    try:
        tensors = load(_verified(folder / WEIGHTS, manifest.weights_sha256))
    except (OSError, SafetensorError) as error:
        raise FlowcastError(f"{folder} cannot be read ({error}); train again") from error
    try:
        return _forecaster(manifest, folder, tensors)
    except OSError as error:
        raise FlowcastError(f"{folder} cannot be read ({error}); train again") from error
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise FlowcastError(
            f"the manifest and the weights in {folder} do not belong together; "
            f"use another version or train again"
        ) from error


def load_weights(root: Path, manifest: Manifest, member: int) -> dict[str, np.ndarray]:
    """Returns the weights of one of the networks of a version by name.

    Raises:
        FlowcastError: they are missing or damaged.
    """
    folder = root / manifest.city / manifest.version
    try:
        tensors = load(_verified(folder / WEIGHTS, manifest.weights_sha256))
    except (OSError, SafetensorError) as error:
        raise FlowcastError(f"{folder} cannot be read ({error}); train again") from error
    prefix = f"network.{member}."
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def remove_version(root: Path, city: str, version: str) -> None:
    """Removes a version: first its name is hidden, so that none is ever seen in part.

    Raises:
        FlowcastError: it cannot be removed.
    """
    folder = root / city / version
    hidden = folder.with_name(f".removing-{version}")
    try:
        folder.rename(hidden)
        shutil.rmtree(hidden)
    except OSError as error:
        raise FlowcastError(f"{folder} cannot be removed ({error.strerror})") from error


def load_intervals(root: Path, city: City, version: str) -> PredictionIntervals | None:
    """Returns the bands of a version as it was calibrated, None where it never was.

    Raises:
        FlowcastError: it is missing or damaged.
    """
    manifest = read_manifest(root, city.name, version)
    path = root / city.name / version / WEIGHTS
    try:
        tensors = load(_verified(path, manifest.weights_sha256))
        learnt = {
            name.removeprefix("bands."): value
            for name, value in tensors.items()
            if name.startswith("bands.")
        }
        return PredictionIntervals.from_tensors(learnt) if learnt else None
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise FlowcastError(f"{path} cannot be read ({error}); train again") from error


def flow_hash(flow: xr.DataArray) -> str:
    """Returns the SHA-256 of the times and values of a flow."""
    digest = hashlib.sha256(flow["time"].values.astype("datetime64[s]").astype("<i8").tobytes())
    digest.update(np.ascontiguousarray(flow.values, dtype="<f4").tobytes())
    return digest.hexdigest()


def _verified(path: Path, expected: str) -> bytes:
    """Returns the content of a file whose SHA-256 is the expected one."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != expected:
        raise FlowcastError(
            f"{path} is damaged: its SHA-256 is not the manifest's; use another version or train again"
        )
    return content


def _write(
    folder: Path,
    manifest: Manifest,
    weights: Sequence[Mapping[str, np.ndarray]],
    learnt: Mapping[str, np.ndarray],
    models: Mapping[str, bytes],
) -> None:
    tensors = {
        f"network.{member}.{name}": value
        for member, one in enumerate(weights)
        for name, value in one.items()
    }
    whole = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    (folder / WEIGHTS).write_bytes(save({**whole, **learnt}))
    sync(folder / WEIGHTS)
    fields = asdict(manifest)
    for name, content in models.items():
        (folder / name).write_bytes(content)
        sync(folder / name)
        kind = "trees" if name.startswith("trees") else "export"
        fields[kind].setdefault("sha256", []).append(sha256(folder / name))
    fields["weights_sha256"] = sha256(folder / WEIGHTS)
    fields["config_hash"] = manifest.config_hash
    (folder / MANIFEST).write_text(json.dumps(fields, indent=1), encoding="utf-8")
    sync(folder / MANIFEST)


def _forecaster(
    manifest: Manifest, folder: Path, tensors: dict[str, np.ndarray]
) -> NeuralForecaster:
    rollouts, runtime = _exported(manifest, folder) or (_in_torch(manifest, tensors), "torch")
    context, count = covariates_of(manifest, tensors), manifest.members
    forecaster = NeuralForecaster(rollouts[:count], context, manifest.network, runtime)
    if manifest.trees:
        trees = _trees(manifest, folder)
        forecaster = forecaster.with_trees(trees, float(manifest.trees["share"]))
    if not manifest.plain:
        return forecaster
    bare = replace(context, config=RAW_FLOW, scale=tensors["plain.scale"], weather=())
    plain = NeuralForecaster(rollouts[count:], bare, manifest.network, runtime)
    return forecaster.with_raw(plain, float(manifest.plain["share"]))


def _trees(manifest: Manifest, folder: Path) -> Trees:
    from forecasting.trees.onnx_trees import OnnxTrees  # a baseline does without ONNX Runtime

    models = tuple(
        OnnxTrees(_verified(folder / TREES.format(lead), one))
        for lead, one in enumerate(manifest.trees["sha256"], start=1)
    )
    return Trees(models, tuple(manifest.trees["shares"]), int(manifest.trees["history"]))


def _exported(manifest: Manifest, folder: Path) -> tuple[tuple[Rollout, ...], str] | None:
    """Returns the exports of a version and what runs them, None where there are none that can serve."""
    hashes = manifest.export.get("sha256", [])
    if len(hashes) != manifest.networks:
        return None
    from forecasting.rollout.onnx_rollout import OnnxRollout  # a baseline does without ONNX Runtime

    try:
        rollouts = tuple(
            OnnxRollout.open(_verified(folder / NETWORK.format(number), one), manifest.history)
            for number, one in enumerate(hashes)
        )
    except (OSError, RuntimeError, FlowcastError):
        return None
    return rollouts, f"onnxruntime {manifest.export['precision']}"


def _in_torch(manifest: Manifest, tensors: Mapping[str, np.ndarray]) -> tuple[Rollout, ...]:
    from forecasting.rollout.torch_rollout import restore  # seconds to import, and seldom needed

    def network(number: int) -> Rollout:
        prefix = f"network.{number}."
        weights = {
            name.removeprefix(prefix): value
            for name, value in tensors.items()
            if name.startswith(prefix)
        }
        around = manifest.around if number < manifest.members else {}
        return restore(manifest.network, manifest.config, around, weights)

    return tuple(network(number) for number in range(manifest.networks))
