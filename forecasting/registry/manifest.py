"""The manifest of a version: what stands beside its weights."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import FlowcastError

FORMAT = 4

READ = (2, 3, FORMAT)
"""Formats that can be read; those of 2 know no trees, those of 3 no networks on frames alone."""

MANIFEST = "manifest.json"


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
        config: of the network's frames.
        around: what the network is shown beside them, empty where it is nothing.
        context: what is known of the city but for its arrays.
        members: networks with a context, whose mean is the forecast.
        training: configuration of the training, and the epochs of each fit.
        history: slots that it sees.
        selected: first and last slot of the days that epochs were chosen by training on, ISO 8601, UTC.
        trained: first and last slot that the networks and their context know.
        data_hash: SHA-256 of all flow used, training and validation.
        metrics: RMSE in vehicles on the validation span by lead time, for it and the baselines.
        code_version: of flowcast.
        weights_sha256: of the weights file.
        export: of the ONNX files, empty where there are none: `sha256` of each, `precision`,
            `difference` (the largest from what torch gives, of scaled frames), and how the precision
            was chosen.
        trees: empty where there are none: `share` of the forecast that is theirs, `shares` of the newest
            frame that each lead begins with, `history` of frames that they see, `rounds` of all
            leads, `sha256` of each file.
        plain: of networks on frames alone, whose weights and files follow those of the others; empty where
            there are none: `members`, how many they are, `share` of the forecast that is theirs.
        format: of this manifest.
    """

    version: str
    city: str
    timezone: str
    step: int
    grid: tuple[int, int]
    network: str
    config: dict[str, Any]
    around: dict[str, Any]
    context: dict[str, Any]
    members: int
    training: dict[str, Any]
    history: int
    selected: tuple[str, str]
    trained: tuple[str, str]
    data_hash: str
    metrics: dict[str, dict[str, float]]
    code_version: str
    weights_sha256: str = ""
    export: dict[str, Any] = field(default_factory=dict)
    trees: dict[str, Any] = field(default_factory=dict)
    plain: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def networks(self) -> int:
        """How many networks there are, with and without a context."""
        return self.members + int(self.plain.get("members", 0))

    @property
    def config_hash(self) -> str:
        """SHA-256 of the network's, the context's and the training's configuration."""
        parts: list[Any] = [self.network, self.config, self.around, self.context, self.training]
        if self.plain:
            parts.append(self.plain)
        text = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


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
        if fields.get("format") not in READ:
            raise FlowcastError(
                f"{path} has format {fields.get('format')}, this version of flowcast reads {READ[0]} to "
                f"{FORMAT}; "
                f"use the flowcast that wrote it, or train again"
            )
        for key in ("grid", "selected", "trained"):
            fields[key] = tuple(fields[key])
        for key in ("selected", "trained"):
            for time in fields[key]:
                np.datetime64(time.removesuffix("Z"), "s")
        return Manifest(**fields)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise FlowcastError(f"{path} cannot be read ({error}); train again") from error


def versions(root: Path, city: str) -> list[str]:
    """Returns the versions of a city, oldest first."""
    return sorted(path.parent.name for path in (root / city).glob(f"[!.]*/{MANIFEST}"))
