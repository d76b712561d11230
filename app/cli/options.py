"""Options that verbs share, and how verbs print."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from app.terminal import ERR, OUT
from data.city import City

CityOption = Annotated[
    str,
    typer.Option("--city", metavar="CITY", help="Name of the city: bj, nyc, demo or one of yours."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")
]
HorizonOption = Annotated[
    int,
    typer.Option(min=1, max=1008, metavar="STEPS", help="Forecast this many time steps ahead."),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device", metavar="DEVICE", help="Compute on: auto (a GPU if there is one), cpu or cuda."
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision", metavar="TYPE", help="Multiply matrices in training as float32 or bfloat16."
    ),
]
CompileOption = Annotated[
    bool,
    typer.Option("--compile", help="Compile the network with torch.compile; takes minutes once."),
]
RecomputeOption = Annotated[
    bool,
    typer.Option(
        "--recompute", help="Recompute activations: less memory, training takes a third longer."
    ),
]


def option(metavar: str, help: str, default: str = "none", *names: str) -> Any:
    """Returns an option whose default is shown in words."""
    return typer.Option(*names, metavar=metavar, help=help, show_default=default)


def parse_time(text: str, city: City) -> np.datetime64:
    """Returns a time as UTC; without an offset it is in the city's time zone.

    Raises:
        BadParameter: it is no time, or the clocks of the city skip or repeat it.
    """
    try:
        time = pd.Timestamp(text)
        if pd.isna(time):
            raise ValueError("no time")
        zoned = time if time.tzinfo else time.tz_localize(city.timezone)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is not a time in {city.timezone}; write it like 2016-03-20T08:00"
        ) from error
    return np.datetime64(int(zoned.timestamp()), "s")


def names_in(text: str) -> list[str]:
    """Returns the names between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


@contextmanager
def quiet(silent: bool) -> Iterator[None]:
    """Prints nothing on stdout or stderr meanwhile, if `silent`."""
    before = OUT.quiet, ERR.quiet
    OUT.quiet, ERR.quiet = silent or before[0], silent or before[1]
    try:
        yield
    finally:
        OUT.quiet, ERR.quiet = before
