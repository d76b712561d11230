"""Train: archive -> climatology, anomalies, windows -> network -> a version, judged and promoted."""

import dataclasses
import importlib.metadata
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from data.city import City
from data.errors import FlowcastError
from data.files import only_one
from data.flow import split
from data.store import Store
from forecasting.checkpoint import load_checkpoint, read_facts, save_checkpoint
from forecasting.climatology import Climatology
from forecasting.computing import pick_device
from forecasting.lesson import Lesson
from forecasting.models import NETWORKS, config_of, write_network
from forecasting.models.network import Frames, NetworkConfig
from forecasting.registry import (
    Manifest,
    flow_hash,
    models_root,
    read_manifest,
    save_version,
    versions,
)
from forecasting.torch_rollout import build_network, weights_of
from forecasting.training import (
    MOST_EPOCHS,
    Batch,
    Epoch,
    TrainingConfig,
    TrainingState,
    fit,
    is_finished,
)
from pipelines.promotion import champion_of, judge, scores_of

DEFAULT = "swinlstm-b"
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
    network: str = DEFAULT,
    device: str = "auto",
    stop: threading.Event | None = None,
) -> Iterator[Progress | Trained]:
    """Trains a forecaster for the city and yields its progress, at the end the version made.

    Every finished epoch is kept in a checkpoint, from which `resume` goes on.

    Args:
        store: with the flow, and where a promotion is kept.
        city: that is trained for.
        config: of the training.
        network: key in `NETWORKS`; it is built in its quick size.
        device: `auto`, `cpu`, `cuda`.
        stop: once set, training ends after the batch at hand with the best epoch so far.

    Raises:
        FlowcastError: there is no such network, too little flow, another training of the city is
            under way, the device is missing, or training was stopped before an epoch was done.
    """
    with _alone(city) as checkpoint:
        place = pick_device(device)
        sized = network_for(city, network, config)
        lesson = Lesson.prepare(split(store.flow(city), city), network, sized, config)
        state = TrainingState.start(lambda: build_network(network, sized), config, place)
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
        name, network = _saved_network(checkpoint)
        facts = _facts(name, network, parts.train, parts.validation)
        saved = load_checkpoint(checkpoint, lambda: build_network(name, network), place, facts)
        state = dataclasses.replace(saved, config=_extended(saved, epochs, minutes))
        if is_finished(state) and _is_written(city, state):
            raise FlowcastError(
                f"the last training of {city.name} is done with all of its {len(state.history)} epochs; "
                f"for more of them add --epochs N or --minutes M, or train anew without --resume"
            )
        lesson = Lesson.prepare(parts, name, network, state.config)
        yield from _train(store, city, state, lesson, checkpoint, stop)


def _is_written(city: City, state: TrainingState) -> bool:
    """Returns whether a version was made of exactly these epochs."""
    epochs = [asdict(epoch) for epoch in state.history]
    names = versions(models_root(), city.name)
    manifests = (read_manifest(models_root(), city.name, name) for name in names)
    return any(manifest.training.get("history") == epochs for manifest in manifests)


def network_for(city: City, name: str, config: TrainingConfig) -> NetworkConfig:
    """Returns the quick size of the network `name` for the city's grid and windows.

    Raises:
        FlowcastError: there is no such network.
    """
    if name not in NETWORKS:
        raise FlowcastError(f"there is no network {name!r}; there is {', '.join(NETWORKS)}")
    frames = Frames(
        channels=2,
        grid=city.grid,
        history=config.history,
        horizon=config.horizon,
        output="identity",
        day=city.slots_per_day,
    )
    return NETWORKS[name].config.quick(frames)


@contextmanager
def _alone(city: City) -> Iterator[Path]:
    """Gives the path of the city's checkpoint while no other training of the city can run."""
    checkpoint = models_root() / city.name / "training" / "checkpoint.safetensors"
    taken = f"another training of {city.name} is under way"
    with only_one(checkpoint.with_suffix(".lock"), taken):
        yield checkpoint


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
    facts = _facts(lesson.name, lesson.network, lesson.both)
    stopped = False
    for progress in fit(
        state,
        lesson.feed(device),
        lambda network: lesson.error(lesson.forecaster(network)),
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


def _saved_network(checkpoint: Path) -> tuple[str, NetworkConfig]:
    """Returns name and configuration of the network that a checkpoint is of."""
    try:
        name, fields = json.loads(read_facts(checkpoint)["network"])
        return name, config_of(name, fields)
    except (KeyError, TypeError, ValueError) as error:
        raise FlowcastError(
            f"{checkpoint} holds no training that this version of flowcast can go on with; "
            f"train without --resume"
        ) from error


def _facts(name: str, network: NetworkConfig, *parts: xr.DataArray) -> dict[str, str]:
    """Returns what must not change between a training and its resumption."""
    return {
        "flow": flow_hash(xr.concat(parts, "time")),
        "network": write_network(name, network),
    }


def _finish(
    store: Store, city: City, state: TrainingState, lesson: Lesson, stopped: bool
) -> Trained:
    """Saves the best epoch as a version, judges it and promotes it if it is good enough."""
    state.network.load_state_dict(state.best)
    candidate = lesson.forecaster(state.network)
    scores = scores_of(candidate, champion_of(store, city, lesson), lesson)
    promoted, reason = judge(scores)
    # The weights are chosen; the climatology that they meet in service may know the last days too.
    climatology = Climatology.fit(lesson.both)
    manifest = _manifest(city, state, lesson, scores)
    save_version(models_root(), manifest, weights_of(state.network), climatology)
    if promoted:
        store.promote(city, manifest.version, reason)
    return Trained(manifest, promoted, reason, stopped)


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
        network=lesson.name,
        config=asdict(lesson.network),
        training={
            **asdict(state.config),
            "chosen_epoch": best,
            "history": [asdict(epoch) for epoch in state.history],
        },
        history=lesson.config.history,
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
