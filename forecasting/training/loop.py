"""Training: epochs over the windows of a feed; all chance in them follows from the seed.

The loss is a mean over all that the network puts out, the paper's the squared error; of a
recurrent one these are `history - 1 + horizon` frames, one step ahead each.
"""

import math
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from data.errors import FlowcastError
from forecasting.training.batches import WindowSource
from forecasting.training.budget import Budget
from forecasting.training.distributed import Group
from forecasting.training.hardware import Computing, prepared
from forecasting.training.interrupt import Stopped, breaking_off
from forecasting.training.progress import Progress
from forecasting.training.state import Epoch, TrainingConfig, TrainingState
from forecasting.training.step import Step

SECONDS_BETWEEN_MARKS = 300.0


@dataclass(frozen=True)
class Batch:
    """Progress within an epoch: `done` of `planned` windows, the loss so far, seconds left in all.

    On a GPU the loss is that of some steps before.
    """

    epoch: int
    epochs: int
    done: int
    planned: int
    loss: float
    seconds_left: float


@dataclass(frozen=True)
class CheckpointDue:
    """A moment within an epoch at which a checkpoint is worth writing: now and then, and at an end.

    Attributes:
        epoch: the running one.
        step: steps of it that were made.
        steps: that it has.
    """

    epoch: int
    step: int
    steps: int


@dataclass(frozen=True)
class BatchSplit:
    """The GPU lacked memory: at most `windows` of a batch of `batch` go through the network at once."""

    windows: int
    batch: int


Event = Batch | Epoch | CheckpointDue | BatchSplit


class NotFinite(FlowcastError):
    """A loss, a gradient or a validation error was no number."""


def fit(
    state: TrainingState,
    feed: WindowSource,
    validate: Callable[[nn.Module], float] | None,
    computing: Computing | None = None,
    *,
    group: Group | None = None,
    stop: threading.Event | None = None,
    weight: Tensor | None = None,
    timer: Callable[[], float] = time.monotonic,
) -> Iterator[Event]:
    """Trains and yields each batch and each finished epoch.

    On the CPU what follows a checkpoint, of an epoch or within it, is bit for bit that of an
    uninterrupted run, for all chance in a step follows from the seed and the step's place.

    Args:
        state: changed in place; it may come from `load_checkpoint`.
        feed: windows of scaled frames on the network's device.
        validate: error of the network on days that it is not trained on; float32 throughout. None
            where there are none: the newest weights are the best then.
        computing: how; in float32 and not compiled if None. Its device is the network's.
        group: the processes that train together, this one alone if None.
        stop: once set, the training ends after the step at hand, or within a validation.
        weight: that errors are multiplied by before the loss, `(c, y, x)` on the network's device;
            None for 1.
        timer: seconds by which the minutes of the training are counted; `time.process_time` of one thread
            does not count other work on the machine.

    Raises:
        NotFinite: the loss or the validation error is no longer finite. What came before is kept.
        FlowcastError: a single window does not fit into the memory of the GPU.
    """
    computing, group = computing or Computing(), group or Group()
    budget = Budget(state, group.size > 1, timer)
    with prepared(state.network, computing):
        step = Step(state, computing, group, len(feed), weight)
        while budget.another():
            whole = yield from _epoch(step, feed, budget, stop)
            if not whole or not (yield from _judged(step, validate, budget, stop)):
                return


def is_finished(state: TrainingState) -> bool:
    """Returns whether no further epoch is planned."""
    return not Budget(state).another()


def _epoch(
    step: Step, feed: WindowSource, budget: Budget, stop: threading.Event | None
) -> Generator[Event, None, bool]:
    """Trains what is left of an epoch; returns whether it is whole and not stopped."""
    state, size = step.state, step.state.config.batch
    batches = _order(state, len(feed)).split(size)
    progress = Progress(step)
    done, marked = progress.steps, time.monotonic()
    state.network.train()
    while done < len(batches) and not (done and budget.over()):
        if progress.stopping(stop):
            if stop is not None:
                stop.set()  # another process may have been told
            yield _mark(step, progress, len(batches))
            return False
        step.tell(stop is not None and stop.is_set(), budget.own())
        micro = step.micro
        rate = state.config.learning_rate * budget.rate(size * done / len(feed))
        _make(step, feed, batches[done], done, rate)
        if step.micro < micro:
            yield BatchSplit(step.micro, len(batches[done]))
        done += 1
        progress.look(done)
        yield from _checked(step, progress, len(batches))
        budget.set(progress.clock)
        state.seconds = budget.running()
        yield _batch(state, budget, progress, min(done * size, len(feed)), len(feed))
        if time.monotonic() - marked > SECONDS_BETWEEN_MARKS:
            marked = time.monotonic()
            progress.settle()
            yield from _checked(step, progress, len(batches))
            yield _mark(step, progress, len(batches))
    progress.settle()
    yield from _checked(step, progress, len(batches))
    return True


