"""What a city's last training left on disk: a checkpoint of each fit, and what must fit to go on."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from data.city import City
from data.errors import FlowcastError
from data.files import exclusive_lock
from data.paths import models_root, training_folder
from forecasting.benchmarks.task import digest_of
from forecasting.city.fit import FitPlan
from forecasting.city.recipe import Recipe
from forecasting.city.task import CityTask
from forecasting.networks import write_network
from forecasting.registry.manifest import read_manifest, versions
from forecasting.registry.versions import flow_hash
from forecasting.rollout.torch_rollout import build_network
from forecasting.training.checkpoint import load_checkpoint, read_facts
from forecasting.training.state import TrainingConfig, TrainingState

KINDS = ("selection", "final")


def checkpoint_of(city: City, fit: str) -> Path:
    """Returns the path of the checkpoint of a fit, such as `selection-0` or `final-2`."""
    return _folder(city) / f"{fit}.safetensors"


def clear(city: City) -> None:
    """Removes the checkpoints of the city's last training, what follows from others first."""
    for path in sorted(_folder(city).glob("*.safetensors")):
        path.unlink()


@contextmanager
def alone(city: City) -> Iterator[None]:
    """Keeps any other training of the city from running."""
    taken = f"another training of {city.name} is under way"
    with exclusive_lock(_folder(city) / "training.lock", taken):
        yield


def facts_of(plan: FitPlan, task: CityTask) -> dict[str, str]:
    """Returns what must not change between a fit and its resumption."""
    return {
        "flow": flow_hash(plan.task.known),
        "weather": weather_hash(plan.task),
        "network": write_network(task.name, task.network),
        "recipe": _written(plan.recipe),
    }


def read_recipe(city: City) -> Recipe:
    """Returns the recipe of the city's last training.

    Raises:
        FlowcastError: there is none, or it cannot be read.
    """
    path = checkpoint_of(city, "selection-0")
    try:
        return Recipe.from_fields(json.loads(read_facts(path)["recipe"]))
    except (KeyError, TypeError, ValueError) as error:
        raise FlowcastError(
            f"{path} holds no training that this version of flowcast can go on with; "
            f"train without --resume"
        ) from error


def read_unfinished(city: City, plan: FitPlan, device: torch.device) -> dict[str, TrainingState]:
    """Returns the states of the fits of the city's last training, by name, in their order.

    Raises:
        FlowcastError: one cannot be read, or the flow has changed since.
    """

    def build(task: CityTask) -> nn.Module:
        return build_network(task.name, task.network, task.around)

    names = {f"{kind}-{n}": plan.of(n) for kind in KINDS for n in range(plan.members)}
    return {
        name: load_checkpoint(
            checkpoint_of(city, name), partial(build, task), device, facts_of(plan, task)
        )
        for name, task in names.items()
        if checkpoint_of(city, name).exists()
    }


def extended(
    saved: TrainingState, epochs: int | None, minutes: float | None, fits: int
) -> TrainingConfig:
    """Returns the saved configuration with the epochs, or a share of the minutes, that were asked for.

    Args:
        saved: of a fit.
        epochs: in all.
        minutes: for all fits together.
        fits: how many there are.
    """
    if epochs is None and minutes is None:
        return saved.config
    spent = (saved.history[-1].seconds if saved.history else 0.0) + saved.seconds
    return dataclasses.replace(
        saved.config,
        epochs=epochs or saved.config.epochs,
        minutes=None if minutes is None else spent / 60 + minutes / fits,
    )


def is_written(city: City, states: Mapping[str, TrainingState]) -> bool:
    """Returns whether a version was made of exactly these fits."""
    fits = [[asdict(epoch) for epoch in state.history] for state in states.values()]
    names = versions(models_root(), city.name)
    return any(_histories(city, name) == fits for name in names)


def _histories(city: City, version: str) -> list[Any]:
    """Returns the epochs of each fit of a version, none where it cannot be read."""
    try:
        manifest = read_manifest(models_root(), city.name, version)
    except FlowcastError:  # damaged, or of another format
        return []
    return [fit["history"] for fit in manifest.training.get("fits", [])]


def weather_hash(task: CityTask) -> str:
    """Returns the SHA-256 of the weather during the days of a task, "" without any."""
    if task.weather is None:
        return ""
    time = task.weather["time"].values
    during = task.weather[time <= task.known["time"].values[-1]]
    return digest_of(during["time"].values.astype(np.int64), during.values)


def _written(recipe: Recipe) -> str:
    fields = recipe.to_fields()
    # As trainings wrote it that began before there was a choice.
    if not fields["plain"]:
        del fields["plain"]
    if fields["optimizer"] == "adamw":
        del fields["optimizer"], fields["training"]["optimizer"]
    return json.dumps(fields, sort_keys=True)


def _folder(city: City) -> Path:
    return training_folder(city.name)
