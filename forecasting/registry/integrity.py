"""Integrity of a version: its files by name, and whether they are those of its manifest."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data.errors import FlowcastError
from data.files import sha256
from forecasting.registry.manifest import MANIFEST, read_manifest

WEIGHTS, NETWORK, TREES = "weights.safetensors", "network-{}.onnx", "trees-{}.onnx"


def manifest_hash(root: Path, city: str, version: str) -> str:
    """Returns the SHA-256 of the manifest of a version, "" where it cannot be read."""
    try:
        return sha256(root / city / version / MANIFEST)
    except OSError:
        return ""


def tampered(root: Path, city: str, version: str, judged: str) -> str:
    """Returns that a manifest is another than was judged, "" where it is not, or there is none to compare.

    Args:
        root: of the registry.
        city: name of the city.
        version: of it.
        judged: SHA-256 of the manifest that was judged; "" where it is not known.
    """
    found = manifest_hash(root, city, version)
    if not judged or not found or found == judged:
        return ""
    return f"{root / city / version / MANIFEST} is damaged: it is not the manifest that was judged"


def verify(root: Path, city: str, version: str, manifest_sha256: str = "") -> list[str]:
    """Returns what is wrong with the files of a version, a sentence each; nothing where all is well.

    Each file is hashed anew and compared with the manifest; one that the manifest does not tell of is
    wrong too.

    Args:
        root: of the registry.
        city: name of the city.
        version: of it.
        manifest_sha256: that the manifest must have; "" where that is not known.
    """
    if text := tampered(root, city, version, manifest_sha256):
        return [text]
    try:
        manifest = read_manifest(root, city, version)
    except FlowcastError as error:
        return [str(error)]
    folder = root / city / version
    networks, trees = (one.get("sha256", []) for one in (manifest.export, manifest.trees))
    hashes = {WEIGHTS: manifest.weights_sha256, **model_files(networks, trees)}
    wrong = []
    for name, expected in hashes.items():
        try:
            if sha256(folder / name) != expected:
                wrong.append(f"{folder / name} is damaged: its SHA-256 is not the manifest's")
        except OSError as error:
            wrong.append(f"{folder / name} cannot be read ({error.strerror})")
    others = {path.name for path in folder.iterdir()} - {*hashes, MANIFEST}
    return wrong + [f"{folder / name} is none of its files" for name in sorted(others)]


def model_files(networks: Sequence[Any], trees: Sequence[Any]) -> dict[str, Any]:
    """Returns what belongs to each file of a model by its name."""
    return {NETWORK.format(member): one for member, one in enumerate(networks)} | {
        TREES.format(lead): one for lead, one in enumerate(trees, start=1)
    }
