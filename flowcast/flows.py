"""Flow from a user's own arrays: checked, with the first wrong value in the message."""

from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
import xarray as xr

from data.city import City, parse_step
from data.clock import Clock
from data.errors import FlowcastError
from data.flow import CHANNELS, DIMS, MOST, label
from data.holidays import check_country
from flowcast.own_packages import own_packages

SECOND = np.timedelta64(1, "s")


@own_packages()
def flow(
    values: Any,
    times: Any,
    *,
    timezone: str | None = None,
    step: str | np.timedelta64 | None = None,
    country: str = "",
    subdivision: str = "",
    name: str = "own",
) -> xr.DataArray:
    """Returns a flow made of an array of one's own, after checking it.

    Args:
        values: vehicles per step, dims `(time, channel, y, x)`; two channels, inflow and outflow.
        times: start of each slot with its zone, rising; gaps are allowed. A `pandas.DatetimeIndex`
            with a zone, or datetimes or ISO 8601 texts with an offset.
        timezone: IANA name of the city's zone, by whose calendar forecasts are made. None: that of
            `times`.
        step: time between two slots, such as `"30min"`. None: the commonest distance of `times`.
        country: whose public holidays count, ISO 3166 alpha-2; "" for none.
        subdivision: state or province with holidays of its own.
        name: of the city, for messages and attributes.

    Returns:
        dims `(time, channel, y, x)`, float32 vehicles per step, `time` in UTC; the attributes hold
        `city`, `timezone`, `step` (seconds), `units`, `country` and `subdivision`.

    Raises:
        FlowcastError: wrong shape, naive or irregular times, NaN, infinite or negative values.
    """
    moments, zone = _utc(times)
    zone = timezone or zone
    array = _numbers(values, len(moments))
    width = _step(moments, step)
    city = own_city(name, zone, width, array.shape[-2:], country, subdivision)
    return _labeled(array, moments, city)


def as_flow(values: Any, times: Any = None, city: City | None = None) -> xr.DataArray:
    """Returns a flow, or an array with `times`, as a checked flow.

    Args:
        values: DataArray as `flow` returns it, or an array `(time, channel, y, x)` with `times`.
        times: as `flow` takes them, where `values` are a bare array.
        city: whose zone, step, grid and holidays the flow must have; None for the array's own.

    Raises:
        FlowcastError: as `flow`, or it does not fit the city.
    """
    if isinstance(values, xr.DataArray):
        if times is not None:
            raise FlowcastError("a DataArray brings its own times; leave out times=")
        values, moments, zone, step = _taken_apart(values)
        holidays = {key: str(values.attrs.get(key, "")) for key in ("country", "subdivision")}
        name = str(values.attrs.get("city", "own"))
        array = _numbers(values.values, len(moments))
    else:
        if times is None:
            raise FlowcastError(
                f"an array of shape {np.shape(values)} has no times; give times=, or make a flow of "
                f"both by flowcast.flow(values, times)"
            )
        moments, zone = _utc(times)
        array, step = _numbers(values, len(moments)), None
        holidays, name = {}, "own"
        zone = city.timezone if city else zone
    if city is None:
        city = own_city(name, zone, _step(moments, step), array.shape[-2:], **holidays)
    elif zone != city.timezone:
        raise FlowcastError(
            f"the flow is of the zone {zone}, the model of {city.name}'s, {city.timezone}"
        )
    elif step is not None and step != city.step:
        raise FlowcastError(f"the flow has steps of {step}, the model of {city.step}")
    return _labeled(array, moments, city)


def own_city(
    name: str,
    timezone: str,
    step: np.timedelta64,
    grid: tuple[int, ...],
    country: str = "",
    subdivision: str = "",
) -> City:
    """Returns the city of an array of one's own.

    Raises:
        FlowcastError: the zone is no IANA name, or the country or the subdivision is unknown.
    """
    try:
        ZoneInfo(timezone)
    except (ValueError, OSError, ZoneInfoNotFoundError) as error:
        raise FlowcastError(
            f"timezone {timezone!r} is no IANA name; say the city's, such as "
            f'timezone="Asia/Shanghai"'
        ) from error
    try:
        check_country(country, subdivision)
    except ValueError as error:
        raise FlowcastError(str(error)) from error
    rows, columns = grid
    return City(
        name, name, timezone, step, (rows, columns), country=country, subdivision=subdivision
    )


