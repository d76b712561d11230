"""Train: archive -> climatology, anomalies, windows -> network -> a version, judged and promoted.

`python -m pipelines.train` is `forecast train` for machines: under `torchrun` it trains on several
GPUs or machines.
"""

import dataclasses
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field

from data.city import City
from data.errors import FlowcastError
from data.flow import split
from data.store import Store
from forecasting.checkpoint import save_checkpoint
from forecasting.computing import Computing, pick_device
from forecasting.distributed import Group
from forecasting.lesson import Lesson
from forecasting.models import NETWORKS
from forecasting.models.network import Frames, NetworkConfig
from forecasting.state import Epoch, TrainingConfig, TrainingState
from forecasting.stopping import Stop, heeded
from forecasting.torch_rollout import build_network
from forecasting.training import Event, Mark, NotFinite, fit, is_finished
from pipelines.candidate import SERVED, Trained, keep_best
from pipelines.unfinished import (
    alone,
    checkpoint_of,
    extended,
    facts_of,
    is_written,
    read_unfinished,
)

DEFAULT = "swinlstm-b"
Progress = Event


@dataclass(frozen=True)
class Means:
    """What a training of a city runs by, as against what it makes.

    Attributes:
        computing: device and precision.
        serve: precision that the version is to serve in, `float32` or `int8`.
        group: the processes that train together.
        stop: once set, training ends after the step at hand with the best epoch so far.
    """

    computing: Computing = field(default_factory=Computing)
    serve: str = "float32"
    group: Group = field(default_factory=Group)
    stop: threading.Event | None = None

    def __post_init__(self) -> None:
        if self.serve not in SERVED:
            raise ValueError(f"serve {self.serve!r} is none of {', '.join(SERVED)}")


def train(
    store: Store,
    city: City,
    config: TrainingConfig,
    *,
    network: str = DEFAULT,
    means: Means | None = None,
) -> Iterator[Progress | Trained]:
    """Trains a forecaster for the city and yields its progress, at the end the version made.

    Every finished epoch is kept in a checkpoint, and now and then what is done of the running one;
    from it `resume` goes on. Of several processes the first one writes, and alone yields the version.

    Args:
        store: with the flow, and where a promotion is kept.
        city: that is trained for.
        config: of the training.
        network: key in `NETWORKS`; it is built in its quick size.
        means: by which it is trained.

    Raises:
        FlowcastError: there is no such network, too little flow, another training of the city is
            under way, the device is missing, or training was stopped before an epoch was done.
    """
    means = means or Means()
    with alone(city) if means.group.first else nullcontext():
        place = pick_device(means.computing.device)
        sized = network_for(city, network, config)
        lesson = Lesson.prepare(split(store.flow(city), city), network, sized, config)
        state = TrainingState.start(lambda: build_network(network, sized), config, place)
        yield from _train(store, city, state, lesson, means)


def resume(
    store: Store,
    city: City,
    *,
    epochs: int | None = None,
    minutes: float | None = None,
    means: Means | None = None,
) -> Iterator[Progress | Trained]:
    """Goes on with the city's last training from where it was last kept, as `train` does.

    On the CPU the result is bit for bit that of a training that was never interrupted. `epochs` in
    all, or `minutes` more, take the place of what was planned.

    Raises:
        FlowcastError: as `train`, or there is nothing to go on with, or the flow has changed since.
    """
    means = means or Means()
    with alone(city) if means.group.first else nullcontext():
        place = pick_device(means.computing.device)
        parts = split(store.flow(city), city)
        name, network, saved = read_unfinished(city, parts, place)
        state = dataclasses.replace(saved, config=extended(saved, epochs, minutes))
        if is_finished(state) and is_written(city, state):
            raise FlowcastError(
                f"the last training of {city.name} is done with all of its {len(state.history)} epochs; "
                f"for more of them add --epochs N or --minutes M, or train anew without --resume"
            )
        lesson = Lesson.prepare(parts, name, network, state.config)
        yield from _train(store, city, state, lesson, means)


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


def _train(
    store: Store, city: City, state: TrainingState, lesson: Lesson, means: Means
) -> Iterator[Progress | Trained]:
    """Trains to the end of the plan or until it is stopped, then makes a version of the best epoch."""
    facts = facts_of(lesson.name, lesson.network, lesson.both)
    events = fit(
        state,
        lesson.feed(state.device),
        lambda network: lesson.error(lesson.forecaster(network)),
        means.computing,
        group=means.group,
        stop=means.stop,
    )
    for event in heeded(_with_way_out(events, city, state), means.stop):
        if isinstance(event, Epoch | Mark) and means.group.first:
            save_checkpoint(checkpoint_of(city), state, facts)
        yield event
    asked = means.stop is not None and means.stop.is_set()
    stopped = asked and not is_finished(state)
    if not means.group.first:
        return
    again = f"forecast train --city {city.name} --resume"
    if isinstance(means.stop, Stop) and means.stop.hurried:
        raise FlowcastError(
            f"training was ended in epoch {state.number}, at step {state.step}, which is kept; "
            f"to go on: {again}"
        )
    if not state.history:
        raise FlowcastError(
            f"training was stopped before its first epoch was done, at step {state.step}, which is "
            f"kept; to go on: {again}"
        )
    yield keep_best(store, city, state, lesson, means.serve, stopped)


def _with_way_out(events: Iterator[Event], city: City, state: TrainingState) -> Iterator[Event]:
    """Adds to what is said of a loss that is no number how the best epoch becomes a version."""
    try:
        yield from events
    except NotFinite as error:
        if not state.history:
            raise
        raise NotFinite(
            f"{error}, or keep the best epoch so far: forecast train --city {city.name} --resume "
            f"--epochs {len(state.history)}"
        ) from error


if __name__ == "__main__":
    from pipelines.trainer import main

    sys.exit(main())
