"""Progress on stderr: a bar on a terminal, a line every few seconds elsewhere."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from app.terminal import ERR
from data.clock import duration
from forecasting.city.trees import TreesProgress
from forecasting.training.interrupt import Stop
from forecasting.training.loop import Batch, BatchSplit, CheckpointDue, Event
from forecasting.training.state import Epoch
from pipelines.benchmark.experiments import Outcome, RunStarted
from pipelines.benchmark.result import Finished
from pipelines.train.city import FitStarted, TrainingEvent
from pipelines.train.version import Trained

SECONDS_BETWEEN_LINES = 10
FITS = {
    "selection": "the validation days choose the epochs",
    "final": "refit on train + validation",
}


def show_training(events: Iterator[TrainingEvent | Trained]) -> Trained | None:
    """Shows epoch, losses and time left of a training; returns its result, which one process has."""
    for event in _shown(events, lambda error: f"validation RMSE {error:.2f} vehicles"):
        match event:
            case Trained():
                return event
            case FitStarted():
                raw = "a network without covariates; " if event.raw else ""
                ERR.print(
                    f"fit {event.number} of {event.count}: {raw}{FITS[event.kind]} (seed {event.seed})"
                )
            case TreesProgress(done=1):
                ERR.print(f"fitting trees in {event.count} parts")
    return None


def show_benchmark(events: Iterator[Event | Finished]) -> Finished:
    """Shows how a run of the benchmark goes on; returns the run once it is done."""
    for event in _shown(events, lambda error: f"validation MSE {error:.2f}"):
        if isinstance(event, Finished):
            return event
    raise AssertionError("a run ends with its result")


def show_experiment(events: Iterator[RunStarted | Event | Finished | Outcome]) -> Outcome:
    """Shows how an experiment goes on; returns its outcome."""
    for event in _shown(events, lambda error: f"validation MSE {error:.2f}"):
        match event:
            case Outcome():
                return event
            case RunStarted():
                ERR.print(f"run {event.number} of {event.count}: {event.label}", markup=False)
            case Finished():
                error = event.result["scores"]["mse"]["all"]
                ERR.print(f"  MSE {error:.3f} on the test part: {event.folder}", markup=False)
    raise AssertionError("an experiment ends with its outcome")


def _shown(events: Iterator[Any], describe: Callable[[float], str]) -> Iterator[Any]:
    """Shows batches and epochs and passes all other events on; `describe` words a validation error."""
    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[status]}"),
        console=ERR,
        transient=True,
        disable=ERR.quiet or not ERR.is_terminal,
    )
    printed = time.monotonic()
    with bar:
        task = bar.add_task("preparing", total=None, status="")
        for event in events:
            match event:
                case Epoch():
                    star = ", the best so far" if event.best else ""
                    error = (
                        "" if event.validation is None else f", {describe(event.validation)}{star}"
                    )
                    ERR.print(
                        f"epoch {event.number}: training loss {event.loss:.4g}{error} "
                        f"({duration(event.seconds)} so far)"
                    )
                case Batch():
                    status = f"loss {event.loss:.4g}, {duration(event.seconds_left)} left"
                    description = f"epoch {event.epoch}/{event.epochs}"
                    bar.update(
                        task,
                        description=description,
                        status=status,
                        completed=event.done,
                        total=event.planned,
                    )
                    if not ERR.is_terminal and time.monotonic() - printed > SECONDS_BETWEEN_LINES:
                        printed = time.monotonic()
                        percent = 100 * event.done / event.planned
                        ERR.print(f"{description}, {percent:.0f} %: {status}")
                case BatchSplit():
                    ERR.print(
                        f"out of memory: from now on {event.windows} of the {event.batch} windows of a batch "
                        f"are computed at once"
                    )
                case CheckpointDue():
                    pass
                case _:
                    yield event


@contextmanager
def stopping_on_interrupt() -> Iterator[Stop]:
    """Gives a stop that the first Ctrl-C sets; the second one ends the process as usual.

    SIGTERM sets it too and leaves time for no more than to save.
    """
    stop = Stop()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop.set()
        ERR.print("stopping after this batch; press Ctrl-C again to stop at once")

    def on_termination(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if not stop.heeded:
            ERR.print("ended by SIGTERM; continue from the last checkpoint with --resume")
        stop.hurry()

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, on_interrupt),
        signal.SIGTERM: signal.signal(signal.SIGTERM, on_termination),
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
