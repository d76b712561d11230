"""CSV files of weather: a row a record, a column `time` or `date`, and a column a variable.

`time` is when the values were known, ISO 8601, with an offset or as the city's clocks showed it; of a
mean or a sum over a period it is the period's end. `date` is a whole day, `2016-01-31` or
`31-1-2016`, whose values are known when it is over. All other columns are variables, each in the unit
that it has, but for `day` and `holiday`, which are no weather, and those without any number. Empty
cells, `NA`, `NaN`, `null`, `none`, `M` and `-` are missing values, `T` is a trace.
"""

import contextlib
import csv
import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from data.city import City
from data.clock import utc
from data.errors import FlowcastError
from data.formats.reading import WeatherReading, weather_reading
from data.formats.table_chunks import COLUMNS, csv_header
from data.formats.taxibj_dates import YEARS, occurrence, utc_of_wall
from data.weather import VARIABLE

MAX_BYTES = 32 * 2**20
TRACE = "0.005"
"""Half of the smallest reading of a rain gauge in hundredths of an inch."""
MISSING = ("", "na", "nan", "null", "none", "m", "-")
NO_WEATHER = ("time", "date", "day", "holiday", "")
DAY_FIRST = re.compile(r"(\d{1,2})[-./](\d{1,2})[-./](\d{4})")


def open_weather_csv(path: Path, city: City) -> WeatherReading:
    """Returns the weather that a CSV file holds, and what was repaired in it.

    Raises:
        FlowcastError: the file is refused; the sentence says why and what to do.
    """
    try:
        return _reading(*_table(path), city)
    except FlowcastError as error:
        raise FlowcastError(f"{path} {error}") from error


def is_weather_csv(path: Path) -> bool:
    """Returns whether a file is CSV and its header has `time` or `date`, another column, and no flow."""
    names = csv_header(path)
    has_time = not {"time", "date"}.isdisjoint(names)
    return len(names) > 1 and has_time and names.isdisjoint({*COLUMNS} - {"time"})


