"""Calendars: what people must know of a city's holidays."""

import numpy as np
import xarray as xr

from data.clock import wall
from data.holidays import Holidays


def unknown_years(flow: xr.DataArray, times: np.ndarray) -> tuple[str, ...]:
    """Returns a sentence where the calendar of holidays does not know the years of some times.

    Args:
        flow: or a forecast, for its country and timezone.
        times: UTC, of any shape.
    """
    holidays = Holidays.of(flow)
    days = wall(times, str(flow.attrs["timezone"])).astype("datetime64[D]")
    if not (years := holidays.unknown(np.unique(days))):
        return ()
    named = ", ".join(map(str, years))
    return (
        f"the holidays of {holidays.country} in {named} are not known, or only in part: their days "
        f"may count as ordinary ones; a newer version of the package holidays may know them",
    )