def moment(time: Any, name: str) -> np.datetime64:
    """Returns the UTC time that an argument called `name` means.

    Args:
        time: with its zone, a text, a `datetime` or a `pandas.Timestamp`; or of a flow's own axis, which
            is UTC: a `numpy.datetime64` or an element of `flow["time"]`.
        name: of the argument, for messages.

    Raises:
        FlowcastError: it is no time, or naive.
    """
    if isinstance(time, xr.DataArray):
        time = time.values[()]
    if isinstance(time, np.datetime64) and not np.isnat(time):
        time = pd.Timestamp(time, tz="UTC")
    stamp = _timestamp(time, name)
    if stamp.tzinfo is None:
        raise FlowcastError(
            f"{name} {stamp} is naive; say its zone, such as "
            f'pd.Timestamp("{stamp}", tz="America/New_York"), or take a time of the flow, '
            f'such as flow["time"].values[-1]'
        )
    return np.datetime64(int(stamp.timestamp()), "s")


def check_count(name: str, value: Any, unit: str) -> int:
    """Returns the value of an argument that must be a whole number, 1 or more.

    Raises:
        FlowcastError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise FlowcastError(f"{name} {value!r} is no number of {unit}, 1 or more")
    return int(value)


def _timestamp(time: Any, name: str) -> pd.Timestamp:
    try:
        stamp = pd.Timestamp(time)
    except (ValueError, TypeError) as error:
        raise FlowcastError(f"{name} {time!r} is no time") from error
    if pd.isna(stamp):
        raise FlowcastError(f"{name} {time!r} is no time")
    return stamp


def _utc(times: Any) -> tuple[np.ndarray, str]:
    """Returns UTC times, `datetime64[s]`, and the zone that they came with."""
    if isinstance(times, xr.DataArray):
        times = times.values
    if not isinstance(times, pd.DatetimeIndex):
        listed = list(np.ravel(times)) if isinstance(times, np.ndarray) else list(times)
        stamps = [_timestamp(one, f"times[{i}]") for i, one in enumerate(listed)]
        naive = [one for one in stamps if one.tzinfo is None]
        if naive:
            raise _naive(naive[0])
        zones = {str(one.tzinfo) for one in stamps}
        index = pd.DatetimeIndex([one.tz_convert("UTC") for one in stamps], tz="UTC")
        zone = zones.pop() if len(zones) == 1 else "UTC"
    elif times.tz is None:
        raise _naive(times[0] if len(times) else "none")
    else:
        index, zone = times.tz_convert("UTC"), str(times.tz)
        if index.hasnans:
            raise FlowcastError(f"times[{int(np.argmax(index.isna()))}] is NaT, no time")
    return index.tz_localize(None).to_numpy().astype("datetime64[s]"), zone


def _naive(first: object) -> FlowcastError:
    return FlowcastError(
        f"the times are naive (the first is {first}); say their zone, such as "
        f'pd.DatetimeIndex(times, tz="UTC") or pd.DatetimeIndex(times).tz_localize("America/New_York", '
        f'ambiguous="infer", nonexistent="shift_forward")'
    )


def _taken_apart(
    array: xr.DataArray,
) -> tuple[xr.DataArray, np.ndarray, str, np.timedelta64 | None]:
    """Returns a DataArray in the order of a flow's dims, its UTC times, its zone, and its step if told."""
    if {*array.dims} != {*DIMS} or "time" not in array.coords:
        raise FlowcastError(
            f"a DataArray of dims {array.dims} is no flow, which has {DIMS}; make one by "
            f"flowcast.flow(values, times)"
        )
    array = array.transpose(*DIMS)
    if "channel" in array.coords:
        found = [str(one) for one in array["channel"].values]
        if sorted(found) != sorted(CHANNELS):
            raise FlowcastError(f"the channels are {found}, those of a flow {list(CHANNELS)}")
        array = array.sel(channel=list(CHANNELS))
    if "timezone" not in array.attrs:
        raise FlowcastError(
            f"the times of the DataArray are naive (the first is {array['time'].values[:1]}): set "
            f'flow.attrs["timezone"] = "America/New_York" where they are UTC, or make a flow by '
            f"flowcast.flow(values, times)"
        )
    step = array.attrs.get("step")
    width = None if step is None else np.timedelta64(int(step), "s")
    moments = array["time"].values.astype("datetime64[s]")
    return array, moments, str(array.attrs["timezone"]), width


