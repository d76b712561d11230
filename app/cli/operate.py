"""The verbs of operation: schedule, update, nightly, replay, doctor."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table
from rich.text import Text

from app.cli.options import CityOption, HorizonOption, JsonOption, parse_time
from app.terminal import ERR, OUT, print_json, print_table
from data.city import load_city
from data.clock import stamp
from data.errors import FlowcastError

CitiesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--city",
        metavar="CITY",
        show_default="all with flow or files in their inbox",
        help="Name of a city. Repeatable.",
    ),
]
AtOption = Annotated[
    str,
    typer.Option(metavar="HH:MM", help="Start the night's training then, in the city's time zone."),
]
MinutesOption = Annotated[
    float,
    typer.Option(
        min=0.1, max=720, metavar="MINUTES", help="Train for at most MINUTES, all fits together."
    ),
]
WarmOption = Annotated[
    bool,
    typer.Option("--warm", help="Start from the champion's weights where they fit the network."),
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
            metavar="FILE",
            show_default="metrics/flowcast.prom in FLOWCAST_HOME",
            help="Write metrics for Prometheus to FILE every 30 seconds.",
        ),
    ] = None,
) -> None:
    """Forecast and score each new slot of the cities, and retrain every night.

    Ingests files from each city's inbox. A store has one scheduler; a second one waits. Ctrl-C or
    SIGTERM ends it within ten seconds; logs go to stderr.
    """
    from data.paths import metrics_file
    from data.store.store import Store
    from pipelines import log
    from pipelines.operate.job import JobOptions
    from pipelines.operate.prometheus import write_metrics
    from pipelines.operate.schedule import Plan, serve, served_cities, until_signaled

    options = JobOptions(horizon, _checked(at), minutes, warm)
    log.to_stderr()
    store = Store()
    path = metrics or metrics_file()
    plan = Plan(
        served_cities(store, city or []),
        options,
        after_heartbeat=lambda now, served: write_metrics(path, store, served, now),
        find_cities=None if city else lambda: served_cities(store, []),
    )
    serve(store, plan, until_signaled())
    # A tick that waits for a database must not delay the end; nothing is left to do.
    sys.stderr.flush()
    os._exit(0)


def update(city: CityOption, horizon: HorizonOption = 4) -> None:
    """Do what is due for a city once: ingest its inbox, forecast, score, check for drift.

    Runs at most once per slot, so that cron and Kubernetes may start it as often as they like.
    """
    from pipelines.operate.job import JobOptions, run_job

    raise typer.Exit(run_job("step", city, JobOptions(horizon)))


def nightly(
    city: CityOption,
    horizon: HorizonOption = 4,
    at: AtOption = "02:00",
    minutes: MinutesOption = 30.0,
    warm: WarmOption = False,
) -> None:
    """Train a candidate for a city and promote it if it passes every gate.

    Runs at most once per night; a night that was interrupted continues where it was saved.
    """
    from pipelines.operate.job import JobOptions, run_job

    options = JobOptions(horizon, _checked(at), minutes, warm)
    raise typer.Exit(run_job("nightly", city, options))


def _checked(at: str) -> str:
    from pipelines.operate.due_times import time_of_day

    try:
        time_of_day(at)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return at


def replay(
    city: CityOption,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH...]",
            show_default="the test days of the archive",
            help="Replay these files and folders.",
        ),
    ] = None,
    into: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            show_default="CITY-live",
            help="Replay into the inbox of this city, which is created if it does not exist.",
        ),
    ] = "",
    speed: Annotated[
        float, typer.Option(min=0.001, metavar="FACTOR", help="Replay FACTOR times as fast.")
    ] = 600.0,
    begin: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="TIME",
            show_default="the first test day, or slot of the files",
            help="First slot, in the city's time zone unless it has an offset.",
        ),
    ] = "",
) -> None:
    """Replay an archive, or files, as if live: slot by slot into the inbox of another city.

    Slots before the first one are copied into that city's archive. To forecast what is replayed, run
    `forecast schedule` for it.
    """
    from data.store.store import Store
    from pipelines.ingest import replay as run

    place, store = load_city(city), Store()
    other = run.target_city(place, into or f"{city}-live")
    first = parse_time(begin, place) if begin else None
    chosen = run.from_files(paths, place, first) if paths else run.from_archive(store, place, first)
    stored, flow = run.store_past(store, place, other, chosen)
    pause = float(place.step / np.timedelta64(1, "s")) / speed
    ERR.print(
        f"{stored:,} earlier slots are stored; {len(flow):,} are replayed into {other.name}, one every "
        f"{pause:.3g} s; to forecast them: forecast schedule --city {other.name}",
        markup=False,
    )
    for now in run.play(flow, other):
        OUT.print(stamp(now, place.timezone), markup=False)
        time.sleep(pause)


def doctor(city: CitiesOption = None, as_json: JsonOption = False) -> None:
    """Check the health of the scheduler, the machine and the cities.

    Exit code: 0 ok, 1 a warning, 2 a failure.
    """
    from data.store.store import Store
    from pipelines.operate.doctor import broken_cities, broken_store, check_health, exit_code
    from pipelines.operate.job import present
    from pipelines.operate.schedule import served_cities

    try:
        store = Store()
        checks = check_health(store, served_cities(store, city or []), present())
    except FlowcastError as error:  # a store that cannot be read is a failure
        checks = [broken_store(str(error)), *broken_cities()]
    if as_json:
        print_json({"status": exit_code(checks), "findings": [vars(one) for one in checks]})
    else:
        table = Table("check", "city", "status", "message")
        colors = {"ok": "green", "warning": "yellow", "failure": "red"}
        for one in checks:
            status = Text(one.status, style=colors[one.status])
            table.add_row(one.name, one.city, status, one.message)
        print_table(table)
    raise typer.Exit(exit_code(checks))