def _checked(step: Step, progress: Progress, steps: int) -> Iterator[CheckpointDue]:
    """Ends a training whose figures are not finite, with what came before."""
    if progress.bad:
        yield _mark(step, progress, steps)
        number = step.state.number
        what = f"loss of epoch {number} or its gradient at step {progress.steps + 1} of {steps}"
        kept = "; the weights before that step are kept"
        raise NotFinite(_not_finite(what, step.state.config, kept))


def _make(step: Step, feed: WindowSource, index: Tensor, number: int, rate: float) -> None:
    """Makes the step on this process's part of a batch."""
    state = step.state
    mine, share = step.group.part(index)
    # Chance is anew at each step, so that a training goes on from any of them.
    place = (state.config.seed, state.number, number, step.group.rank)
    torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> 1))
    step(feed.take(mine), share, rate)


def _order(state: TrainingState, windows: int) -> Tensor:
    """Returns the order of the windows in the running epoch, the same on all devices."""
    place = np.random.SeedSequence((state.config.seed, state.number))
    generator = torch.Generator().manual_seed(int(place.generate_state(1, np.uint64)[0] >> 1))
    return torch.randperm(windows, generator=generator).to(state.device)


def _batch(
    state: TrainingState, budget: Budget, progress: Progress, seen: int, windows: int
) -> Batch:
    share = seen / windows
    return Batch(
        state.number, budget.epochs(share), seen, windows, progress.loss, budget.left(share)
    )


def _mark(step: Step, progress: Progress, steps: int) -> CheckpointDue:
    progress.settle()
    return CheckpointDue(step.state.number, progress.steps, steps)


def _judged(
    step: Step,
    validate: Callable[[nn.Module], float] | None,
    budget: Budget,
    stop: threading.Event | None,
) -> Generator[Event, None, bool]:
    """Ends an epoch by validating it; returns False where that was stopped."""
    state, number = step.state, step.state.number
    error: float | None = None
    with _averaged(state), step.uncompiled():
        if validate is not None:
            error = _validation(step, validate, stop)
        best = validate is None or _is_best(state, error)
        if best:
            state.best = {
                name: value.detach().cpu().clone()
                for name, value in state.network.state_dict().items()
            }
    if validate is not None and error is None:
        yield CheckpointDue(number, state.step, state.step)
        return False
    if error is not None and not math.isfinite(error):
        raise NotFinite(_not_finite(f"validation error after epoch {number}", state.config))
    (seconds,) = step.group.told([budget.own()])
    budget.set(seconds)
    loss = float(state.sums[0] / state.sums[1])
    state.history.append(Epoch(number, loss, error, best, budget.seconds()))
    state.sums.zero_()
    state.seconds = 0.0
    yield state.history[-1]
    return True


def _validation(
    step: Step, validate: Callable[[nn.Module], float], stop: threading.Event | None
) -> float | None:
    """Returns the validation error, which one process finds for all; None where it was stopped."""
    error, stopped = math.nan, False
    if step.group.first:
        try:
            with breaking_off(step.state.network, stop):
                error = validate(step.state.network)
        except Stopped:
            stopped = True
    error, halted = step.group.told([error, float(stopped)])
    if halted and stop is not None:
        stop.set()  # another process may have been told
    return None if halted else error


def _is_best(state: TrainingState, error: float | None) -> bool:
    """Returns whether an error is below those of all epochs before."""
    if error is None or not math.isfinite(error):
        return False
    return all(epoch.validation is None or error < epoch.validation for epoch in state.history)


@contextmanager
def _averaged(state: TrainingState) -> Iterator[None]:
    """Puts the moving averages in the place of the weights for a while, where there are any."""
    parameters = [value.detach() for value in state.network.parameters()] if state.average else []
    newest = [value.clone() for value in parameters]
    for value, average in zip(parameters, state.average, strict=True):
        value.copy_(average)
    try:
        yield
    finally:
        for value, own in zip(parameters, newest, strict=True):
            value.copy_(own)


def _not_finite(what: str, config: TrainingConfig, kept: str = "") -> str:
    return (
        f"the {what} is not finite{kept}; train again with a lower learning rate than "
        f"{config.learning_rate:g} (--learning-rate, or --set training.learning_rate=X)"
    )
