"""Fitting: how a city's forecaster is trained, fit by fit.

Epochs are chosen by the validation days; then the networks that serve are trained anew on these days
too, for as many epochs as were found. Several members, which differ in their seed, make one forecaster.
Where windows are many, a final fit would learn next to nothing new: its time goes to a second kind of
networks, which see frames of the flow alone and forecast the flow itself. Both kinds err differently.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from data import windows
from data.city import City
from data.errors import FlowcastError
from data.flow import Split
from forecasting.city.task import Lesson
from forecasting.city.trees import Grove, Growing, grow, share_of, share_of_trees
from forecasting.covariates.covariates import MANY as MANY_WINDOWS
from forecasting.covariates.covariates import PLAIN, ContextConfig
from forecasting.ensemble import NeuralForecaster
from forecasting.networks import NETWORKS
from forecasting.networks.base import Frames, NetworkConfig
from forecasting.rollout.torch_rollout import build_network
from forecasting.training.budget import Clock
from forecasting.training.hardware import Computing, pick_device
from forecasting.training.loop import Event, fit
from forecasting.training.state import TrainingConfig, TrainingState
from forecasting.trees import forecaster as trees

DEFAULT = "swinlstm-b"
USUAL = TrainingConfig(epochs=6, batch=32, average=0.99, loss="huber", patience=3)
"""How networks of cities are trained unless something else is asked for."""
FEWEST, ENOUGH = 2, 400_000
"""Epochs that a fit has at least, and windows that it sees in all after which it has no more of them."""
LEAST, MOST_EPOCHS = 16_000, 60
"""Windows that a fit of few weeks sees in all, and epochs that it has for it at most."""
LONG, OTHERS = 6, 10
"""Epochs of SwinLSTM and of other networks where windows are many. A validation week asks for more of
SwinLSTM, but days like none before are forecast worse after them. Networks on frames alone, which have more
to learn, have a third more."""
TIME_FOR_TREES, GROWN_IN = 5.0, 2.0
"""Minutes of a budget from which on trees are grown too, and how many of them they take."""
MEMBERS, OF_MANY, MANY = 3, 2, 150_000
"""Members, and where windows are many of each kind: one if all would see more than so many in an epoch."""


@dataclass(frozen=True)
class Recipe:
    """What a city's forecaster is made by.

    Attributes:
        network: key in `NETWORKS`; it is built in its quick size.
        context: what the network is shown. None: what pays with the number of windows that there are,
            `without` some parts, `also` with others, and those `swapped` the other way.
        training: of each fit; its `minutes` are for all of them together.
        members: networks of each kind, whose mean is the forecast; their seeds follow one another. None:
            by the number of windows that there are.
        epochs: of each fit, at most, a third more on frames alone. None: by the number of windows; those
            of `training` where they are neither few nor many.
        final: whether what serves is trained on the validation days too. None: where windows are few.
        until: newest slot that is known, ISO 8601, UTC; "" for all that is stored.
        held: days at the end that no fit sees; None: the city's test days.
        start: version whose weights the fits begin with where they fit; "" for none.
        trees: whether trees have a share in the forecast. None: where scikit-learn is installed and there
            are `TIME_FOR_TREES` minutes or more.
        plain: whether networks that see frames of the flow alone have a share in the forecast. None:
            where windows are many.
        optimizer: key in `OPTIMIZERS`, for the training's. None: Muon where windows are many.
    """

    network: str = DEFAULT
    context: ContextConfig | None = None
    training: TrainingConfig = USUAL
    members: int | None = None
    final: bool | None = None
    epochs: int | None = None
    without: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    swapped: tuple[str, ...] = ()
    until: str = ""
    held: int | None = None
    start: str = ""
    trees: bool | None = None
    plain: bool | None = None
    optimizer: str | None = None

    def __post_init__(self) -> None:
        ContextConfig().changed(without=self.without, also=(*self.also, *self.swapped))
        if both := sorted({*self.without} & {*self.also}):
            raise ValueError(f"{both[0]!r} cannot be switched off and on at once")
        if self.members is not None and self.members < 1:
            raise ValueError(f"{self.members} members are less than 1")

    def settled(self, count: int) -> "Recipe":
        """Returns the recipe with all that follows from a number of windows to train on.

        With many windows members differ less, and each takes longer.
        """
        many = count >= MANY_WINDOWS
        few = max(self.training.epochs, min(-(-LEAST // count), MOST_EPOCHS))
        long = LONG if self.network.startswith("swinlstm") else OTHERS
        most = max(self.training.epochs, long) if many else few
        paying = min(max(FEWEST, -(-ENOUGH // count)), most)
        epochs = self.epochs or paying
        optimizer = self.optimizer or ("muon" if many else USUAL.optimizer)
        training = replace(self.training, epochs=epochs, optimizer=optimizer)
        usual = ContextConfig.usual(count).changed(without=self.without, also=self.also)
        other = {name: not getattr(usual, name) for name in self.swapped}
        context = self.context or replace(usual, **other)
        plain = (many if self.plain is None else self.plain) and context != PLAIN
        each = OF_MANY if many else MEMBERS
        members = self.members or (each if count * (1 + plain) * each <= MANY else 1)
        grown, minutes = self.trees, self.training.minutes
        if grown is None:
            grown = trees.installed() and (minutes is None or minutes >= TIME_FOR_TREES)
        return replace(
            self,
            context=context,
            training=training,
            members=members,
            epochs=epochs,
            trees=grown,
            plain=plain,
            optimizer=optimizer,
            final=not many if self.final is None else self.final,
        )

    @classmethod
    def asked(
        cls,
        *,
        network: str | None = None,
        without: Sequence[str] = (),
        also: Sequence[str] = (),
        members: int | None = None,
        final: bool | None = None,
        epochs: int | None = None,
        trees: bool | None = None,
        plain: bool | None = None,
        optimizer: str | None = None,
        **training: Any,
    ) -> "Recipe":
        """Returns the usual recipe but for what is asked for; None asks for nothing.

        Args:
            network: key in `NETWORKS`.
            without: usual parts of the context that are switched off.
            also: parts that are switched on.
            members: networks of each kind.
            epochs: of each fit, a third more on frames alone.
            final: whether what serves is trained on the validation days too.
            trees: whether trees have a share in the forecast.
            plain: whether networks on frames alone have one.
            optimizer: key in `OPTIMIZERS`.
            training: fields of `TrainingConfig`.

        Raises:
            ValueError: what is asked for does not go together.
        """
        changes = {name: value for name, value in training.items() if value is not None}
        return cls(
            network or DEFAULT,
            training=replace(USUAL, **changes),
            members=members,
            final=final,
            epochs=epochs,
            without=tuple(without),
            also=tuple(also),
            trees=trees,
            plain=plain,
            optimizer=optimizer,
        )

    @classmethod
    def of(cls, fields: dict[str, Any]) -> "Recipe":
        """Returns the recipe of fields as `asdict` gives them and JSON holds them."""
        context = fields["context"] and ContextConfig(**fields["context"])
        training = TrainingConfig(**fields["training"])
        names = {key: tuple(fields[key]) for key in ("without", "also", "swapped")}
        # Recipes from before there was a choice had the first of each.
        own = {"plain": False, "optimizer": "adamw", **fields, **names}
        own |= {"context": context, "training": training}
        return cls(**own)


@dataclass(frozen=True)
class Course:
    """The fits of a training: one to choose the epochs for every member, and a final one.

    The members of the first kind come first, those that see frames alone behind them.

    Attributes:
        recipe: of the training.
        lesson: of the training days, judged by the validation days.
        plain: the same for networks that see frames alone; None where there are none.
    """

    recipe: Recipe
    lesson: Lesson
    plain: Lesson | None = None

    @classmethod
    def prepare(
        cls, parts: Split, city: City, recipe: Recipe, weather: xr.DataArray | None = None
    ) -> "Course":
        """Returns the course for the first two parts of a flow.

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
        settled = recipe.settled(max(whole, 1))
        if settled.trees:
            trees.version()  # before anything is trained
        lesson = Lesson.prepare(
            parts, recipe.network, network, settled.training, settled.context, weather
        )
        return cls(settled, lesson, lesson.alone() if settled.plain else None)

    @property
    def each(self) -> int:
        """How many networks there are of each kind."""
        return self.recipe.members or 1

    @property
    def members(self) -> int:
        """How many networks make the forecast."""
        return self.each * (1 if self.plain is None else 2)

    def of(self, member: int) -> Lesson:
        """Returns the lesson of the member's kind."""
        return self.lesson if self.plain is None or member < self.each else self.plain

    @property
    def fits(self) -> int:
        """How many fits there are."""
        return self.members * (2 if self.recipe.final else 1)

    def selection(self, member: int) -> Lesson:
        """Returns the lesson by which the epochs of a member are chosen."""
        config = self.recipe.training
        minutes = config.minutes
        if minutes is not None:
            minutes -= min(GROWN_IN, minutes / 2) if self.recipe.trees else 0.0
            longer = self.lesson.known.sizes["time"] / self.lesson.train.sizes["time"]
            minutes /= self.members * (1 + (longer if self.recipe.final else 0))
        seed, epochs = config.seed + member % self.each, self.epochs(member, config.epochs)
        own = replace(config, seed=seed, minutes=minutes, epochs=epochs)
        return replace(self.of(member), config=own)

    def epochs(self, member: int, usual: int) -> int:
        """Returns the epochs of a member where those in context have the `usual` ones."""
        return usual + usual // 3 if self.of(member) is self.plain else usual

    def grow(self, stop: threading.Event | None = None) -> Iterator[Growing | Grove]:
        """Grows the trees of a recipe with trees; see `growing.grow`."""
        return grow(self.lesson, self._whole if self.recipe.final else None, stop)

    def final(self, member: int, selected: TrainingState) -> Lesson:
        """Returns the lesson of the member that serves, after the epochs that were found."""
        found = max(epoch.number for epoch in selected.history if epoch.best)
        # A clock that stands: all processes, and a resumed training, must plan the same.
        planned = max(Clock(selected, shared=True).epochs(), len(selected.history))
        seed = self.recipe.training.seed + member % self.each
        own = replace(
            selected.config, seed=seed, epochs=planned, minutes=None, patience=0, last=found
        )
        whole = self._whole if self.of(member) is self.lesson else self._plain_whole
        return replace(whole, config=own)

    @cached_property
    def _whole(self) -> Lesson:
        return self.lesson.final()

    @cached_property
    def _plain_whole(self) -> Lesson:
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
        FlowcastError: as `Course.prepare`, or the training comes to no finite end.
    """
    course = Course.prepare(parts, city, recipe, weather)
    recipe, each = course.recipe, course.each
    computing = computing or Computing()
    states: dict[bool, list[TrainingState]] = {False: [], True: []}
    lessons: dict[tuple[bool, bool], Lesson] = {}
    for member in range(course.members):
        for last in (False, True) if recipe.final else (False,):
            lesson = course.final(member, states[False][-1]) if last else course.selection(member)
            state = begin(lesson, pick_device(computing.device))
            for _ in training(lesson, state, computing, timer=timer):
                pass
            states[last].append(state)
            lessons[last, member >= each] = lesson

    def networks(last: bool, plain: bool) -> NeuralForecaster:
        fits = states[last][each:] if plain else states[last][:each]
        return lessons[last, plain].forecaster(*map(chosen, fits))

    end = bool(recipe.final)
    selected = networks(False, plain=False)
    served = networks(True, plain=False) if end else selected
    if recipe.trees:
        *_, grove = course.grow()
        assert isinstance(grove, Grove)
        share = share_of_trees(course.lesson, selected, grove.selected)
        selected = selected.with_trees(grove.selected, share)
        served = served.with_trees(grove.final, share)
    if course.plain is not None:
        alone = networks(False, plain=True)
        share = share_of(course.lesson, selected, alone)
        selected = selected.with_plain(alone, share)
        served = served.with_plain(networks(end, plain=True), share)
    ends = states[end]
    epochs = tuple(max(one.number for one in state.history if one.best) for state in ends)
    seconds = sum(state.history[-1].seconds for kind in states.values() for state in kind)
    return Fitted(served, selected, epochs, seconds)


def begin(
    lesson: Lesson, device: torch.device, weights: Mapping[str, np.ndarray] | None = None
) -> TrainingState:
    """Returns the state before the first epoch of a lesson, with drawn weights or those given."""

    def network() -> nn.Module:
        built = build_network(lesson.name, lesson.network, lesson.around)
        if weights is not None:
            built.load_state_dict({name: torch.from_numpy(one) for name, one in weights.items()})
        return built

    return TrainingState.start(network, lesson.config, device)


def training(
    lesson: Lesson, state: TrainingState, computing: Computing, **means: Any
) -> Iterator[Event]:
    """Trains by a lesson from a state on and yields its progress; `means` are those of `fit`."""
    validate = lesson.error if len(lesson.init_times) else None
    weight = lesson.weight(state.device)
    return fit(state, lesson.feed(state.device), validate, computing, weight=weight, **means)


def chosen(state: TrainingState) -> nn.Module:
    """Returns the network of a finished fit with the weights that were chosen."""
    state.network.load_state_dict(state.best)
    return state.network


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
