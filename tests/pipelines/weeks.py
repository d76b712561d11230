"""A tiny hourly city for tests of what pages show."""

from data.city import City, load_city
from data.paths import cities_folder

HOURLY = """
timezone = "UTC"
step = "1h"
grid = [1, 2]
"""


def hourly(name: str) -> City:
    """Returns an hourly city of two cells, described in the home."""
    folder = cities_folder()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.toml").write_text(HOURLY)
    return load_city(name)
