"""TreesProgress: the trees that have a share in a city's forecast, beside its networks.

Networks and trees err differently: their mean is better than either. The trees see what the networks
see; how many they are, and what share is theirs, the validation days tell.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

from forecasting.city.task import CityTask
from forecasting.trees import forecaster
from forecasting.trees.features import TreesConfig, TreeTask
from forecasting.trees.forecaster import Model, Trees

LEAST = 0.02
"""Share below which trees, or networks on frames alone, are not worth keeping."""
ROWS = 2_000_000
"""Rows of all leads together, at most, so that many leads take no longer than four."""


@dataclass(frozen=True)
class TreesProgress:
    """The trees of a lead were grown: `done` of `count`, those of the selection and the final ones."""

    done: int
    count: int


@dataclass(frozen=True)
class FittedTrees:
    """Trees of a city.

    Attributes:
        selected: grown on the training days, as many as did best on the validation days.
        final: as many, grown on both; `selected` where there is no final fit.
        rounds: trees of each lead.
    """

    selected: Trees
    final: Trees
    rounds: tuple[int, ...]


def grow(
    task: CityTask, final: CityTask | None, stop: threading.Event | None = None
) -> Iterator[TreesProgress | FittedTrees]:
    """Grows trees on what networks are trained on; yields how it goes on, at the end the trees.

    Once `stop` is set it ends after the lead at hand, without trees.

    Args:
        task: of the training days, judged by the validation days.
        final: of both; None where none is trained on the latter.
        stop: None where nothing ends it.

    Raises:
        FlowcastError: scikit-learn is not installed.
    """
    horizon = task.config.horizon
    count = horizon * (2 if final else 1)
    first = _tree_task(task)
    chosen: list[Model] = []
    for chosen in forecaster.select(first, task.known, horizon):
        yield TreesProgress(len(chosen), count)
        if stop is not None and stop.is_set():
            return
    selected = forecaster.together(chosen, first.config)
    rounds = tuple(one.rounds for one in chosen)
    if final is None:
        yield FittedTrees(selected, selected, rounds)
        return
    last: list[Model] = []
    for last in forecaster.refit_trees(_tree_task(final), rounds):
        yield TreesProgress(horizon + len(last), count)
        if stop is not None and stop.is_set():
            return
    yield FittedTrees(selected, forecaster.together(last, first.config), rounds)


def _tree_task(task: CityTask) -> TreeTask:
    usual, horizon = TreesConfig(history=task.config.history), task.config.horizon
    config = replace(usual, rows=min(usual.rows, ROWS // horizon))
    seed, weather = task.config.seed, task.weather
    return TreeTask(task.train, task.context, task.rows, config, seed, weather)
