"""The repeated hour: which of two slots a file means that names the time alone, which clocks showed twice.

The TaxiBJ layout tells slots by the city's clocks. A file of a live feed has one slot or some, and that of
the hour before clocks were set back has the same label as that of the hour after. What the archive holds
tells them apart: the first that comes is the first, and one with other values is the second.
"""

import numpy as np
import xarray as xr

from data.city import City
from data.clock import stamp
from data.errors import FlowcastError
from data.flow import label
from data.formats.reading import Reading
from data.store.store import Store


def told_apart(store: Store, city: City, reading: Reading) -> xr.DataArray:
    """Returns the flow of a reading, its doubtful slots at their times.

    Slots that follow one another are of the same pass. They are of the second one where the archive
    holds the first otherwise, or the second equally.

    Args:
        store: with the archive.
        city: whose it is.
        reading: of a file.

    Raises:
        FlowcastError: the archive holds both otherwise, so that it is not known which is corrected.
    """
    flow = reading.flow
    times = flow["time"].values.copy()
    for slots in _runs(np.array([*reading.doubtful], dtype="datetime64[s]"), city.step):
        seconds = np.array([reading.doubtful[slot] for slot in slots])
        values = flow.values[np.searchsorted(flow["time"].values, slots)]
        first, second = (
            _equal(store, city, reading.series, passed, values) for passed in (slots, seconds)
        )
        if first is False and second is False:
            shown = stamp(slots[0], city.timezone)
            raise FlowcastError(
                f"has the slot {shown}, which clocks in {city.timezone} showed twice, and both are "
                f"stored with other values; write it as CSV or Parquet with an offset, such as "
                f"{slots[0]}Z"
            )
        if first is False or (first is None and second):
            times[np.searchsorted(flow["time"].values, slots)] = seconds
    order = np.argsort(times)
    return label(flow.values[order], times[order], city)


def _runs(slots: np.ndarray, step: np.timedelta64) -> list[np.ndarray]:
    """Returns slots in parts that follow one another."""
    return np.split(slots, np.flatnonzero(np.diff(slots) > step) + 1) if len(slots) else []


def _equal(
    store: Store, city: City, series: str, slots: np.ndarray, values: np.ndarray
) -> bool | None:
    """Returns whether the stored ones of the slots have these values, None where none is stored."""
    stored = store.flow.read(city, series, first=slots[0], last=slots[-1])
    there = np.isin(slots, stored["time"].values)
    if not there.any():
        return None
    return bool((stored.sel(time=slots[there]).values == values[there]).all())
