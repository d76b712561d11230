"""Progress on stderr: a bar on a terminal, a line every few seconds elsewhere."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from forecasting.training import Batch, Epoch
from pipelines.train import Progress, Trained

ERR = Console(stderr=True, highlight=False, soft_wrap=True)
SECONDS_BETWEEN_LINES = 10


def show_training(events: Iterator[Progress | Trained]) -> Trained:
    """Shows epoch, losses and time left while training goes on; returns its result."""
    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[status]}"),
        console=ERR,
        transient=True,
        disable=not ERR.is_terminal,
    )
    spoken = time.monotonic()
    with bar:
        task = bar.add_task("preparing", total=None, status="")
        for event in events:
            match event:
                case Trained():
                    return event
                case Epoch():
                    star = ", the best so far" if event.best else ""
                    ERR.print(
                        f"epoch {event.number}: training loss {event.loss:.4f}, "
                        f"validation RMSE {event.validation:.2f} vehicles{star} "
                        f"({duration(event.seconds)} so far)"
                    )
                case Batch():
                    status = f"loss {event.loss:.4f}, {duration(event.seconds_left)} left"
                    description = f"epoch {event.epoch}/{event.epochs}"
                    bar.update(
                        task,
                        description=description,
                        status=status,
                        completed=event.done,
                        total=event.planned,
                    )
                    if not ERR.is_terminal and time.monotonic() - spoken > SECONDS_BETWEEN_LINES:
                        spoken = time.monotonic()
                        share = 100 * event.done / event.planned
                        ERR.print(f"{description}, {share:.0f} %: {status}")
    raise AssertionError("a training ends with its result")


@contextmanager
def stopping_on_interrupt() -> Iterator[threading.Event]:
    """Gives an event that the first Ctrl-C sets; the second one ends the process as usual."""
    stop = threading.Event()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop.set()
        ERR.print("stopping after this batch; Ctrl-C again ends at once")

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def duration(seconds: float) -> str:
    """Returns seconds as `1 h 02 min`, `3 min 20 s` or `12 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
