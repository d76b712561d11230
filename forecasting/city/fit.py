"""Fits of a city's forecaster: networks, trees, and how they are weighted."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from data import windows
from data.city import City
from data.flow import Split
from forecasting.city.recipe import MINUTES_OF_TREES, Recipe
from forecasting.city.task import CityTask
from forecasting.city.trees import FittedTrees, TreesProgress, grow
from forecasting.ensemble import NeuralForecaster
from forecasting.forecaster import Forecaster
from forecasting.networks import entry_of
from forecasting.networks.base import Frames, NetworkConfig
from forecasting.rollout.torch_rollout import build_network
from forecasting.stacking import least_squares_weight
from forecasting.training.budget import Budget
from forecasting.training.hardware import Computing, pick_device
from forecasting.training.loop import Event, fit
from forecasting.training.state import TrainingConfig, TrainingState
from forecasting.trees import forecaster as trees
from forecasting.trees.forecaster import Trees, TreesForecaster


def trees_weight(task: CityTask, networks: Forecaster, grown: Trees) -> float:
    """Returns the share of the trees beside networks, as `stacking_weight`."""
    return stacking_weight(task, networks, TreesForecaster(grown, task.context, task.weather))


def stacking_weight(task: CityTask, first: Forecaster, second: Forecaster) -> float:
    """Returns the weight of the second with which two forecasters err least on the validation days."""
    return least_squares_weight(task.outcomes(first, second))


@dataclass(frozen=True)
class FitPlan:
    """The fits of a training: one to choose the epochs for every member, and a final one.

    The members of the first kind come first, those that see frames alone behind them.

    Attributes:
        recipe: of the training.
        task: of the training days, judged by the validation days.
        plain: the same for networks that see frames alone; None where there are none.
    """

    recipe: Recipe
    task: CityTask
    plain: CityTask | None = None

    @classmethod
    def prepare(
        cls, parts: Split, city: City, recipe: Recipe, weather: xr.DataArray | None = None
    ) -> "FitPlan":
        """Returns the plan for the first two parts of a flow.

        Args:
            parts: of the flow; the last one is not looked at.
            city: whose it is.
            recipe: of the training.
            weather: as `data.weather` has it, where there is any.

        Raises:
            FlowcastError: there is no such network, or too little flow.
        """
        network = network_for(city, recipe.network, recipe.training)
        lags, horizon = network.lags(recipe.training.horizon), recipe.training.horizon
        whole = len(windows.whole(parts.train, lags, horizon))
        settled = recipe.resolved(max(whole, 1))
        if settled.trees:
            trees.version()  # before anything is trained
        task = CityTask.prepare(
            parts, recipe.network, network, settled.training, settled.context, weather
        )
        return cls(settled, task, task.alone() if settled.raw_ensemble else None)

    @property
    def each(self) -> int:
        """How many networks there are of each kind."""
        return self.recipe.ensemble_size or 1

    @property
    def members(self) -> int:
        """How many networks make the forecast."""
        return self.each * (1 if self.plain is None else 2)

    def of(self, member: int) -> CityTask:
        """Returns the task of the member's kind."""
        return self.task if self.plain is None or member < self.each else self.plain

    @property
    def fits(self) -> int:
        """How many fits there are."""
        return self.members * (2 if self.recipe.refit else 1)

    def selection(self, member: int) -> CityTask:
        """Returns the task by which the epochs of a member are chosen."""
        config = self.recipe.training
        minutes = config.minutes
        if minutes is not None:
            minutes -= min(MINUTES_OF_TREES, minutes / 2) if self.recipe.trees else 0.0
            longer = self.task.known.sizes["time"] / self.task.train.sizes["time"]
            minutes /= self.members * (1 + (longer if self.recipe.refit else 0))
        seed, epochs = config.seed + member % self.each, self.epochs(member, config.epochs)
        own = replace(config, seed=seed, minutes=minutes, epochs=epochs)
        return replace(self.of(member), config=own)

    def epochs(self, member: int, usual: int) -> int:
        """Returns the epochs of a member where those in context have the `usual` ones."""
        return usual + usual // 3 if self.of(member) is self.plain else usual

    def grow(self, stop: threading.Event | None = None) -> Iterator[TreesProgress | FittedTrees]:
        """Grows the trees of a recipe with trees; see `growing.grow`."""
        return grow(self.task, self._whole if self.recipe.refit else None, stop)

    def final(self, member: int, selected: TrainingState) -> CityTask:
        """Returns the task of the member that serves, after the epochs that were found."""
        found = max(epoch.number for epoch in selected.history if epoch.best)
        # A clock that stands: all processes, and a resumed training, must plan the same.
        planned = max(Budget(selected, shared=True).epochs(), len(selected.history))
        seed = self.recipe.training.seed + member % self.each
        own = replace(
            selected.config, seed=seed, epochs=planned, minutes=None, patience=0, last=found
        )
        whole = self._whole if self.of(member) is self.task else self._plain_whole
        return replace(whole, config=own)

    @cached_property
    def _whole(self) -> CityTask:
        return self.task.final()

    @cached_property
    def _plain_whole(self) -> CityTask:
        assert self.plain is not None
        return self.plain.final()


