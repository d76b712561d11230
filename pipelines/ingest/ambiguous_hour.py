"""The ambiguous hour: which of two slots a file means whose local time occurs twice.

The TaxiBJ layout names slots by local time. A file of a live feed has one slot or a few, and that of the
hour before clocks are set back has the same label as that of the hour after. The archive decides: the
first to be ingested is the first, and one with other values is the second.
"""

import numpy as np
import xarray as xr

from data.city import City
from data.clock import stamp
from data.errors import FlowcastError
from data.flow import label
from data.formats.reading import Reading
from data.store.store import Store


def resolve_ambiguous(store: Store, city: City, reading: Reading) -> xr.DataArray:
    """Returns the flow of a reading, its ambiguous slots at their times.

    Consecutive slots belong to the same pass of the hour. It is the second pass where the archive has
    other values at the first, or equal ones at the second.

    Args:
        store: with the archive.
        city: whose it is.
        reading: of a file.

    Raises:
        FlowcastError: the archive has other values at both, so that it is not known which is corrected.
    """
    flow = reading.flow
    times = flow["time"].values.copy()
    ambiguous = np.array([*reading.ambiguous], dtype="datetime64[s]")
    for slots in _consecutive(ambiguous, city.step):
        seconds = np.array([reading.ambiguous[slot] for slot in slots])
        values = flow.values[np.searchsorted(flow["time"].values, slots)]
        first, second = (
            _is_stored(store, city, reading.series, times_of_pass, values)
            for times_of_pass in (slots, seconds)
        )
        if first is False and second is False:
            wall = stamp(slots[0], city.timezone)
            raise FlowcastError(
                f"has the slot {wall}, which is ambiguous in {city.timezone}, and both are stored with "
                f"other values; write it as CSV or Parquet with an offset, such as {slots[0]}Z"
            )
        if first is False or (first is None and second):
            times[np.searchsorted(flow["time"].values, slots)] = seconds
    order = np.argsort(times)
    return label(flow.values[order], times[order], city)


def _consecutive(slots: np.ndarray, step: np.timedelta64) -> list[np.ndarray]:
    """Returns runs of consecutive slots."""
    return np.split(slots, np.flatnonzero(np.diff(slots) > step) + 1) if len(slots) else []


def _is_stored(
    store: Store, city: City, series: str, slots: np.ndarray, values: np.ndarray
) -> bool | None:
    """Returns whether those slots that are stored have these values, None where none is stored."""
    stored = store.flow.read(city, series, first=slots[0], last=slots[-1])
    known = np.isin(slots, stored["time"].values)
    if not known.any():
        return None
    return bool((stored.sel(time=slots[known]).values == values[known]).all())
