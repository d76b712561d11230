"""Training of a city: stored flow -> covariates, windows -> networks and trees -> a judged version."""

import threading
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from data.city import City
from data.errors import FlowcastError, NotNowError
from data.flow import split
from data.store.store import Store
from forecasting.city.fit import FitPlan, begin, training
from forecasting.city.recipe import Recipe
from forecasting.city.task import CityTask
from forecasting.city.trees import FittedTrees, TreesProgress
from forecasting.training.checkpoint import save_checkpoint
from forecasting.training.distributed import Group
from forecasting.training.hardware import Computing, pick_device
from forecasting.training.interrupt import Stop, heeded
from forecasting.training.loop import CheckpointDue, Event, NotFinite, is_finished
from forecasting.training.state import Epoch, TrainingState
from pipelines.train.checkpoints import (
    alone,
    checkpoint_of,
    clear,
    extended,
    facts_of,
    is_written,
    read_recipe,
    read_unfinished,
)
from pipelines.train.export import SERVED
from pipelines.train.version import (
    FitResults,
    Trained,
    save_and_judge,
    save_candidate,
    starting_weights,
)


@dataclass(frozen=True)
class FitStarted:
    """A fit begins.

    Attributes:
        number: from 1.
        count: of all fits.
        kind: `selection` or `final`.
        seed: of the member.
        raw: whether it is of a network of the raw ensemble.
    """

    number: int
    count: int
    kind: str
    seed: int
    raw: bool = False


TrainingEvent = Event | FitStarted | TreesProgress


@dataclass(frozen=True)
class RunOptions:
    """What a training of a city runs by, as against what it makes.

    Attributes:
        computing: device and precision.
        serve: precision that the version is to serve in, `float32` or `int8`.
        group: the processes that train together.
        stop: once set, training ends after the step at hand with the best epoch so far.
        promote: whether the version may become the champion by the validation days alone.
    """

    computing: Computing = field(default_factory=Computing)
    serve: str = "float32"
    group: Group = field(default_factory=Group)
    stop: threading.Event | None = None
    promote: bool = True

    def __post_init__(self) -> None:
        if self.serve not in SERVED:
            raise ValueError(f"serve {self.serve!r} is none of {', '.join(SERVED)}")


def train(
    store: Store, city: City, recipe: Recipe, *, options: RunOptions | None = None
) -> Iterator[TrainingEvent | Trained]:
    """Trains a forecaster for the city and yields its progress, at the end the version made.

    Every finished epoch is kept in a checkpoint, and now and then what is done of the running one;
    from it `resume` goes on. Of several processes the first one writes, and alone yields the version.

    Args:
        store: with the flow, and where a promotion is kept.
        city: that is trained for.
        recipe: of the training.
        options: by which it is trained.

    Raises:
        FlowcastError: there is no such network, too little flow, another training of the city is
            under way, the device is missing, or training was stopped before an epoch was done.
    """
    options = options or RunOptions()
    with alone(city) if options.group.first else nullcontext():
        place = pick_device(options.computing.device)
        plan = _plan(store, city, recipe)
        if options.group.first:
            clear(city)
        yield from _Run(store, city, plan, options, place).made({})


def resume(
    store: Store,
    city: City,
    *,
    epochs: int | None = None,
    minutes: float | None = None,
    options: RunOptions | None = None,
) -> Iterator[TrainingEvent | Trained]:
    """Goes on with the city's last training from where it was last kept, as `train` does.

    On the CPU the result is bit for bit that of a training that was never interrupted. `epochs` in
    all, or `minutes` more, take the place of what was planned for choosing the epochs; what is final
    is trained anew where that changes it.

    Raises:
        FlowcastError: as `train`, or there is nothing to go on with, or the flow has changed since.
    """
    options = options or RunOptions()
    with alone(city) if options.group.first else nullcontext():
        place = pick_device(options.computing.device)
        plan = _plan(store, city, read_recipe(city))
        saved = read_unfinished(city, plan, place)
        for name, state in saved.items():
            kind, _, member = name.partition("-")
            if kind == "selection":
                more = epochs and plan.epochs(int(member), epochs)
                state.config = extended(state, more, minutes, plan.fits)
        states = list(saved.values())
        if len(states) == plan.fits and all(map(is_finished, states)) and is_written(city, saved):
            raise FlowcastError(
                f"the last training of {city.name} is done with all of its {len(states[0].history)} "
                f"epochs; for more of them add --epochs N or --minutes M, or train anew without --resume"
            )
        yield from _Run(store, city, plan, options, place).made(saved)