def _numbers(values: Any, count: int) -> np.ndarray:
    """Returns values of the shape of a flow of `count` slots."""
    array = np.asarray(values)
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise FlowcastError(f"values of dtype {array.dtype} are no numbers")
    if array.ndim != 4:
        raise FlowcastError(
            f"values of shape {array.shape} have {array.ndim} dims; a flow has 4: {', '.join(DIMS)}"
        )
    if array.shape[1] != len(CHANNELS):
        turn = "; turn them by np.moveaxis(values, -1, 1)" if array.shape[-1] == 2 else ""
        raise FlowcastError(
            f"values of shape {array.shape} have {array.shape[1]} channels; a flow has 2: "
            f"{', '.join(CHANNELS)}{turn}"
        )
    if array.shape[0] != count:
        raise FlowcastError(f"there are {array.shape[0]} slots of values, but {count} times")
    if not array.size:
        raise FlowcastError(f"values of shape {array.shape} are empty")
    return array


def _step(moments: np.ndarray, step: str | np.timedelta64 | None) -> np.timedelta64:
    """Returns the step that was named, or the commonest distance of the times."""
    named = step is not None
    if step is None:
        distances = np.diff(moments)
        if not len(distances):
            raise FlowcastError('one time has no step; name it, such as step="1h"')
        if (distances <= np.timedelta64(0, "s")).any():
            at = int(np.argmax(distances <= np.timedelta64(0, "s")))
            raise FlowcastError(
                f"times[{at + 1}], {moments[at + 1]}Z, does not lie after times[{at}], "
                f"{moments[at]}Z; sort the slots by time and leave out what comes twice"
            )
        found, counts = np.unique(distances, return_counts=True)
        step = found[np.argmax(counts)]
    try:
        if not isinstance(step, str):
            step = f"{int(pd.Timedelta(step).total_seconds())}s"
        return parse_step(step)
    except ValueError as error:
        how = (
            ""
            if named
            else ', the commonest distance of the times; name another, such as step="1h"'
        )
        raise FlowcastError(f"{error}{how}") from error


def _labeled(array: np.ndarray, moments: np.ndarray, city: City) -> xr.DataArray:
    """Returns the checked flow of a city."""
    if array.shape[-2:] != city.grid:
        raise FlowcastError(
            f"values of shape {array.shape} have a grid of {list(array.shape[-2:])}, "
            f"{city.name} one of {list(city.grid)}"
        )
    clock = Clock(city.step, city.timezone)
    number = clock.number(moments, moments[0])
    off = clock.time(moments[0], number) != moments
    if off.any():
        at = int(np.argmax(off))
        raise FlowcastError(
            f"the times are irregular: times[{at}], {moments[at]}Z, is no whole number of steps of "
            f"{int(city.step / SECOND)} s after {moments[0]}Z; count the vehicles anew in slots of one step"
        )
    if (np.diff(number) <= 0).any():
        at = int(np.argmax(np.diff(number) <= 0))
        raise FlowcastError(
            f"times[{at + 1}], {moments[at + 1]}Z, does not lie after times[{at}], {moments[at]}Z; "
            f"sort the slots by time and leave out what comes twice"
        )
    with np.errstate(invalid="ignore"):
        for wrong, what, way in (
            (~np.isfinite(array), "not finite", "leave such slots out, for gaps are allowed"),
            (array < 0, "negative", "set them to 0, or leave such slots out"),
            (array > MOST, f"above {MOST:.0f}", "leave such slots out, for gaps are allowed"),
        ):
            if wrong.any():
                first = tuple(int(one[0]) for one in np.nonzero(wrong))
                raise FlowcastError(
                    f"{int(wrong.sum())} values are {what}, the first {array[first]} at "
                    f"{moments[first[0]]}Z, {CHANNELS[first[1]]}, y {first[2]}, x {first[3]}; {way}"
                )
    return label(array, moments, city)
