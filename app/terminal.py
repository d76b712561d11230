"""The terminal: results on stdout, notes and progress on stderr."""

import json
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

OUT = Console(highlight=False, soft_wrap=True)

ERR = Console(stderr=True, highlight=False, soft_wrap=True)


def print_table(table: Table) -> None:
    """Prints a table at its full width: a long line is better than a figure that is cut off."""
    console = Console(width=1000, highlight=False, markup=False)  # cells may hold users' text
    console.width = max(OUT.width, Measurement.get(console, console.options, table).maximum)
    console.print(table, crop=False)


def print_json(value: dict[str, Any]) -> None:
    """Prints an object as one line of JSON."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False))  # noqa: T201
