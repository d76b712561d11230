"""An evaluation for people: how far it is, its table, and the same as an object for JSON."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from app.cli.options import ERR
from app.report.intervals import coverage_object
from app.text import evenly_spaced, number, utc_text
from data.city import City
from data.clock import duration, stamp
from pipelines.evaluate.backtest import Evaluation, Scored

SECONDS_BETWEEN_LINES = 10
MOST_LEADS = 4
METRICS = {
    "rmse": "RMSE, all cells",
    "mae": "MAE, all cells",
    "rmse_busy": "RMSE, busy cells",
    "mae_busy": "MAE, busy cells",
    "mape_busy": "MAPE in %, busy cells",
}


def show_evaluation(events: Iterator[Scored | Evaluation]) -> Evaluation:
    """Shows on stderr how many windows are done and at which rate; returns the result."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        console=ERR,
        transient=True,
        disable=not ERR.is_terminal,
    )
    spoken = time.monotonic()
    with bar:
        task = bar.add_task("preparing", total=None)
        for event in events:
            if isinstance(event, Evaluation):
                ERR.print(_rate(event.windows, event.seconds))
                return event
            left = duration(event.seconds * (event.planned / event.windows - 1))
            status = f"{_rate(event.windows, event.seconds)}; {left} left"
            bar.update(task, description=status, completed=event.windows, total=event.planned)
            if not ERR.is_terminal and time.monotonic() - spoken > SECONDS_BETWEEN_LINES:
                spoken = time.monotonic()
                ERR.print(f"{100 * event.windows / event.planned:.0f} %: {status}")
    raise AssertionError("an evaluation ends with its result")


def evaluation_table(evaluation: Evaluation, city: City) -> Table:
    """Returns the errors of all forecasters, both channels together, a section a metric."""
    leads = evaluation.errors["lead_time"].values
    shown = evenly_spaced(len(leads) - 1, MOST_LEADS)
    rest = "" if len(shown) == len(leads) - 1 else "; every lead: --json"
    table = Table(
        title=Text(
            f"{city.title}: {evaluation.windows:,} windows, "
            f"{stamp(evaluation.first, city.timezone)} to {stamp(evaluation.last, city.timezone)}"
        ),
        caption=f"vehicles per step; busy: cells with more than 10 observed{rest}",
        title_justify="left",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("", no_wrap=True)
    for lead in leads[[*shown, -1]]:
        table.add_column(_lead(lead), justify="right", no_wrap=True)
    for metric, title in METRICS.items():
        table.add_row(Text(title, style="bold"))
        for name in evaluation.errors["forecaster"].values:
            values = evaluation.errors[metric].sel(forecaster=name, channel="both").values
            table.add_row(f"  {name}", *(f"{value:.2f}" for value in values[[*shown, -1]]))
        table.add_section()
    return table


def evaluation_object(evaluation: Evaluation, city: City) -> dict[str, Any]:
    """Returns the errors of all forecasters for JSON, by lead time in minutes and channel."""
    errors = evaluation.errors
    return {
        "city": city.name,
        "model_version": evaluation.version,
        "windows": evaluation.windows,
        "first": utc_text(evaluation.first),
        "last": utc_text(evaluation.last),
        "units": "vehicles per step; mape in percent",
        "seconds": round(evaluation.seconds, 3),
        "windows_per_second": round(evaluation.windows / evaluation.seconds, 3),
        "forecasting_seconds": {
            name: round(seconds, 3) for name, seconds in evaluation.forecasting.items()
        },
        "forecasters": {
            str(name): [
                {
                    "lead_minutes": _minutes(lead),
                    "channel": str(channel),
                    **{
                        str(metric): number(
                            float(errors[metric].sel(forecaster=name, channel=channel).values[row])
                        )
                        for metric in errors.data_vars
                    },
                }
                for row, lead in enumerate(errors["lead_time"].values)
                for channel in errors["channel"].values
            ]
            for name in errors["forecaster"].values
        },
        "coverage": None if evaluation.coverage is None else coverage_object(evaluation),
    }


def _lead(lead: np.timedelta64) -> str:
    return "all" if np.isnat(lead) else f"{_minutes(lead)} min"


def _minutes(lead: np.timedelta64) -> int | None:
    return None if np.isnat(lead) else int(lead / np.timedelta64(60, "s"))


def _rate(windows: int, seconds: float) -> str:
    return f"{windows:,} windows in {duration(seconds)}, {windows / seconds:,.1f} a second"
