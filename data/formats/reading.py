"""What a reader returns: flow or weather, and what was repaired in it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xarray as xr

from data.city import City
from data.errors import FlowcastError
from data.weather import label_weather

REPAIRS = {
    "negative": "negative values set to 0",
    "not_finite": "slots with NaN, infinite or impossible values left out",
    "skipped_hour": "slots at nonexistent local times (clocks set forward) left out",
    "repeated_hour": "slots at ambiguous local times (clocks set back) resolved by their order",
    "unsorted": "slots after a later one sorted",
    "duplicates_equal": "slots given more than once with equal values kept once",
    "duplicates_merged": "slots given more than once with different values merged",
    "empty_kept": "slots without a single vehicle kept",
    "empty_dropped": "slots without a single vehicle left out",
    "missing": "values of the weather missing",
    "trace": "values T of the weather, a trace, read as 0.005",
    "no_numbers": "columns of the weather without any number left out",
    "duplicates_last": "records of the weather given more than once, the last one kept",
}
MAX_VARIABLES = 64


class OtherFormat(FlowcastError):
    """The content of a file shows that it is of another format than its name says."""


@dataclass(frozen=True)
class Reading:
    """The flow of a file.

    Attributes:
        flow: checked, at least one slot.
        series: "observed", or "expected" where the file says that it holds the expected flow.
        repairs: how often each of `REPAIRS` was needed, where it was.
        ambiguous: second time of slots at ambiguous local times, by the first time, which they have
            in `flow`, where nothing in the file says which of the two it is.
    """

    flow: xr.DataArray
    series: str
    repairs: dict[str, int]
    ambiguous: dict[np.datetime64, np.datetime64] = field(default_factory=dict)


@dataclass(frozen=True)
class WeatherReading:
    """The weather of a file.

    Attributes:
        weather: checked, at least one value.
        repairs: how often each of `REPAIRS` was needed, where it was.
    """

    weather: xr.DataArray
    repairs: dict[str, int]


@dataclass(frozen=True)
class Reader:
    """How files of one format are recognized and read.

    Attributes:
        title: of the format, for people.
        suffixes: with which the names of its files end, in small letters.
        accepts: returns whether a file may be of the format, by its name and first bytes.
        read: returns what a file holds; raises `OtherFormat` where its content is of another format,
            and `FlowcastError` where it is refused, with the reason and what to do.
    """

    title: str
    suffixes: tuple[str, ...]
    accepts: Callable[[Path], bool]
    read: Callable[[Path, City], Reading | WeatherReading]


def weather_reading(
    values: np.ndarray,
    time: np.ndarray,
    variables: Sequence[str],
    city: City,
    repairs: dict[str, int],
) -> WeatherReading:
    """Returns the records sorted, each time once: of several rows the last of the file.

    Args:
        values: rows as the file has them, dims `(row, variable)`.
        time: when each was known, UTC; NaT for rows that are left out.
        variables: their names.
        city: where it was measured.
        repairs: so far.

    Raises:
        FlowcastError: no value is left, or there are too many variables.
    """
    if len(variables) > MAX_VARIABLES:
        raise FlowcastError(
            f"{len(variables)} variables are more than {MAX_VARIABLES}; leave those out that hardly "
            f"bear on traffic"
        )
    rows = np.flatnonzero(~np.isnat(time) & np.isfinite(values).any(axis=1))
    if not len(rows):
        raise FlowcastError(f"none of {len(time):,} records has a time and a value; get it anew")
    order = rows[np.argsort(time[rows], kind="stable")]
    last = np.r_[np.diff(time[order]) > np.timedelta64(0, "s"), True]
    following = order[np.minimum(np.arange(len(order)) + 1, len(order) - 1)]
    same = ((values[order] == values[following]) | np.isnan(values[order])).all(axis=1)
    kept = order[last]
    counted = repairs | {
        "missing": np.isnan(values[kept]).sum(),
        "unsorted": (np.diff(time[rows]) < np.timedelta64(0, "s")).sum(),
        "duplicates_equal": (~last & same).sum(),
        "duplicates_last": (~last & ~same).sum(),
    }
    weather = label_weather(values[kept], time[kept], variables, city)
    return WeatherReading(weather, {name: int(count) for name, count in counted.items() if count})
