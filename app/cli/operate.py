"""The verbs of operation: schedule, step, nightly, replay, doctor."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table
from rich.text import Text

from app.cli.options import (
    ERR,
    OUT,
    CityOption,
    HorizonOption,
    JsonOption,
    parse_time,
    print_json,
    print_table,
)
from data.city import City, load_city
from data.clock import stamp
from data.errors import FlowcastError

CitiesOption = Annotated[
    list[str] | None,
    typer.Option("--city", help="City; again for more. All that have flow by default."),
]
AtOption = Annotated[
    str, typer.Option(help="When nights begin, in each city's time, such as 02:00.")
]
MinutesOption = Annotated[
    float, typer.Option(min=0.1, max=720, help="Of a night's training, at most.")
]
WarmOption = Annotated[
    bool, typer.Option("--warm", help="Begin with the champion's weights where they fit.")
]


def schedule(
    city: CitiesOption = None,
    horizon: HorizonOption = 4,
    at: AtOption = "02:00",
    minutes: MinutesOption = 30.0,
    warm: WarmOption = False,
    metrics: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Prometheus text file; FLOWCAST_HOME/metrics/flowcast.prom."
        ),
    ] = None,
) -> None:
    """Keeps cities forecast, scored and retrained every night; Ctrl-C or SIGTERM ends it."""
    from data.paths import metrics_file
    from data.store.store import Store
    from pipelines import log
    from pipelines.operate.prometheus import write_metrics
    from pipelines.operate.schedule import Plan, serve, served_cities, until_signalled

    _check_time_of_day(at)
    log.to_stderr()
    store = Store()
    cities = served_cities(store, city or [])
    stop = until_signalled()
    path = metrics or metrics_file()
    plan = Plan(
        cities,
        horizon,
        at,
        minutes,
        warm,
        after=lambda now, served: write_metrics(path, store, served, now),
        look=None if city else lambda: served_cities(store, []),
    )
    serve(store, plan, stop)
    # A tick that waits for a database must not hold the end up; nothing is left to be done.
    sys.stderr.flush()
    os._exit(0)


def step(city: CityOption, horizon: HorizonOption = 4) -> None:
    """Does for a city what is due once: inbox, forecast, scores, drift; for cron and Kubernetes."""
    _job("step", city, ["--horizon", str(horizon)])


def nightly(
    city: CityOption,
    horizon: HorizonOption = 4,
    at: AtOption = "02:00",
    minutes: MinutesOption = 30.0,
    warm: WarmOption = False,
) -> None:
    """Trains a candidate for a city, once a night, and promotes it if it passes every gate."""
    _check_time_of_day(at)
    more = ["--horizon", str(horizon), "--at", at, "--minutes", f"{minutes:g}"]
    _job("nightly", city, [*more, *(["--warm"] if warm else [])])


def _check_time_of_day(at: str) -> None:
    from pipelines.operate.due_times import time_of_day

    try:
        time_of_day(at)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _job(job: str, city: str, more: list[str]) -> None:
    from pipelines.operate.job import main

    if code := main([job, "--city", city, *more]):
        raise typer.Exit(code)


def replay(
    city: CityOption,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Files or folders to play in place of the archive's test days."),
    ] = None,
    into: Annotated[
        str, typer.Option(help="City that is played into; made where it is not there.")
    ] = "",
    speed: Annotated[
        float, typer.Option(min=0.001, help="Times as fast as the clock; 600.")
    ] = 600.0,
    begin: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="TIME",
            help="First slot, in the city's time; the first test day, or that of the files.",
        ),
    ] = "",
) -> None:
    """Plays an archive, or files, back as if live, slot by slot, into the inbox of another city."""
    from data.store.store import Store
    from pipelines.ingest import replay as run

    place, store = load_city(city), Store()
    other = run.target_city(place, into or f"{city}-live")
    first = parse_time(begin, place) if begin else None
    chosen = run.from_files(paths, place, first) if paths else run.from_archive(store, place, first)
    stored, flow = run.store_past(store, place, other, chosen)
    ERR.print(
        f"{stored:,} slots before are stored; {len(flow):,} are played into {other.name}, one every "
        f"{_seconds(place) / speed:.3g} s; "
        f"to forecast them: forecast schedule --city {other.name}",
        markup=False,
    )
    for now in run.play(flow, other):
        OUT.print(stamp(now, place.timezone), markup=False)
        time.sleep(_seconds(place) / speed)


def _seconds(city: City) -> float:
    return float(city.step / np.timedelta64(1, "s"))


def doctor(city: CitiesOption = None, as_json: JsonOption = False) -> None:
    """Tells what is well and what is not; exits with 0 well, 1 someone should look, 2 failure."""
    from data.store.store import Store
    from pipelines.operate.doctor import examine, unable, unreadable
    from pipelines.operate.job import present
    from pipelines.operate.prometheus import exit_code
    from pipelines.operate.schedule import served_cities

    try:
        store = Store()
        found = examine(store, served_cities(store, city or []), present())
    except FlowcastError as error:  # who cannot look has found a failure
        found = [unable(str(error)), *unreadable()]
    if as_json:
        print_json({"status": exit_code(found), "findings": [vars(one) for one in found]})
    else:
        table = Table("", "city", "status", "")
        colors = {"ok": "green", "warning": "yellow", "failure": "red"}
        for one in found:
            status = Text(one.status, style=colors[one.status])
            table.add_row(one.name, one.city, status, one.message)
        print_table(table)
    raise typer.Exit(exit_code(found))
