"""Weather: what was measured in a city, each record with the time from which it is known.

Weather is an `xarray.DataArray` named `weather` with dims `(time, variable)`: float32, NaN where a value
is missing. `time` is UTC, strictly rising, of any distance: when the record was known, not when its
period began, so that no forecast sees what could not be seen. The record of a day or of a slot is
known when the day or the slot is over. Each variable keeps the unit of its file; the attributes are
those of a flow of the city.
"""

import re
from collections.abc import Sequence

import numpy as np
import xarray as xr

from data.city import City
from data.errors import FlowcastError
from data.flow import attributes

DIMS = ("time", "variable")
VARIABLE = re.compile(r"[a-z][a-z0-9_]{0,63}")
CURRENT = np.timedelta64(25, "h")
"""How long a value counts where none follows: a day, with the hour that one a year is longer."""


def label_weather(
    values: np.ndarray, time: np.ndarray, variables: Sequence[str], city: City
) -> xr.DataArray:
    """Returns the checked weather of `city`: values `(time, variable)`, each known at UTC `time`.

    Raises:
        FlowcastError: the values break the contract above.
    """
    weather = xr.DataArray(
        np.asarray(values, dtype=np.float32),
        dims=DIMS,
        coords={
            "time": np.asarray(time, dtype="datetime64[s]"),
            "variable": np.asarray(variables, dtype=np.str_),
        },
        name="weather",
        attrs={key: value for key, value in attributes(city).items() if key != "units"},
    )
    return _validate(weather)


def _validate(weather: xr.DataArray) -> xr.DataArray:
    names = weather["variable"].values.tolist()
    if wrong := [name for name in names if not VARIABLE.fullmatch(name)]:
        raise FlowcastError(
            f"{wrong[0]!r} is no name of a variable of the weather: small letters, digits and _, "
            f"beginning with a letter, 64 at most"
        )
    if len(set(names)) != len(names):
        raise FlowcastError("each variable of the weather has a name of its own")
    if np.isinf(weather.values).any():
        raise FlowcastError("weather is finite, or NaN where it is missing")
    if not (np.diff(weather["time"].values) > np.timedelta64(0, "s")).all():  # NaT does not rise
        raise FlowcastError("the times of weather rise strictly")
    return weather


def known(weather: xr.DataArray, init_times: np.ndarray) -> xr.DataArray:
    """Returns the newest value of each variable that was known at each of `init_times`, UTC.

    A value that is more than 25 hours old counts as missing: NaN.

    Returns:
        dims `(init_time, variable)`.
    """
    at = np.asarray(init_times, dtype="datetime64[s]")
    time = weather["time"].values
    values = np.full((len(at), weather.sizes["variable"]), np.nan, dtype=np.float32)
    for column, series in zip(values.T, weather.values.T, strict=True):
        there = np.flatnonzero(~np.isnan(series))
        newest = np.searchsorted(time[there], at, side="right") - 1
        seen = np.flatnonzero(newest >= 0)
        record = there[newest[seen]]
        current = at[seen] - time[record] <= CURRENT
        column[seen[current]] = series[record[current]]
    return xr.DataArray(
        values,
        dims=("init_time", "variable"),
        coords={"init_time": at, "variable": weather["variable"].values},
        name="weather",
        attrs=weather.attrs,
    )
