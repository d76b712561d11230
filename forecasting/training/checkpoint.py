"""Checkpoints: the state of a training in one safetensors file, from which it goes on exactly."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from data.errors import FlowcastError
from data.files import atomic_write
from forecasting.training.state import Epoch, TrainingConfig, TrainingState

ANEW = "train without --resume"
FORMER = {"precision": "float32"}
"""What is true of files from before a fact was kept."""


def save_checkpoint(path: Path, state: TrainingState, facts: dict[str, str]) -> None:
    """Writes the state as one safetensors file, whole or not at all.

    Args:
        path: of the file.
        state: between two steps.
        facts: what `load_checkpoint` must find unchanged, such as the hash of the data.
    """
    tensors = {f"network.{name}": value for name, value in state.network.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in state.best.items()}
    tensors |= {f"average.{index}": value for index, value in enumerate(state.average)}
    tensors["sums"] = state.sums
    for index, moment in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in moment.items()}
    metadata = {
        "facts": json.dumps(facts),
        "config": json.dumps(asdict(state.config)),
        "history": json.dumps([asdict(epoch) for epoch in state.history]),
        "seconds": json.dumps(state.seconds),
    }
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(whole, metadata))


def load_checkpoint(
    path: Path,
    build: Callable[[], nn.Module],
    device: torch.device,
    facts: dict[str, str],
    anew: str = ANEW,
) -> TrainingState:
    """Returns the state that `save_checkpoint` wrote.

    Args:
        path: of the file.
        build: makes the network that it is of.
        device: for the network.
        facts: what must be as it was.
        anew: what a person does where it cannot be gone on with.

    Raises:
        FlowcastError: there is none, it cannot be read, or `facts` have changed since.
    """
    known = read_facts(path, anew)
    tensors, metadata = _read(path, anew)
    for key, value in facts.items():
        if known.get(key, FORMER.get(key)) != value:
            raise FlowcastError(
                f"the {key} has changed since the training in {path.parent} began; {anew}"
            )
    try:
        return _restored(tensors, metadata, build, device)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise FlowcastError(
            f"{path} holds no training that this version of flowcast can go on with; {anew}"
        ) from error


def read_facts(path: Path, anew: str = ANEW) -> dict[str, str]:
    """Returns the facts that a checkpoint was written with.

    Raises:
        FlowcastError: there is none, or it cannot be read.
    """
    if not path.exists():
        raise FlowcastError(f"no training to go on with in {path.parent}; {anew}")
    _, metadata = _read(path, anew)
    return {str(key): str(value) for key, value in metadata["facts"].items()}


def _read(path: Path, anew: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = {key: json.loads(text) for key, text in file.metadata().items()}
        metadata["facts"].items()
    except (OSError, SafetensorError, ValueError, AttributeError, KeyError) as error:
        raise FlowcastError(f"{path} cannot be read ({error}); {anew}") from error
    return tensors, metadata


def _restored(
    tensors: dict[str, Tensor],
    metadata: dict[str, Any],
    build: Callable[[], nn.Module],
    device: torch.device,
) -> TrainingState:
    state = TrainingState.start(build, TrainingConfig(**metadata["config"]), device)
    state.network.load_state_dict(_part(tensors, "network."))
    state.best = _part(tensors, "best.")
    state.history = [Epoch(**epoch) for epoch in metadata["history"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for path_of, tensor in _part(tensors, "optimizer.").items():
        index, name = path_of.split(".")
        moments.setdefault(int(index), {})[name] = tensor
    state.optimizer.load_state_dict({**state.optimizer.state_dict(), "state": moments})
    for place, average in enumerate(state.average):
        average.copy_(tensors[f"average.{place}"])
    # Files of the first release hold whole epochs only.
    state.sums.copy_(tensors.get("sums", state.sums))
    state.seconds = float(metadata.get("seconds", 0.0))
    return state


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
