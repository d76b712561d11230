"""Train: archive -> climatology, anomalies, windows -> network -> a version, judged and promoted."""

import dataclasses
import importlib.metadata
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import nn

from data.city import City
from data.errors import FlowcastError
from data.files import make_folder
from data.flow import split
from data.store import Store
from forecasting.baselines import BASELINES
from forecasting.checkpoint import load_checkpoint, save_checkpoint
from forecasting.climatology import Climatology
from forecasting.forecaster import Forecaster
from forecasting.lesson import Lesson
from forecasting.models import NETWORKS
from forecasting.neural import build_network, pick_device
from forecasting.registry import (
    Manifest,
    flow_hash,
    load_version,
    models_root,
    read_manifest,
    save_version,
    versions,
)
from forecasting.training import (
    MOST_EPOCHS,
    Batch,
    Epoch,
    TrainingConfig,
    TrainingState,
    fit,
    is_finished,
)

NETWORK = "swinlstm-b"
Progress = Batch | Epoch


@dataclass(frozen=True)
class Trained:
    """A version that was trained, and what was decided of it.

    Attributes:
        manifest: of the version.
        promoted: whether it is the champion now.
        reason: for people.
        stopped: whether training was stopped before its last planned epoch.
    """

    manifest: Manifest
    promoted: bool
    reason: str
    stopped: bool


def train(
    store: Store,
    city: City,
    config: TrainingConfig,
    *,
    device: str = "auto",
    stop: threading.Event | None = None,
) -> Iterator[Progress | Trained]:
    """Trains a forecaster for the city and yields its progress, at the end the version made.

    Every finished epoch is kept in a checkpoint, from which `resume` goes on.

    Args:
        store: with the flow, and where a promotion is kept.
        city: that is trained for.
        config: of the training.
        device: `auto`, `cpu`, `cuda`.
        stop: once set, training ends after the batch at hand with the best epoch so far.

    Raises:
        FlowcastError: there is too little flow, another training of the city is under way, the
            device is missing, or training was stopped before an epoch was done.
    """
    with _alone(city) as checkpoint:
        place = pick_device(device)
        lesson = Lesson.prepare(split(store.flow(city), city), config)
        state = TrainingState.start(_builder(city), config, place)
        yield from _train(store, city, state, lesson, checkpoint, stop)


def resume(
    store: Store,
    city: City,
    *,
    epochs: int | None = None,
    minutes: float | None = None,
    device: str = "auto",
    stop: threading.Event | None = None,
) -> Iterator[Progress | Trained]:
    """Goes on with the city's last training after its last finished epoch, as `train` does.

    On the CPU the result is bit for bit that of a training that was never interrupted. `epochs` in
    all, or `minutes` more, take the place of what was planned.

    Raises:
        FlowcastError: as `train`, or there is nothing to go on with, or the flow has changed since.
    """
    with _alone(city) as checkpoint:
        place = pick_device(device)
        parts = split(store.flow(city), city)
        saved = load_checkpoint(
            checkpoint, _builder(city), place, _facts(city, parts.train, parts.validation)
        )
        state = dataclasses.replace(saved, config=_extended(saved, epochs, minutes))
        if is_finished(state) and _is_written(city, state):
            raise FlowcastError(
                f"the last training of {city.name} is done with all of its {len(state.history)} epochs; "
                f"for more of them add --epochs N or --minutes M, or train anew without --resume"
            )
        lesson = Lesson.prepare(parts, state.config)
        yield from _train(store, city, state, lesson, checkpoint, stop)


def _is_written(city: City, state: TrainingState) -> bool:
    """Returns whether a version was made of exactly these epochs."""
    epochs = [asdict(epoch) for epoch in state.history]
    names = versions(models_root(), city.name)
    manifests = (read_manifest(models_root(), city.name, name) for name in names)
    return any(manifest.training.get("history") == epochs for manifest in manifests)


def default_network(city: City) -> dict[str, Any]:
    """Returns the network's configuration for the city's grid.

    Small, so that it learns within minutes on two cores: two blocks of width 64. A patch is the
    largest of 4, 2, 1 cells that leaves six tokens along the shorter side.
    """
    patch = next((patch for patch in (4, 2) if min(city.grid) >= 6 * patch), 1)
    return {
        "grid": city.grid,
        "patch": patch,
        "width": 64,
        "window": 8,
        "depths": (2,),
        "heads": (4,),
        "reconstruction": "linear",
        "output": "identity",
    }