@dataclass(frozen=True)
class Fitted:
    """What fitting made.

    Attributes:
        forecaster: that serves.
        selected: that knows the training days alone.
        epochs: of each final fit.
        seconds: that all fits took.
    """

    forecaster: NeuralForecaster
    selected: NeuralForecaster
    epochs: tuple[int, ...]
    seconds: float


def fitted(
    parts: Split,
    city: City,
    recipe: Recipe,
    *,
    weather: xr.DataArray | None = None,
    computing: Computing | None = None,
    timer: Callable[[], float] = time.monotonic,
) -> Fitted:
    """Returns what a recipe makes of a flow, without keeping anything on disk.

    Args:
        parts: of the flow; the last one is not looked at.
        city: whose it is.
        recipe: of the training.
        weather: as `data.weather` has it, where there is any.
        computing: how.
        timer: as `forecasting.training.loop.fit` takes it.

    Raises:
        FlowcastError: as `FitPlan.prepare`, or the training comes to no finite end.
    """
    plan = FitPlan.prepare(parts, city, recipe, weather)
    recipe, each = plan.recipe, plan.each
    computing = computing or Computing()
    states: dict[bool, list[TrainingState]] = {False: [], True: []}
    tasks: dict[tuple[bool, bool], CityTask] = {}
    for member in range(plan.members):
        for last in (False, True) if recipe.refit else (False,):
            task = plan.final(member, states[False][-1]) if last else plan.selection(member)
            state = begin(task, pick_device(computing.device))
            for _ in training(task, state, computing, timer=timer):
                pass
            states[last].append(state)
            tasks[last, member >= each] = task

    def networks(last: bool, plain: bool) -> NeuralForecaster:
        fits = states[last][each:] if plain else states[last][:each]
        return tasks[last, plain].forecaster(*map(chosen, fits))

    end = bool(recipe.refit)
    selected = networks(False, plain=False)
    served = networks(True, plain=False) if end else selected
    if recipe.trees:
        *_, grown = plan.grow()
        assert isinstance(grown, FittedTrees)
        share = trees_weight(plan.task, selected, grown.selected)
        selected = selected.with_trees(grown.selected, share)
        served = served.with_trees(grown.final, share)
    if plan.plain is not None:
        alone = networks(False, plain=True)
        share = stacking_weight(plan.task, selected, alone)
        selected = selected.with_raw(alone, share)
        served = served.with_raw(networks(end, plain=True), share)
    ends = states[end]
    epochs = tuple(max(one.number for one in state.history if one.best) for state in ends)
    seconds = sum(state.history[-1].seconds for kind in states.values() for state in kind)
    return Fitted(served, selected, epochs, seconds)


def begin(
    task: CityTask, device: torch.device, weights: Mapping[str, np.ndarray] | None = None
) -> TrainingState:
    """Returns the state before the first epoch of a task, with drawn weights or those given."""

    def network() -> nn.Module:
        built = build_network(task.name, task.network, task.around)
        if weights is not None:
            built.load_state_dict({name: torch.from_numpy(one) for name, one in weights.items()})
        return built

    return TrainingState.start(network, task.config, device)


def training(
    task: CityTask, state: TrainingState, computing: Computing, **means: Any
) -> Iterator[Event]:
    """Trains by a task from a state on and yields its progress; `means` are those of `fit`."""
    validate = task.error if len(task.init_times) else None
    weight = task.weight(state.device)
    return fit(state, task.feed(state.device), validate, computing, weight=weight, **means)


def chosen(state: TrainingState) -> nn.Module:
    """Returns the network of a finished fit with the weights that were chosen."""
    state.network.load_state_dict(state.best)
    return state.network


def network_for(city: City, name: str, config: TrainingConfig) -> NetworkConfig:
    """Returns the quick size of the network `name` for the city's grid and windows.

    Raises:
        FlowcastError: there is no such network.
    """
    frames = Frames(
        channels=2,
        grid=city.grid,
        history=config.history,
        horizon=config.horizon,
        output="identity",
        day=city.slots_per_day,
    )
    return entry_of(name).config.quick(frames)