def _plan(store: Store, city: City, recipe: Recipe) -> FitPlan:
    until = np.datetime64(recipe.until) if recipe.until else None
    weather = store.weather.read(city, last=until)
    held = city.test_days if recipe.holdout_days is None else recipe.holdout_days
    parts = split(store.flow.read(city, last=until), replace(city, test_days=held))
    return FitPlan.prepare(parts, city, recipe, weather if weather.size else None)


@dataclass(frozen=True)
class _Run:
    """A training under way.

    Attributes:
        store: where a promotion is kept.
        city: that is trained for.
        plan: of fits.
        options: by which it is trained.
        device: that it is trained on.
    """

    store: Store
    city: City
    plan: FitPlan
    options: RunOptions
    device: torch.device

    def made(self, saved: dict[str, TrainingState]) -> Iterator[TrainingEvent | Trained]:
        """Makes all fits, going on with those that are saved, and then a version of them."""
        recipe, each, count = self.plan.recipe, self.plan.each, self.plan.members
        selected: list[TrainingState] = []
        final: list[TrainingState] = []
        for member in range(self.plan.members):
            task = self.plan.selection(member)
            state = saved.get(f"selection-{member}") or self._begin(task, member)
            if not (yield from self._fit("selection", member, task, state)):
                del selected[each:]
                count = each
                break
            if state.history:
                selected.append(state)
            if self._stopped():
                break
        if recipe.refit and not self._stopped():
            for member, state in enumerate([*selected]):
                task = self.plan.final(member, state)
                kept = saved.get(f"final-{member}")
                same = kept is not None and kept.config == task.config
                whole = kept if kept and same else self._begin(task, member)
                if not (yield from self._fit("final", member, task, whole)):
                    del selected[each:], final[each:]
                    count = each
                    break
                if not is_finished(whole):
                    break
                final.append(whole)
        if not self.options.group.first:
            return
        complete = len(selected) == count and (not recipe.refit or len(final) == count)
        # Where minutes ran out as planned nothing was stopped.
        stopped = not complete or (self._stopped() and not all(map(is_finished, selected)))
        grown: FittedTrees | None = None
        if self.plan.recipe.trees and not stopped:
            for event in self.plan.grow(self.options.stop):
                if isinstance(event, FittedTrees):
                    grown = event
                else:
                    yield event
            stopped = grown is None
            self._check_hurried("the trees")
        fits = FitResults(self.plan, selected, final if complete else [], grown)
        keep = save_and_judge if self.options.promote else save_candidate
        yield keep(self.store, self.city, fits, self.options.serve, stopped)

    def _begin(self, task: CityTask, member: int) -> TrainingState:
        """Returns the state before the first epoch, with the weights that the recipe begins with."""
        version = self.plan.recipe.warm_start
        weights = starting_weights(self.city, version, member, task) if version else None
        return begin(task, self.device, weights)

    def _fit(
        self, kind: str, member: int, task: CityTask, state: TrainingState
    ) -> Generator[TrainingEvent, None, bool]:
        """Makes one fit to the end of its plan or until it is stopped.

        Returns whether it can serve; only of the second kind, without which the first one serves, may a fit
        come to no finite end.
        """
        number = member + 1 + (self.plan.members if kind == "final" else 0)
        plain = member >= self.plan.each
        yield FitStarted(number, self.plan.fits, kind, task.config.seed, plain)
        facts = facts_of(self.plan, task)
        options, path = self.options, checkpoint_of(self.city, f"{kind}-{member}")
        events = training(task, state, options.computing, group=options.group, stop=options.stop)
        try:
            for event in heeded(_with_way_out(events, self.city, state), options.stop):
                if isinstance(event, Epoch | CheckpointDue) and options.group.first:
                    save_checkpoint(path, state, facts)
                yield event
        except NotFinite:
            if not plain:
                raise
            return False
        self._check_ended(state, number)
        return True

    def _check_hurried(self, place: str) -> None:
        """Ends without a version where there is no time to make one; what was trained is kept."""
        if (
            self.options.group.first
            and isinstance(self.options.stop, Stop)
            and self.options.stop.hurried
        ):
            raise NotNowError(
                f"training was ended in {place}, which is kept; to go on: "
                f"forecast train --city {self.city.name} --resume"
            )

    def _stopped(self) -> bool:
        return self.options.stop is not None and self.options.stop.is_set()

    def _check_ended(self, state: TrainingState, number: int) -> None:
        """Refuses to make a version where there is no time for it, or nothing to make it of."""
        if not self.options.group.first:
            return
        again = f"forecast train --city {self.city.name} --resume"
        self._check_hurried(f"epoch {state.number}, at step {state.step}, of fit {number}")
        if not state.history and number == 1:
            raise FlowcastError(
                f"training was stopped before its first epoch was done, at step {state.step}, which is "
                f"kept; to go on: {again}"
            )


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
