"""The trainer: a training as a process of its own, alone or as one of those that `torchrun` starts."""

import logging
import signal
import time
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Iterator, Sequence

from data.city import load_city
from data.errors import FlowcastError
from data.store.store import Store
from forecasting.city.recipe import Recipe
from forecasting.city.trees import TreesProgress
from forecasting.training.distributed import joined
from forecasting.training.hardware import PRECISIONS, Computing
from forecasting.training.interrupt import Stop
from forecasting.training.loop import Batch, BatchSplit
from forecasting.training.state import Epoch
from pipelines.train.city import FitStarted, RunOptions, TrainingEvent, resume, train
from pipelines.train.export import SERVED
from pipelines.train.version import Trained

SECONDS_BETWEEN_LINES = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains by `python -m pipelines.train.city`, alone or as one of the processes of `torchrun`."""
    asked = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    stop = Stop()
    before = signal.signal(signal.SIGTERM, lambda number, frame: stop.hurry())
    try:
        with joined(asked.device) as (group, place):
            computing = Computing(place.type, asked.precision, asked.compile, asked.recompute)
            options = RunOptions(computing, asked.serve, group, stop)
            _tell(_events(asked, options), silent=not group.first)
    except FlowcastError as error:
        logging.error("error: %s", error)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m pipelines.train.city", description="Trains a city's network."
    )
    parser.add_argument("--city", required=True)
    parser.add_argument("--network")
    parser.add_argument("--members", type=int, help="networks of each kind, whose mean counts")
    parser.add_argument(
        "--final", action=BooleanOptionalAction, help="train at last on the validation days too"
    )
    parser.add_argument(
        "--trees", action=BooleanOptionalAction, help="trees that have a share in the forecast"
    )
    parser.add_argument(
        "--plain", action=BooleanOptionalAction, help="networks on frames alone that have a share"
    )
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--batch", type=int, help="windows a step, of all processes together")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--average", type=float, help="decay of the average of the weights")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--serve", choices=SERVED, default="float32")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--device", default="auto")
    return parser


def _events(asked: Namespace, options: RunOptions) -> Iterator[TrainingEvent | Trained]:
    store, city = Store(), load_city(asked.city)
    fields = (
        *("network", "members", "final", "trees", "plain", "batch", "seed", "learning_rate"),
        "average",
    )
    given = {name: getattr(asked, name) for name in fields}
    if asked.resume:
        if named := [name for name, value in given.items() if value is not None]:
            raise FlowcastError(
                f"{named[0]} cannot change while a training goes on; leave it out, or train without "
                f"--resume"
            )
        return resume(store, city, epochs=asked.epochs, minutes=asked.minutes, options=options)
    try:
        names = {"members": "ensemble_size", "final": "refit", "plain": "raw_ensemble"}
        given = {names.get(name, name): value for name, value in given.items()}
        recipe = Recipe.from_options(**given, epochs=asked.epochs, minutes=asked.minutes)
    except ValueError as error:
        raise FlowcastError(f"these settings do not go together: {error}") from error
    return train(store, city, recipe, options=options)


def _judged(epoch: Epoch) -> str:
    """Returns what is said of the validation of an epoch, nothing where there was none."""
    if epoch.validation is None:
        return ""
    star = ", the best so far" if epoch.best else ""
    return f", validation RMSE {epoch.validation:.2f} vehicles{star}"


def _tell(events: Iterator[TrainingEvent | Trained], silent: bool) -> None:
    """Logs how a training goes on."""
    spoken = time.monotonic()
    for event in events:
        if silent:
            continue
        match event:
            case Epoch():
                logging.info(
                    "epoch %d: training loss %.4g%s", event.number, event.loss, _judged(event)
                )
            case BatchSplit():
                logging.info("out of memory: %d of %d windows at once", event.windows, event.batch)
            case Batch() if time.monotonic() - spoken > SECONDS_BETWEEN_LINES:
                spoken = time.monotonic()
                logging.info(
                    "epoch %d/%d: %d of %d windows, loss %.4g, %.0f s left",
                    event.epoch,
                    event.epochs,
                    event.done,
                    event.planned,
                    event.loss,
                    event.seconds_left,
                )
            case FitStarted():
                what = f"{event.kind}, on frames alone" if event.plain else event.kind
                logging.info(
                    "fit %d of %d: %s, seed %d", event.number, event.count, what, event.seed
                )
            case TreesProgress():
                logging.info("trees: %d of %d grown", event.done, event.count)
            case Trained():
                for note in event.notes:
                    logging.info("note: %s", note)
                logging.info("%s", event.verdict)
