"""View: what a page of the dashboard shows, as it stands in the URL, so that a link shows the same."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from data.flow import CHANNELS

PAGES = {
    "now": "Now and next",
    "cell": "A cell",
    "quality": "How good",
    "runs": "Runs and models",
    "archive": "City and data",
}
TIME = re.compile(r"(19[7-9]|20\d|21\d)\d-\d\d-\d\dT\d\d:\d\d(:\d\d)?Z?", re.ASCII)
MOST_LEAD = 1008
MOST_THRESHOLD = 1e6
SHOWN = 40
"""Characters of a wrong value that are told back."""


@dataclass(frozen=True)
class View:
    """What is shown.

    Attributes:
        city: registry key.
        page: key in `PAGES`.
        channel: `inflow` or `outflow`.
        lead: steps ahead, from 1.
        cell: row and column; None for none.
        time: UTC; the forecast made then. None for the newest, which moves on.
        threshold: vehicles per step from which on a cell is a hot spot; 0 for none.
        earth: whether the cells are shown in their place on earth.
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
    query: Mapping[str, str], grids: Mapping[str, tuple[int, int]]
) -> tuple[View, tuple[str, ...]]:
    """Returns the view that a URL asks for, and what in it was wrong; a default stands for that.

    Args:
        query: parameters of the URL, whoever wrote them.
        grids: rows and columns of the cities that there are, at least one; the first is the default.
    """
    notes: list[str] = []

    def asked(name: str, default: str, allowed: Mapping[str, object] | tuple[str, ...]) -> str:
        value = query.get(name, default)
        if value in allowed:
            return value
        notes.append(f"{name}={value[:SHOWN]} is not one of {', '.join(allowed)}")
        return default

    city = asked("city", next(iter(grids)), {**grids})
    page = asked("page", "now", PAGES)
    channel = asked("channel", CHANNELS[0], CHANNELS)
    lead = _whole(query, "lead", 1, 1, MOST_LEAD, notes)
    rows, columns = grids[city]
    y = _whole(query, "y", -1, 0, rows - 1, notes)
    x = _whole(query, "x", -1, 0, columns - 1, notes)
    if ("y" in query) != ("x" in query):
        notes.append("a cell has both, y and x")
    view = View(
        city,
        page,
        channel,
        lead if lead is not None else 1,
        (y, x) if y is not None and x is not None and y >= 0 and x >= 0 else None,
        _time(query, notes),
        _threshold(query, notes),
        asked("earth", "no", ("no", "yes")) == "yes",
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


def _whole(
    query: Mapping[str, str], name: str, default: int, least: int, most: int, notes: list[str]
) -> int:
    """Returns a whole number of the URL, the default where there is none."""
    text = query.get(name)
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) <= 6 and least <= int(text) <= most:
        return int(text)
    notes.append(f"{name}={text[:SHOWN]} is not a number from {least} to {most}")
    return default


def _time(query: Mapping[str, str], notes: list[str]) -> np.datetime64 | None:
    text = query.get("time")
    if text is None:
        return None
    try:
        if TIME.fullmatch(text):
            return np.datetime64(text.removesuffix("Z"), "s")
    except ValueError:  # such as the 30th of February
        pass
    notes.append(f"time={text[:SHOWN]} is not a time like 2016-03-20T08:00:00Z")
    return None


def _threshold(query: Mapping[str, str], notes: list[str]) -> float:
    text = query.get("threshold", "0")
    try:
        value = float(text[:SHOWN])
    except ValueError:
        value = math.nan
    if value == 0 or 0.1 <= value <= MOST_THRESHOLD:
        return value
    notes.append(f"threshold={text[:SHOWN]} is not 0 or a number from 0.1 to {MOST_THRESHOLD:,.0f}")
    return 0.0
