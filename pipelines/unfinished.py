"""What a city's last training left on disk: one checkpoint, and what must fit to go on from it."""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
import xarray as xr

from data.city import City
from data.errors import FlowcastError
from data.files import only_one
from data.flow import Split
from forecasting.checkpoint import load_checkpoint, read_facts
from forecasting.models import config_of, write_network
from forecasting.models.network import NetworkConfig
from forecasting.registry import flow_hash, models_root, read_manifest, versions
from forecasting.state import MOST_EPOCHS, TrainingConfig, TrainingState
from forecasting.torch_rollout import build_network


def checkpoint_of(city: City) -> Path:
    """Returns the path of the city's checkpoint."""
    return models_root() / city.name / "training" / "checkpoint.safetensors"


@contextmanager
def alone(city: City) -> Iterator[None]:
    """Keeps any other training of the city from running."""
    taken = f"another training of {city.name} is under way"
    with only_one(checkpoint_of(city).with_suffix(".lock"), taken):
        yield


def facts_of(name: str, network: NetworkConfig, *parts: xr.DataArray) -> dict[str, str]:
    """Returns what must not change between a training and its resumption."""
    return {
        "flow": flow_hash(xr.concat(parts, "time")),
        "network": write_network(name, network),
    }


def read_unfinished(
    city: City, parts: Split, device: torch.device
) -> tuple[str, NetworkConfig, TrainingState]:
    """Returns the network's name and configuration and the state of the city's last training.

    Raises:
        FlowcastError: there is none, it cannot be read, or the flow has changed since.
    """
    path = checkpoint_of(city)
    try:
        name, fields = json.loads(read_facts(path)["network"])
        network = config_of(name, fields)
    except (KeyError, TypeError, ValueError) as error:
        raise FlowcastError(
            f"{path} holds no training that this version of flowcast can go on with; "
            f"train without --resume"
        ) from error
    facts = facts_of(name, network, parts.train, parts.validation)
    return name, network, load_checkpoint(path, lambda: build_network(name, network), device, facts)


def extended(saved: TrainingState, epochs: int | None, minutes: float | None) -> TrainingConfig:
    """Returns the saved configuration with the epochs or minutes that were asked for."""
    if epochs is None and minutes is None:
        return saved.config
    spent = (saved.history[-1].seconds if saved.history else 0.0) + saved.seconds
    return dataclasses.replace(
        saved.config,
        epochs=epochs or MOST_EPOCHS,
        minutes=None if minutes is None else spent / 60 + minutes,
    )


def is_written(city: City, state: TrainingState) -> bool:
    """Returns whether a version was made of exactly these epochs."""
    epochs = [asdict(epoch) for epoch in state.history]
    names = versions(models_root(), city.name)
    manifests = (read_manifest(models_root(), city.name, name) for name in names)
    return any(manifest.training.get("history") == epochs for manifest in manifests)
