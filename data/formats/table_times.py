"""Times of tables of flow: texts of ISO 8601 -> UTC, each the start of a slot."""

import re

import numpy as np
import pandas as pd

from data.city import City
from data.clock import local, stamp, utc
from data.errors import FlowcastError
from data.formats.taxibj_dates import YEARS

# The form that a text may have, for pandas takes 2026 and 20260101 for times too.
TIME = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)"
    r"(?:[tT ](?P<time>\d\d:\d\d(?::\d\d(?:\.0*)?)?) ?(?P<offset>[zZ]|UTC|[+-]\d\d(?::?\d\d)?)?)?"
)


def moments_of(column: pd.Series, city: City) -> tuple[np.ndarray, bool]:
    """Returns the times of rows, UTC, and whether they have an offset.

    Raises:
        FlowcastError: they are no times, ambiguous, or not the start of a slot.
    """
    place, unique = pd.factorize(column, use_na_sentinel=False)
    found = [_match(str(one)) for one in unique]
    marked = [one["offset"] is not None for one in found]
    if len({*marked}) > 1:
        raise FlowcastError(
            "has times with and without an offset; write all with one, or all without"
        )
    texts = [f"{one['day']}T{one['time'] or '00:00'}{_offset(one['offset'])}" for one in found]
    try:
        parsed = pd.to_datetime(pd.Series(texts), utc=marked[0], format="ISO8601")
    except ValueError as error:
        raise _none(str(error).splitlines()[0][:80]) from error
    if marked[0]:
        parsed = parsed.dt.tz_localize(None)
    parsed_times = parsed.to_numpy().astype("datetime64[s]")
    moments = parsed_times if marked[0] else _unambiguous(parsed_times, city)
    _check_grid_of_time(moments, city)
    return np.asarray(moments[place]), marked[0]


def _match(text: str) -> re.Match[str]:
    found = TIME.fullmatch(text.strip())
    if found is None or not YEARS[0] <= int(text.strip()[:4]) <= YEARS[1]:
        raise _none(repr(text[:40]))
    return found


def _offset(text: str | None) -> str:
    if text is None:
        return ""
    return "Z" if text in ("z", "Z", "UTC") else text


def _none(text: str) -> FlowcastError:
    return FlowcastError(
        f"has no time in its column time but {text}; write it like 2016-03-20T08:00 or "
        f"2016-03-20T08:00+08:00"
    )


def _unambiguous(wall: np.ndarray, city: City) -> np.ndarray:
    """Returns wall times in UTC.

    Raises:
        FlowcastError: one is ambiguous or does not exist.
    """
    zoned = pd.DatetimeIndex(wall).tz_localize(city.timezone, ambiguous="NaT", nonexistent="NaT")
    if (unknown := zoned.isna()).any():
        raise FlowcastError(
            f"has the time {pd.Timestamp(wall[unknown][0]):%Y-%m-%d %H:%M}, which is ambiguous "
            f"or does not exist in {city.timezone}; write its times with an offset, such as +01:00"
        )
    return utc(wall, city.timezone)


def _check_grid_of_time(moments: np.ndarray, city: City) -> None:
    """Refuses times at which no slot of the city begins."""
    step = int(city.step / np.timedelta64(1, "s"))
    shown = local(moments, city.timezone)
    seconds = (shown.hour * 3600 + shown.minute * 60 + shown.second).to_numpy()
    if not (wrong := seconds % (step if step > 3600 else min(step, 3600)) != 0).any():
        return
    every = f"{step // 3600} h" if step > 3600 else f"{step // 60} min"
    raise FlowcastError(
        f"has a slot at {stamp(moments[wrong][0], city.timezone)}:{shown[wrong][0].second:02}, but "
        f"slots of {city.name} begin every {every} from midnight; mend its times"
    )
