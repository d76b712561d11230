"""`forecast evaluate`: the errors of the model and all baselines."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import compare
from app.cli.options import CityOption, HorizonOption, JsonOption, parse_time
from app.terminal import ERR, print_json, print_table
from data.city import load_city
from data.clock import duration

if TYPE_CHECKING:
    from pipelines.evaluate.evaluation import Evaluation, Scored

SECONDS_BETWEEN_LINES = 10
"""Between lines of progress, where stderr is no terminal."""


def evaluate(
    city: CityOption,
    horizon: HorizonOption = 4,
    model: Annotated[
        str,
        typer.Option(
            metavar="VERSION",
            show_default="the champion",
            help="Evaluate this version of the model.",
        ),
    ] = "",
    begin: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="TIME",
            show_default="the first test day",
            help="First slot to forecast, in the city's time zone.",
        ),
    ] = "",
    end: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="TIME",
            show_default="the end of the archive",
            help="End of the last slot to forecast, in the city's time zone.",
        ),
    ] = "",
    stride: Annotated[
        int, typer.Option(min=1, metavar="SLOTS", help="Make a forecast every this many slots.")
    ] = 1,
    as_json: JsonOption = False,
    # Options of `forecast compare`, which was a part of this verb.
    networks: Annotated[str, typer.Option(hidden=True)] = "",
    seeds: Annotated[int, typer.Option(min=1, max=100, hidden=True)] = 1,
    contexts: Annotated[str, typer.Option(hidden=True)] = "",
    minutes: Annotated[float | None, typer.Option(min=0.01, hidden=True)] = None,
    jobs: Annotated[int | None, typer.Option(min=1, hidden=True)] = None,
    output: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Measure the errors of a model and of all baselines, by lead time.

    Also measures the coverage of the model's prediction intervals.
    """
    place = load_city(city)
    if networks:
        if model or begin or end or stride != 1:
            raise typer.BadParameter(
                "--networks compares on the test days; leave out --model, --from, --to and --stride"
            )
        ERR.print("note: `forecast evaluate --networks` is `forecast compare --networks` now")
        limit = minutes or 15.0
        compare.compare(
            city,
            networks,
            horizon,
            seeds,
            minutes=limit,
            jobs=jobs,
            output=output,
            as_json=as_json,
            contexts=contexts,
        )
        return
    if output or jobs or minutes or seeds != 1 or contexts:
        raise typer.BadParameter(
            "--seeds, --contexts, --minutes, --jobs and --output are options of: forecast compare"
        )
    span = [parse_time(text, place) if text else None for text in (begin, end)]
    from app.report.evaluation import evaluation_object, evaluation_table
    from app.report.intervals import coverage_table
    from data.store.store import Store
    from pipelines.evaluate.evaluation import evaluate_in_pieces

    events = evaluate_in_pieces(
        Store(),
        place,
        horizon=horizon,
        model=model or None,
        begin=span[0],
        end=span[1],
        stride=stride,
    )
    result = _show_progress(events)
    if not result.version:
        ERR.print(f"note: {city} has no champion; to train a model: forecast train --city {city}")
    for name in result.left_out:
        ERR.print(f"note: {name} is left out: no window of the span has all its input")
    for note in result.notes:
        ERR.print(f"note: {note}", markup=False)
    if as_json:
        print_json(evaluation_object(result, place))
    else:
        print_table(evaluation_table(result, place))
        if result.coverage is not None:
            print_table(coverage_table(result))


def _show_progress(events: "Iterator[Scored | Evaluation]") -> "Evaluation":
    """Shows on stderr how many windows are done, and returns the result."""
    from rich.progress import BarColumn, Progress, TextColumn

    from pipelines.evaluate.evaluation import Evaluation

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        console=ERR,
        transient=True,
        disable=not ERR.is_terminal,
    )
    printed = time.monotonic()
    with bar:
        task = bar.add_task("preparing", total=None)
        for event in events:
            if isinstance(event, Evaluation):
                ERR.print(_rate_text(event.windows, event.seconds))
                return event
            left = duration(event.seconds * (event.planned / event.windows - 1))
            status = f"{_rate_text(event.windows, event.seconds)}; {left} left"
            bar.update(task, description=status, completed=event.windows, total=event.planned)
            if not ERR.is_terminal and time.monotonic() - printed > SECONDS_BETWEEN_LINES:
                printed = time.monotonic()
                ERR.print(f"{100 * event.windows / event.planned:.0f} %: {status}")
    raise AssertionError("an evaluation ends with its result")


def _rate_text(windows: int, seconds: float) -> str:
    return f"{windows:,} windows in {duration(seconds)}, {windows / seconds:,.1f} a second"
