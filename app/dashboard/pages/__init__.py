"""The pages of the dashboard: a page is a module of this folder and an entry of `PAGES`."""

from collections.abc import Callable
from dataclasses import dataclass

from app.dashboard.pages import cell, data, now, quality, runs
from data.city import City


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        title: in the navigation and above the page.
        draw: draws the page of a city.
        has_map: whether it shows one channel on maps; else it shows both channels and no map.
    """

    title: str
    draw: Callable[[City], None]
    has_map: bool = True


PAGES: dict[str, Page] = {
    "now": Page("Now and next", now.draw),
    "cell": Page("Cell", cell.draw),
    "quality": Page("Accuracy", quality.draw),
    "runs": Page("Runs and models", runs.draw, has_map=False),
    "archive": Page("City and data", data.draw, has_map=False),
}
"""The pages by `page` in the URL, in the order of the navigation; the first is the default."""
