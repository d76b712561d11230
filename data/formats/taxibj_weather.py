"""Weather in the TaxiBJ layout, `BJ_Meteorology.h5` -> weather.

HDF5 with a row a slot: `date` as in the flow's files, `Temperature` in degrees Celsius, `WindSpeed` in
miles per hour, `Weather` a one-hot of 17 types, in the order of
https://github.com/lucktroy/DeepST/tree/master/data/TaxiBJ (Zhang, Zheng and Qi, AAAI 2017, arXiv
1610.00081). A slot's record is known when the slot is over.
"""

from pathlib import Path

import numpy as np

from data.city import City
from data.clock import Clock
from data.errors import FlowcastError
from data.formats.reading import WeatherReading, weather_reading
from data.formats.sandbox.read_in_child import read_weather_in_child
from data.formats.taxibj_dates import times

TYPES = (
    *("sunny", "cloudy", "overcast", "rainy", "sprinkle", "moderate_rain", "heavy_rain"),
    *("rainstorm", "thunderstorm", "freezing_rain", "snowy", "light_snow", "moderate_snow"),
    *("heavy_snow", "foggy", "sandstorm", "dusty"),
)
VARIABLES = ("temperature", "wind_speed", *TYPES)


def open_taxibj_weather(path: Path, city: City) -> WeatherReading:
    """Returns the weather of a file like `BJ_Meteorology.h5` and what was repaired in it.

    Raises:
        FlowcastError: the file is refused; the sentence says why and what to do.
    """
    contents = read_weather_in_child(path)
    try:
        values = contents.values.copy()
        types = values[:, 2:]
        wrong = np.asarray(((types < 0) | (types > 1)).any(axis=1))
        if wrong.any():
            raise FlowcastError(
                f"{wrong.sum():,} of {len(wrong):,} rows of Weather, the first of "
                f"{contents.dates[wrong][0].decode('ascii', 'replace')}, are no one-hot of "
                f"{len(TYPES)} types; mend them"
            )
        types[~types.any(axis=1)] = np.nan  # no type at all
        values[~np.isfinite(values)] = np.nan
        start, ambiguous, _ = times(contents.dates, city)
        exists = ~np.isnat(start)
        end = np.full_like(start, "NaT")
        end[exists] = Clock(city.step, city.timezone).time(start[exists], np.ones(1, dtype=int))
        repairs = {"skipped_hour": int((~exists).sum()), "repeated_hour": int(ambiguous.sum())}
        return weather_reading(values, end, VARIABLES, city, repairs)
    except FlowcastError as error:
        raise FlowcastError(f"{path}: {error}") from error
