"""Evaluation: the errors of forecasters as a table, and as an object for JSON."""

from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from app.report.intervals import coverage_object
from app.text import evenly_spaced, number, report_table, utc_text
from data.city import City
from data.clock import stamp
from pipelines.evaluate.evaluation import Evaluation

MAX_LEADS = 4
METRICS = {
    "rmse": "RMSE, all cells",
    "mae": "MAE, all cells",
    "rmse_busy": "RMSE, busy cells",
    "mae_busy": "MAE, busy cells",
    "mape_busy": "MAPE in %, busy cells",
}


def evaluation_table(evaluation: Evaluation, city: City) -> Table:
    """Returns the errors of all forecasters, both channels together, a section a metric."""
    leads = evaluation.errors["lead_time"].values
    columns = [*evenly_spaced(len(leads) - 1, MAX_LEADS), -1]
    rest = "" if len(columns) == len(leads) else "; every lead: --json"
    first, last = (stamp(one, city.timezone) for one in (evaluation.first, evaluation.last))
    table = report_table(
        f"{city.title}: {evaluation.windows:,} windows, {first} to {last}",
        f"vehicles per step; busy: cells with more than 10 vehicles observed{rest}",
    )
    for lead in leads[columns]:
        table.add_column(_lead(lead), justify="right", no_wrap=True)
    for metric, title in METRICS.items():
        table.add_row(Text(title, style="bold"))
        for name in evaluation.errors["forecaster"].values:
            values = evaluation.errors[metric].sel(forecaster=name, channel="both").values
            table.add_row(f"  {name}", *(f"{value:.2f}" for value in values[columns]))
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