@contextmanager
def _alone(city: City) -> Iterator[Path]:
    """Gives the path of the city's checkpoint while no other training of the city can run."""
    checkpoint = models_root() / city.name / "training" / "checkpoint.safetensors"
    make_folder(checkpoint.parent)
    lock = filelock.FileLock(checkpoint.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise FlowcastError(
            f"another training of {city.name} is under way; wait for it, or end it first"
        ) from None
    try:
        yield checkpoint
    finally:
        lock.release()


def _train(
    store: Store,
    city: City,
    state: TrainingState,
    lesson: Lesson,
    checkpoint: Path,
    stop: threading.Event | None,
) -> Iterator[Progress | Trained]:
    """Trains to the end of the plan or until it is stopped, then makes a version of the best epoch."""
    device = next(state.network.parameters()).device
    facts = _facts(city, lesson.both)
    stopped = False
    for progress in fit(
        state,
        lesson.frames(device),
        lesson.starts(device),
        lambda network: lesson.error(lesson.forecaster(network, NETWORK)),
    ):
        if isinstance(progress, Epoch):
            save_checkpoint(checkpoint, state, facts)
        yield progress
        if stop is not None and stop.is_set():
            stopped = True
            break
    if not state.history:
        raise FlowcastError(
            "training was stopped before its first epoch was done; nothing was kept"
        )
    yield _finish(store, city, state, lesson, stopped)


def _extended(saved: TrainingState, epochs: int | None, minutes: float | None) -> TrainingConfig:
    """Returns the saved configuration with the epochs or minutes that were asked for."""
    if epochs is None and minutes is None:
        return saved.config
    spent = saved.history[-1].seconds / 60
    return dataclasses.replace(
        saved.config,
        epochs=epochs or MOST_EPOCHS,
        minutes=None if minutes is None else spent + minutes,
    )


def _facts(city: City, *parts: xr.DataArray) -> dict[str, str]:
    """Returns what must not change between a training and its resumption."""
    both = xr.concat(parts, "time")
    return {"flow": flow_hash(both), "network": repr(default_network(city))}


def _builder(city: City) -> Callable[[], nn.Module]:
    config = NETWORKS[NETWORK].config(**default_network(city))
    return lambda: build_network(NETWORK, config)


def _finish(
    store: Store, city: City, state: TrainingState, lesson: Lesson, stopped: bool
) -> Trained:
    """Saves the best epoch as a version, judges it and promotes it if it is good enough."""
    state.network.load_state_dict(state.best)
    candidate = lesson.forecaster(state.network, NETWORK)
    scores = _scores(candidate, _champion(store, city, lesson), lesson)
    promoted, reason = _judge(scores)
    # The weights are chosen; the climatology that they meet in service may know the last days too.
    final = dataclasses.replace(candidate, climatology=Climatology.fit(lesson.both))
    manifest = _manifest(city, state, lesson, scores)
    save_version(models_root(), final, manifest)
    if promoted:
        store.promote(city, manifest.version, reason)
    return Trained(manifest, promoted, reason, stopped)


def _champion(store: Store, city: City, lesson: Lesson) -> Forecaster | None:
    """Returns the champion as it would be without the validation days, which its climatology saw."""
    version = store.champion(city)
    if version is None:
        return None
    try:
        served = load_version(models_root(), city, version, torch.device("cpu"))
    except FlowcastError:
        return None  # What cannot serve need not be beaten.
    return dataclasses.replace(served, climatology=lesson.climatology)


def _scores(
    candidate: Forecaster, champion: Forecaster | None, lesson: Lesson
) -> dict[str, dict[str, float]]:
    """Returns the validation errors of the candidate and of all that it is judged against."""
    forecasters = {"candidate": candidate}
    if champion is not None:
        forecasters["champion"] = champion
    forecasters |= {name: make(lesson.train) for name, make in BASELINES.items()}
    return {name: lesson.errors(forecaster) for name, forecaster in forecasters.items()}


def _judge(scores: dict[str, dict[str, float]]) -> tuple[bool, str]:
    """Returns whether the candidate is promoted, and why or why not."""
    own = scores["candidate"]["all"]
    rivals = {"historical average": scores["historical-average"]["all"]}
    if "champion" in scores:
        rivals["champion"] = scores["champion"]["all"]
    for name, error in rivals.items():
        if not own < error:  # A figure that is no number fails too.
            return (
                False,
                f"RMSE {own:.2f} on the validation days, not below the {name}'s {error:.2f}",
            )
    beaten = " and the ".join(f"{name}'s {error:.2f}" for name, error in rivals.items())
    return True, f"RMSE {own:.2f} on the validation days, below the {beaten}"


def _manifest(
    city: City, state: TrainingState, lesson: Lesson, scores: dict[str, dict[str, float]]
) -> Manifest:
    digest = flow_hash(lesson.both)
    best = max(epoch.number for epoch in state.history if epoch.best)
    now = pd.Timestamp.now("UTC")
    return Manifest(
        version=f"{now:%Y%m%d-%H%M%S}-{digest[:4]}{state.config.seed:02d}",
        city=city.name,
        timezone=city.timezone,
        step=int(city.step / np.timedelta64(1, "s")),
        grid=city.grid,
        network=NETWORK,
        config=default_network(city),
        training={
            **asdict(state.config),
            "chosen_epoch": best,
            "history": [asdict(epoch) for epoch in state.history],
        },
        history=state.config.history,
        scale=lesson.scale,
        trained=_span(lesson.train),
        climatology=_span(lesson.both),
        data_hash=digest,
        metrics=scores,
        code_version=importlib.metadata.version("flowcast"),
    )


def _span(flow: xr.DataArray) -> tuple[str, str]:
    first, last = flow["time"].values[[0, -1]]
    return f"{first}Z", f"{last}Z"
