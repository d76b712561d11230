"""Dates of the TaxiBJ layout: `YYYYMMDDSS` in the city's wall time <-> UTC times.

`SS` counts the slots of a day from the city's `first_slot`; it has three digits where a day has
more than 99 slots. Where clocks are set forward an hour of wall time does not exist; where they are
set back an hour has every label twice.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from data.city import City
from data.clock import HOUR, local
from data.errors import FlowcastError

YEARS = (1900, 2199)


class Times(NamedTuple):
    """What a file's dates are in UTC.

    Attributes:
        time: start of each slot, `datetime64[s]`, NaT where the wall time does not exist.
        ambiguous: whether clocks showed the wall time twice, because they were set back.
        second: its second time where it is ambiguous and stands once in the file, else NaT.
    """

    time: np.ndarray
    ambiguous: np.ndarray
    second: np.ndarray


def dates(time: np.ndarray, city: City) -> np.ndarray:
    """Returns the labels of UTC `time` in the city's wall time, fixed-length bytes.

    Raises:
        FlowcastError: a time is not the start of one of the city's slots.
    """
    wall = np.asarray(local(time, city.timezone).tz_localize(None), dtype="datetime64[s]")
    day = wall.astype("datetime64[D]")
    if (off := (wall - day) % city.step != np.timedelta64(0, "s")).any():
        raise FlowcastError(
            f"{off.sum():,} times, the first {wall[off][0]} in {city.timezone}, are not the start "
            f"of a slot of {city.name}, which last {city.step.astype(int)} s from midnight on; "
            f"choose a step that divides an hour"
        )
    month = day.astype("datetime64[M]")
    number = 1970 + day.astype("datetime64[Y]").astype(np.int64)
    number = 100 * number + 1 + month.astype(np.int64) % 12
    number = 100 * number + 1 + (day - month.astype("datetime64[D]")).astype(np.int64)
    slot = (wall - day) // city.step + city.first_slot
    labels = 10 ** digits(city) * number + slot
    return np.asarray(labels.astype(f"S{8 + digits(city)}"))


def digits(city: City) -> int:
    """Returns how many digits the slot has in the city's dates."""
    return 3 if city.slots_per_day > 99 else 2


def times(labels: np.ndarray, city: City) -> Times:
    """Returns the UTC times of `labels`, fixed-length bytes in the order of their file.

    An ambiguous wall time that stands exactly twice in the file is its first time, then its second;
    else it is the first, and where it stands once it may be the second.

    Raises:
        FlowcastError: dates that cannot be read, or slots that the city's day does not have.
    """
    wall = _wall(labels, city)
    first, second = utc_of_wall(wall, city.timezone)
    ambiguous = (first != second) & ~np.isnat(first)
    time = np.where(ambiguous & (occurrence(wall) == 2), second, first)
    _, group, count = np.unique(wall, return_inverse=True, return_counts=True)
    alone = ambiguous & (count[group] == 1) & (city.step <= HOUR)
    return Times(time, ambiguous, np.where(alone, second, np.datetime64("NaT", "s")))


def utc_of_wall(wall: np.ndarray, timezone: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first and the second UTC time of wall times; NaT where they do not exist.

    Both are equal but for ambiguous wall times.
    """
    daylight, standard = (_utc(wall, timezone, first) for first in (True, False))
    return np.minimum(daylight, standard), np.maximum(daylight, standard)


def _utc(wall: np.ndarray, timezone: str, daylight: bool) -> np.ndarray:
    """Returns wall times in UTC, NaT where they do not exist."""
    zoned = pd.DatetimeIndex(wall).tz_localize(
        timezone, ambiguous=np.full(len(wall), daylight), nonexistent="NaT"
    )
    return np.asarray(zoned.tz_convert("UTC").tz_localize(None), dtype="datetime64[s]")


def occurrence(wall: np.ndarray) -> np.ndarray:
    """Returns 1 and 2 for the first and second of exactly two equal wall times, else 0."""
    _, first, group, count = np.unique(
        wall, return_index=True, return_inverse=True, return_counts=True
    )
    place = 1 + (np.arange(len(wall)) != first[group])
    return np.asarray(np.where(count[group] == 2, place, 0))


def _wall(labels: np.ndarray, city: City) -> np.ndarray:
    """Returns the wall times that dates name."""
    number = _number(labels, 8 + digits(city))
    day, slot = np.divmod(number, 10 ** digits(city))
    month, day_of_month = np.divmod(day, 100)
    year, month_of_year = np.divmod(month, 100)
    readable = (year >= YEARS[0]) & (year <= YEARS[1])
    readable &= (month_of_year >= 1) & (month_of_year <= 12)
    months = np.where(readable, 12 * (year - 1970) + month_of_year - 1, 0).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + np.where(readable, day_of_month - 1, 0)
    readable &= days.astype("datetime64[M]") == months
    if not readable.all():
        raise FlowcastError(
            f"{(~readable).sum():,} of {len(labels):,} dates, the first "
            f"{_text(labels[~readable][0])!r}, cannot be read as YYYYMMDD{'S' * digits(city)}; "
            f"mend or remove them"
        )
    _check_slots(slot, labels, city)
    return np.asarray((days + (slot - city.first_slot) * city.step).astype("datetime64[s]"))


def _number(labels: np.ndarray, width: int) -> np.ndarray:
    """Returns the number that exactly `width` digits make, -1 where there are others."""
    text = np.char.rstrip(labels, b" \0").astype(f"S{width + 1}")
    figures = text.view(np.uint8).reshape(len(labels), width + 1).astype(np.int64) - ord("0")
    whole = figures[:, width] == -ord("0")
    whole &= ((figures[:, :width] >= 0) & (figures[:, :width] <= 9)).all(axis=1)
    return np.where(whole, figures[:, :width] @ 10 ** np.arange(width)[::-1], -1)


def _check_slots(slot: np.ndarray, labels: np.ndarray, city: City) -> None:
    """Refuses slots that the city's day does not have."""
    count, first = city.slots_per_day, city.first_slot
    outside = (slot < first) | (slot >= first + count)
    if not outside.any():
        return
    other = 1 - first
    fits = ((slot >= other) & (slot < other + count)).all()
    way_out = f"set first_slot = {other}" if fits else "check step and first_slot"
    raise FlowcastError(
        f"{outside.sum():,} of {len(labels):,} dates, the first {_text(labels[outside][0])!r}, "
        f"have a slot outside {first:0{digits(city)}}..{first + count - 1:0{digits(city)}}; "
        f"{way_out} in the TOML of {city.name}"
    )


def _text(label: bytes) -> str:
    return label.decode("ascii", "replace")
