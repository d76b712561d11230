"""The registry: trained forecasters on disk, one folder a version, never changed once written.

`<root>/<city>/<version>/` holds `weights.safetensors` (the network and the climatology), where the
network can be exported `network.onnx`, and `manifest.json`, which tells all that a forecast needs and
the SHA-256 of both. Which version is champion stands in the store. Nothing here needs torch but a
version without an export that can serve.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from safetensors import SafetensorError
from safetensors.numpy import load, save

from data.city import City
from data.errors import FlowcastError
from data.files import sha256, sync
from data.home import home
from forecasting.climatology import Climatology
from forecasting.neural import NeuralForecaster, Rollout

FORMAT = 1
WEIGHTS, NETWORK, MANIFEST = "weights.safetensors", "network.onnx", "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What is known of a version; stands beside its weights as JSON.

    Attributes:
        version: name of the folder; sorts by time of training.
        city: registry key.
        timezone: IANA name.
        step: seconds.
        grid: rows and columns.
        network: key in `NETWORKS`.
        config: of the network.
        training: configuration of the training, and the epoch that was chosen.
        history: slots that it sees.
        scale: vehicles that stand for 1 inside the network.
        trained: first and last slot of the training span, ISO 8601, UTC.
        climatology: first and last slot that the climatology was fitted on.
        data_hash: SHA-256 of all flow used, training and validation.
        metrics: RMSE in vehicles on the validation span by lead time, for it and the baselines.
        code_version: of flowcast.
        weights_sha256: of the weights file.
        export: of the ONNX file, empty where there is none: `sha256`, `precision`, `difference` (the
            largest from what torch gives, of scaled frames), and how the precision was chosen.
        format: of this manifest.
    """

    version: str
    city: str
    timezone: str
    step: int
    grid: tuple[int, int]
    network: str
    config: dict[str, Any]
    training: dict[str, Any]
    history: int
    scale: float
    trained: tuple[str, str]
    climatology: tuple[str, str]
    data_hash: str
    metrics: dict[str, dict[str, float]]
    code_version: str
    weights_sha256: str = ""
    export: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def config_hash(self) -> str:
        """SHA-256 of the network's and the training's configuration."""
        text = json.dumps([self.network, self.config, self.training], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def models_root() -> Path:
    """Returns the registry's folder in the user's home for flowcast."""
    return home() / "models"


def save_version(
    root: Path,
    manifest: Manifest,
    weights: Mapping[str, np.ndarray],
    climatology: Climatology,
    network: bytes | None = None,
) -> Path:
    """Writes a version, whole or not at all, and returns its folder.

    Args:
        root: of the registry.
        manifest: the hashes are filled in.
        weights: of the network, as `weights_of` returns them.
        climatology: that it serves with.
        network: the exported step, which `manifest.export` tells of; None where there is none.

    Raises:
        FlowcastError: the disk is full, or the folder may not be written.
    """
    folder = root / manifest.city / manifest.version
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".writing-"))
        _write(temporary, manifest, weights, climatology, network)
        temporary.chmod(0o755)
        temporary.replace(folder)
        sync(folder.parent)
    except OSError as error:
        raise FlowcastError(
            f"{folder} cannot be written ({error.strerror or error}); nothing was kept of this version; "
            f"make room, then go on with: forecast train --city {manifest.city} --resume"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def read_manifest(root: Path, city: str, version: str) -> Manifest:
    """Returns the manifest of a version.

    Raises:
        FlowcastError: there is no such version, or its manifest cannot be read.
    """
    path = root / city / version / MANIFEST
    known = versions(root, city)
    if version not in known:
        raise FlowcastError(
            f"{city} has no version {version!r}; it has: {', '.join(known) or 'none'}"
        )
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        fields.pop("config_hash", None)
        if fields.get("format") != FORMAT:
            raise FlowcastError(
                f"{path} has format {fields.get('format')}, this version of flowcast reads {FORMAT}; "
                f"use the flowcast that wrote it, or train again"
            )
        for key in ("grid", "trained", "climatology"):
            fields[key] = tuple(fields[key])
        return Manifest(**fields)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FlowcastError(f"{path} cannot be read ({error}); train again") from error


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
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise FlowcastError(
            f"the manifest and the weights in {folder} do not belong together; "
            f"use another version or train again"
        ) from error


def versions(root: Path, city: str) -> list[str]:
    """Returns the versions of a city, oldest first."""
    return sorted(path.parent.name for path in (root / city).glob(f"[!.]*/{MANIFEST}"))


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
    weights: Mapping[str, np.ndarray],
    climatology: Climatology,
    network: bytes | None,
) -> None:
    tensors = {f"network.{name}": value for name, value in weights.items()}
    tensors["climatology.mean"] = climatology.mean
    tensors["climatology.count"] = climatology.count
    whole = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    (folder / WEIGHTS).write_bytes(save(whole))
    sync(folder / WEIGHTS)
    fields = asdict(manifest)
    if network is not None:
        (folder / NETWORK).write_bytes(network)
        sync(folder / NETWORK)
        fields["export"]["sha256"] = sha256(folder / NETWORK)
    fields["weights_sha256"] = sha256(folder / WEIGHTS)
    fields["config_hash"] = manifest.config_hash
    (folder / MANIFEST).write_text(json.dumps(fields, indent=1), encoding="utf-8")
    sync(folder / MANIFEST)


def _forecaster(
    manifest: Manifest, folder: Path, tensors: dict[str, np.ndarray]
) -> NeuralForecaster:
    climatology = Climatology(
        tensors.pop("climatology.mean"),
        tensors.pop("climatology.count"),
        manifest.timezone,
        manifest.step,
    )
    weights = {name.removeprefix("network."): value for name, value in tensors.items()}
    rollout, runtime = _exported(manifest, folder) or (_in_torch(manifest, weights), "torch")
    return NeuralForecaster(rollout, climatology, manifest.scale, manifest.network, runtime)


def _exported(manifest: Manifest, folder: Path) -> tuple[Rollout, str] | None:
    """Returns the export of a version and what runs it, None where there is none that can serve."""
    if "sha256" not in manifest.export:
        return None
    from forecasting.onnx_rollout import OnnxRollout  # a baseline does without ONNX Runtime

    try:
        model = _verified(folder / NETWORK, manifest.export["sha256"])
        rollout = OnnxRollout.open(model, manifest.history)
    except (OSError, RuntimeError, FlowcastError):
        return None
    return rollout, f"onnxruntime {manifest.export['precision']}"


def _in_torch(manifest: Manifest, weights: Mapping[str, np.ndarray]) -> Rollout:
    from forecasting.torch_rollout import restore  # seconds to import, and seldom needed

    # Versions of the first release have no history in their configuration.
    fields = {"history": manifest.history, **manifest.config}
    return restore(manifest.network, fields, weights)
