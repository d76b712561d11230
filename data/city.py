"""City: what must be known of a city to read and to forecast it, one TOML file each.

The files stand in `data/cities/` and in the user's `FLOWCAST_HOME/cities/`; the user's own come
first. The name of a city is the name of its file. The checks are written out: their sentences say
what a value may be, and a program that reads a city without the command line starts without pydantic (0.1 s).
"""

import dataclasses
import re
import tomllib
import unicodedata
import zoneinfo
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from data.errors import FlowcastError
from data.holidays import check_country
from data.paths import cities_folder, city_file

NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
Duplicates = Literal["refuse", "sum", "max", "last"]
DAY = np.timedelta64(86_400, "s")
SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
CHOICES: dict[str, tuple[object, ...]] = {
    "duplicates": get_args(Duplicates),
    "empty": ("kept", "missing"),
    "row0": ("north", "south"),
    "first_slot": (0, 1),
}


@dataclass(frozen=True)
class City:
    """A city as its TOML file describes it.

    Attributes:
        name: registry key, in small letters.
        title: the name for people.
        timezone: IANA name; the files' times are local wall times there.
        step: time between two slots, 5 minutes to 1 day, a whole number of which make a day.
        grid: rows and columns, `(y, x)`.
        first_slot: number of the day's first slot in the files' dates, 1 (`SS` 01..) or 0 (`HH` 00..).
        duplicates: what happens to copies of one slot that differ: refuse, sum, max or last.
        empty: what a slot without a single vehicle is: "kept" as it stands, or "missing".
        test_days: days at the end that no training sees.
        validation_days: days before those, on which epochs are selected.
        reader: key in `READERS`.
        row0: the side that row 0 of the grid is drawn on, "north" or "south".
        bbox: west, south, east, north in degrees, if known.
        country: whose public holidays it has, ISO 3166 alpha-2, "" for none.
        subdivision: state or province with holidays of its own, as the package `holidays` names it.
    """

    name: str
    title: str
    timezone: str
    step: np.timedelta64
    grid: tuple[int, int]
    first_slot: int = 1
    duplicates: Duplicates = "refuse"
    empty: Literal["kept", "missing"] = "kept"
    test_days: int = 28
    validation_days: int = 7
    reader: str = "taxibj"
    row0: Literal["north", "south"] = "north"
    bbox: tuple[float, float, float, float] | None = None
    country: str = ""
    subdivision: str = ""

    @property
    def slots_per_day(self) -> int:
        """Number of steps in a day of 24 hours."""
        return int(DAY / self.step)


def visible(text: object) -> str:
    """Returns text without invisible characters, such as those that reverse the text around them."""
    return "".join(one for one in str(text) if unicodedata.category(one) not in ("Cf", "Co"))


def city_files() -> dict[str, Path]:
    """Returns the TOML file of every known city by name, the user's own in the place of ours."""
    folders = (Path(__file__).parent / "cities", cities_folder())
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def load_city(name: str) -> City:
    """Returns the city called `name`.

    Raises:
        FlowcastError: the name is no city's, or its file is wrong.
    """
    if not NAME.fullmatch(name):
        raise FlowcastError(
            f"{name!r} is no name of a city: small letters, digits, - and _, beginning with a letter"
        )
    files = city_files()
    if name not in files:
        raise FlowcastError(
            f"no city {name!r}; known: {', '.join(sorted(files))}; "
            f"describe a new one in {city_file(name)}"
        )
    return read_city(files[name])


def read_city(path: Path) -> City:
    """Returns the city that the TOML file at `path` describes.

    Raises:
        FlowcastError: with the key that is wrong and what it may be.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FlowcastError(f"{path} is not a TOML file that can be read: {error}") from error
    try:
        return _city(path.stem, table)
    except (ValueError, TypeError) as error:
        raise FlowcastError(f"{path}: {error}") from error


def _city(name: str, table: dict[str, Any]) -> City:
    """Returns the checked city; ValueError says what is wrong."""
    keys = [field.name for field in dataclasses.fields(City) if field.name != "name"]
    if unknown := sorted(set(table) - set(keys)):
        raise ValueError(f"unknown key {unknown[0]!r}; a city has {', '.join(keys)}")
    if missing := [key for key in ("timezone", "step", "grid") if key not in table]:
        raise ValueError(f"the key {missing[0]!r} is missing")
    values = {"title": name, **table}
    for key, value in values.items():
        if bool in {type(part) for part in (value if isinstance(value, list) else [value])}:
            raise ValueError(f"{key} = {value!r}: no key of a city is true or false")
    for key in ("title", "reader", "country", "subdivision"):
        if not isinstance(values.get(key, ""), str):
            raise ValueError(f"{key} = {values[key]!r} is not a text in quotes")
    values["title"] = " ".join(visible(values["title"]).split()) or name
    values["timezone"] = _timezone(values["timezone"])
    values["step"] = parse_step(values["step"])
    values["grid"] = _grid(values["grid"])
    for key, choices in CHOICES.items():
        value = values.get(key, choices[0])
        if value not in choices or type(value) is not type(choices[0]):
            raise ValueError(f"{key} = {value!r} is not one of {', '.join(map(str, choices))}")
    for key in ("test_days", "validation_days"):
        if not isinstance(days := values.get(key, 1), int) or not 1 <= days <= 3650:
            raise ValueError(f"{key} = {days!r} is not a number of days from 1 to 3650")
    if "bbox" in values:
        values["bbox"] = _bbox(values["bbox"])
    check_country(values.get("country", ""), values.get("subdivision", ""))
    return City(name=name, **values)


def parse_step(text: object) -> np.timedelta64:
    """Returns the step that a text like `30min`, `1h` or `1d` names.

    Raises:
        ValueError: no duration, outside 5 minutes to 1 day, or no whole number of them in a day.
    """
    match = re.fullmatch(r"(\d{1,5}) ?(s|min|h|d)", str(text))
    seconds = int(match[1]) * SECONDS[match[2]] if match else 0
    if not 300 <= seconds <= 86_400 or 86_400 % seconds:
        raise ValueError(
            f"step {text!r} is not a duration from 5min to 1d, like 30min or 1h, that divides a day"
        )
    return np.timedelta64(seconds, "s")


def parse_grid(text: str) -> tuple[int, int]:
    """Returns rows and columns that a text like `32x32` names.

    Raises:
        ValueError: it names no grid.
    """
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text)
    return _grid([int(side) for side in match.groups()] if match else text)


def _timezone(name: object) -> str:
    try:
        return zoneinfo.ZoneInfo(str(name)).key
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
        raise ValueError(f"timezone {name!r} is unknown; one is Asia/Shanghai") from error


def _grid(value: object) -> tuple[int, int]:
    match value:
        case [int(rows), int(columns)] if 1 <= rows <= 1024 and 1 <= columns <= 1024:
            return rows, columns
    raise ValueError(f"grid {value!r} is not [rows, columns], each from 1 to 1024")


def _bbox(value: object) -> tuple[float, float, float, float]:
    match value:
        case [int() | float(), int() | float(), int() | float(), int() | float()]:
            west, south, east, north = (float(edge) for edge in value)
            if -180 <= west < east <= 180 and -90 <= south < north <= 90:
                return west, south, east, north
    raise ValueError(f"bbox {value!r} is not [west, south, east, north] in degrees")
