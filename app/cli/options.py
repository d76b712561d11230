"""Options that verbs share, and how they print."""

import json
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from data.city import City

OUT = Console(highlight=False, soft_wrap=True)
ERR = Console(stderr=True, highlight=False, soft_wrap=True)

CityOption = Annotated[str, typer.Option("--city", help="bj, nyc, demo, or one of your own.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON in place of text.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
PrecisionOption = Annotated[
    str, typer.Option("--precision", help="Of matrix products in training: float32 or bfloat16.")
]
CompileOption = Annotated[
    bool,
    typer.Option("--compile", help="Let torch compile the network first, which takes minutes."),
]
RecomputeOption = Annotated[
    bool, typer.Option("--recompute", help="Less memory for about a third more time.")
]
HorizonOption = Annotated[int, typer.Option(min=1, max=1008, help="Steps ahead.")]


def parse_time(text: str, city: City) -> np.datetime64:
    """Returns UTC of a time in the city's zone, or with an offset of its own."""
    try:
        time = pd.Timestamp(text)
        if pd.isna(time):
            raise ValueError("no time")
        zoned = time if time.tzinfo else time.tz_localize(city.timezone)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is no time in {city.timezone}; write it like 2016-03-20T08:00"
        ) from error
    return np.datetime64(int(zoned.timestamp()), "s")


def names_in(text: str) -> list[str]:
    """Returns the names between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def print_table(table: Table) -> None:
    """Prints a table at its own width: a figure that is cut off is worse than a long line."""
    plain = Console(width=1000, highlight=False, markup=False)  # what people wrote is no markup
    natural = Measurement.get(plain, plain.options, table).maximum
    plain.width = max(OUT.width, natural)
    plain.print(table, crop=False)


def print_json(value: dict[str, Any]) -> None:
    """Prints an object as one line of JSON."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False))  # noqa: T201
