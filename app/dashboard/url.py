"""View: what a page of the dashboard shows, as the URL says, so that a link shows the same."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from data.flow import CHANNELS

TIME = re.compile(r"(19[7-9]|20\d|21\d)\d-\d\d-\d\dT\d\d:\d\d(:\d\d)?Z?", re.ASCII)
MAX_LEAD = 1008
MAX_THRESHOLD = 1e6
MAX_QUOTED = 40
"""Characters of a wrong value that a message repeats."""


@dataclass(frozen=True)
class View:
    """What is shown.

    Attributes:
        city: registry key.
        page: key in `PAGES`.
        channel: `inflow` or `outflow`.
        lead: steps ahead, from 1.
        cell: row and column; None for none.
        time: UTC; init_time of the forecast. None for the newest forecast, whichever that is.
        threshold: vehicles per step above which a cell is a hot spot; 0 for none.
        earth: whether cells are drawn by longitude and latitude.
    """

    city: str
    page: str = "now"
    channel: str = "inflow"
    lead: int = 1
    cell: tuple[int, int] | None = None
    time: np.datetime64 | None = None
    threshold: float = 0.0
    earth: bool = False


def parse(
    query: Mapping[str, str], grids: Mapping[str, tuple[int, int]], pages: Iterable[str]
) -> tuple[View, tuple[str, ...]]:
    """Returns the view of a URL, and a message for each value that is wrong and has its default instead.

    Args:
        query: parameters of the URL, whoever wrote them.
        grids: rows and columns of the cities, at least one; the first is the default.
        pages: keys of the pages; the first is the default.
    """
    notes: list[str] = []

    def choice(name: str, allowed: Iterable[str]) -> str:
        options = [*allowed]
        value = query.get(name, options[0])
        if value in options:
            return value
        notes.append(f"{name}={value[:MAX_QUOTED]} is not one of {', '.join(options)}")
        return options[0]

    def integer(name: str, low: int, high: int) -> int | None:
        text = query.get(name)
        if text is None:
            return None
        if text.isascii() and text.isdigit() and len(text) <= 6 and low <= int(text) <= high:
            return int(text)
        notes.append(f"{name}={text[:MAX_QUOTED]} is not a number from {low} to {high}")
        return None

    city = choice("city", grids)
    rows, columns = grids[city]
    page, channel = choice("page", pages), choice("channel", CHANNELS)
    lead, y, x = (
        integer("lead", 1, MAX_LEAD),
        integer("y", 0, rows - 1),
        integer("x", 0, columns - 1),
    )
    if ("y" in query) != ("x" in query):
        notes.append("a cell has both, y and x")
    view = View(
        city,
        page,
        channel,
        lead or 1,
        None if y is None or x is None else (y, x),
        _time(query, notes),
        _threshold(query, notes),
        choice("earth", ("no", "yes")) == "yes",
    )
    return view, tuple(notes)


def query_of(view: View) -> dict[str, str]:
    """Returns the parameters of the URL that shows a view."""
    query = {"city": view.city, "page": view.page, "channel": view.channel, "lead": str(view.lead)}
    if view.cell is not None:
        query |= {"y": str(view.cell[0]), "x": str(view.cell[1])}
    if view.time is not None:
        query["time"] = f"{view.time.astype('datetime64[s]')}Z"
    if view.threshold:
        query["threshold"] = f"{view.threshold:g}"
    if view.earth:
        query["earth"] = "yes"
    return query


def _time(query: Mapping[str, str], notes: list[str]) -> np.datetime64 | None:
    text = query.get("time")
    if text is None:
        return None
    try:
        if TIME.fullmatch(text):
            return np.datetime64(text.removesuffix("Z"), "s")
    except ValueError:  # such as 30 February
        pass
    notes.append(f"time={text[:MAX_QUOTED]} is not a time like 2016-03-20T08:00:00Z")
    return None


def _threshold(query: Mapping[str, str], notes: list[str]) -> float:
    text = query.get("threshold", "0")
    try:
        value = float(text[:MAX_QUOTED])
    except ValueError:
        value = math.nan
    if value == 0 or 0.1 <= value <= MAX_THRESHOLD:
        return value
    notes.append(
        f"threshold={text[:MAX_QUOTED]} is not 0 or a number from 0.1 to {MAX_THRESHOLD:,.0f}"
    )
    return 0.0