def _table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Returns the names of the columns and the rows, all of one length."""
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise FlowcastError(
                f"has {size / 2**20:,.0f} MiB, more than {MAX_BYTES / 2**20:.0f}; split it by years"
            )
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file, strict=True) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FlowcastError(
            f"cannot be read as CSV ({error}); write it in UTF-8 with commas between the columns"
        ) from error
    if len(rows) < 2:
        raise FlowcastError("has no row beneath its header; get it anew from its source")
    ragged = [number for number, row in enumerate(rows, 1) if len(row) != len(rows[0])]
    if ragged:
        raise FlowcastError(
            f"has {len(ragged):,} rows of another length than its header of {len(rows[0])} columns, "
            f"the first is row {ragged[0]:,}; mend them"
        )
    return [_name(cell) for cell in rows[0]], rows[1:]


def _name(cell: str) -> str:
    """Returns the text of a header as the name of a variable: `snow depth` is `snow_depth`."""
    return re.sub(r"[^a-z0-9]+", "_", cell.strip().lower()).strip("_")


def _reading(names: list[str], rows: list[list[str]], city: City) -> WeatherReading:
    """Returns the weather of the rows."""
    _check_names(names)
    texts = {
        name: [cell.strip().lower() for cell in column]
        for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }
    time, repairs = _times(texts["time"], city) if "time" in texts else _days(texts["date"], city)
    variables = [name for name in names if name not in NO_WEATHER]
    columns = {name: _numbers(name, texts[name]) for name in variables}
    used = {name: column for name, column in columns.items() if column is not None}
    if not used:
        raise FlowcastError("has no column of numbers beside its times; name a file of weather")
    repairs["no_numbers"] = len(variables) - len(used)
    repairs["trace"] = sum(texts[name].count("t") for name in used)
    return weather_reading(np.stack([*used.values()], axis=1), time, [*used], city, repairs)


def _check_names(names: list[str]) -> None:
    if {"time", "date"}.isdisjoint(names):
        raise FlowcastError(
            "has no column time or date; name the column of its times so, with commas between columns"
        )
    if twice := [name for name, count in Counter(names).items() if name and count > 1]:
        raise FlowcastError(f"has the column {twice[0]} more than once; rename or remove one")
    if wrong := [name for name in names if name and not VARIABLE.fullmatch(name)]:
        raise FlowcastError(
            f"has the column {wrong[0]!r}; rename it so that it begins with a letter and has at "
            f"most 64"
        )


def _times(texts: Sequence[str], city: City) -> tuple[np.ndarray, dict[str, int]]:
    """Returns when the records were known, UTC, and the repairs that changes of the clocks needed."""
    read = _read("time", "2016-01-31T13:00, with or without an offset", texts, _moment)
    local = np.array([moment.tzinfo is None for moment in read])
    wall = _array([moment for moment in read if moment.tzinfo is None])
    first, second = utc_of_wall(wall, city.timezone)
    time = np.empty(len(read), dtype="datetime64[s]")
    # A single ambiguous time counts as the later one, so that no forecast sees it too early.
    time[local] = np.where(occurrence(wall) == 1, first, second)
    time[~local] = _array(
        [moment.astimezone(UTC).replace(tzinfo=None) for moment in read if moment.tzinfo]
    )
    repairs = {
        "skipped_hour": int(np.isnat(time).sum()),
        "repeated_hour": int(((first != second) & ~np.isnat(first)).sum()),
    }
    return time, repairs


def _moment(text: str) -> datetime:
    if len(text) < len("2016-01-31t13"):
        raise ValueError("a day is no time: its values are not known when it begins")
    return datetime.fromisoformat(text.upper())


def _days(texts: Sequence[str], city: City) -> tuple[np.ndarray, dict[str, int]]:
    """Returns when the days were over, UTC."""
    read = _read("date", "2016-01-31 or 31-1-2016", texts, _day)
    return utc(_array([day + timedelta(days=1) for day in read]), city.timezone), {}


def _day(text: str) -> datetime:
    if match := DAY_FIRST.fullmatch(text):
        day, month, year = map(int, match.groups())
        return datetime(year, month, day)
    if len(text) != len("2016-01-31"):
        raise ValueError("more or less than a day")
    return datetime.fromisoformat(text)


def _array(moments: list[datetime]) -> np.ndarray:
    return np.array(moments, dtype="datetime64[s]")


def _read(
    name: str, form: str, texts: Sequence[str], of: Callable[[str], datetime]
) -> list[datetime]:
    """Returns the times that the cells of the column `name` mean.

    Raises:
        FlowcastError: some mean none.
    """
    read: list[datetime] = []
    wrong = []
    for text in texts:
        with contextlib.suppress(ValueError):
            moment = of(text)
            if YEARS[0] <= moment.year <= YEARS[1]:
                read.append(moment)
                continue
        wrong.append(text)
    if wrong:
        raise FlowcastError(
            f"has {len(wrong):,} of {len(texts):,} cells in its column {name}, the first "
            f"{wrong[0]!r}, that cannot be read as {form}; mend or remove them"
        )
    return read


def _numbers(name: str, texts: list[str]) -> np.ndarray | None:
    """Returns the values of a column, float32, NaN where missing; None if it has no number.

    Raises:
        FlowcastError: it has numbers and other texts.
    """
    cells = np.array(texts)
    numbers = pd.to_numeric(pd.Series(np.where(cells == "t", TRACE, cells)), errors="coerce")
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite and so no number
        values = numbers.to_numpy(dtype=np.float32)
    if not np.isfinite(values).any():
        return None
    wrong = ~np.isfinite(values) & ~np.isin(cells, MISSING)
    if wrong.any():
        raise FlowcastError(
            f"has {wrong.sum():,} cells in its column {name}, the first {texts[wrong.argmax()]!r}, "
            f"that are no numbers; mend them, or leave them empty where the value is missing"
        )
    return values
