"""Weather in the store: a value for each city, time and variable; a missing value is no row."""

from array import array
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
import xarray as xr

from data.city import City
from data.store.columns import as_second, as_seconds, as_times
from data.store.database import Repository
from data.store.ingests import Added, Source, add_ingest
from data.store.schema import WEATHER, WEATHER_REVISION
from data.weather import label_weather

BATCH_ROWS = 20_000
"""Values that go to or come from the database at a time."""
KEY = (
    WEATHER.c.city == sa.bindparam("of"),
    WEATHER.c.time == sa.bindparam("at"),
    WEATHER.c.variable == sa.bindparam("what"),
)


class WeatherRecords(Repository):
    """The weather in `database`."""

    def add(
        self,
        city: City,
        weather: xr.DataArray,
        *,
        source: Source,
        repairs: Mapping[str, int] | None = None,
    ) -> Added:
        """Stores the records of one file, all or none, and an entry in the ledger of ingests.

        A value that is stored otherwise takes the new one, and the old is kept as a revision; a
        missing value changes nothing.

        Returns:
            How many records had new values and replaced none, had equal ones only, or replaced
            others.

        Raises:
            StoreError: the database cannot be written.
        """
        time = weather["time"].values
        with self._database.write() as connection:
            old = _read(connection, city, time[0], time[-1]).reindex_like(weather).values
            given = np.isfinite(weather.values)
            new = given & np.isnan(old)
            changed = given & ~new & (old != weather.values)
            added = _added(given, new, changed)
            ingest = add_ingest(connection, city, source, added, repairs or {})
            for rows in _rows(city, weather, changed, ingest):
                connection.execute(_kept(), rows)
                connection.execute(_replaced(), rows)
            for rows in _rows(city, weather, new, ingest):
                connection.execute(_inserted(), rows)
        return added

    def read(
        self,
        city: City,
        *,
        first: np.datetime64 | None = None,
        last: np.datetime64 | None = None,
    ) -> xr.DataArray:
        """Returns the weather known from `first` to `last`, UTC, dims `(time, variable)`.

        Variables are ordered by name; those without a value in this span are left out. Without
        records both dims are empty.
        """
        with self._database.read() as connection:
            return _read(connection, city, first, last)

    def revisions(self, city: City) -> pd.DataFrame:
        """Returns the values that were replaced: `time`, `variable` and `value`, oldest first."""
        columns = (WEATHER_REVISION.c[name] for name in ("time", "variable", "value"))
        query = sa.select(*columns).where(WEATHER_REVISION.c.city == city.name)
        return self._database.table(query.order_by(WEATHER_REVISION.c.id), times=["time"])


def _read(
    connection: sa.Connection,
    city: City,
    first: np.datetime64 | None,
    last: np.datetime64 | None,
) -> xr.DataArray:
    query = (
        sa.select(WEATHER.c.time, WEATHER.c.variable, WEATHER.c.value)
        .where(WEATHER.c.city == city.name)
        .order_by(WEATHER.c.time)
    )
    if first is not None:
        query = query.where(WEATHER.c.time >= as_second(first))
    if last is not None:
        query = query.where(WEATHER.c.time <= as_second(last))
    names: dict[str, int] = {}
    times, variables, found = array("q"), array("q"), array("d")
    for time, variable, value in connection.execute(
        query, execution_options={"yield_per": BATCH_ROWS}
    ):
        times.append(time)
        variables.append(names.setdefault(variable, len(names)))
        found.append(value)
    time, row = np.unique(np.asarray(times, dtype=np.int64), return_inverse=True)
    values = np.full((len(time), len(names)), np.nan, dtype=np.float32)
    values[row, np.asarray(variables, dtype=np.int64)] = found
    order = sorted(names)
    return label_weather(values[:, [names[name] for name in order]], as_times(time), order, city)


def _added(given: np.ndarray, new: np.ndarray, changed: np.ndarray) -> Added:
    replaced = changed.any(axis=1)
    fresh = new.any(axis=1) & ~replaced
    equal = given.any(axis=1) & ~fresh & ~replaced
    return Added(int(fresh.sum()), int(equal.sum()), int(replaced.sum()))


def _rows(
    city: City, weather: xr.DataArray, which: np.ndarray, ingest: int
) -> Iterator[list[dict[str, Any]]]:
    """Yields the values `which`, dims `(time, variable)`, as parameters of the statements."""
    seconds = as_seconds(weather["time"].values).tolist()
    names, values = weather["variable"].values.tolist(), weather.values
    places = np.argwhere(which)
    for start in range(0, len(places), BATCH_ROWS):
        yield [
            {
                "of": city.name,
                "at": seconds[time],
                "what": names[variable],
                "new": float(values[time, variable]),
                "by": ingest,
            }
            for time, variable in places[start : start + BATCH_ROWS].tolist()
        ]


def _inserted() -> sa.Insert:
    return sa.insert(WEATHER).values(
        city=sa.bindparam("of"),
        time=sa.bindparam("at"),
        variable=sa.bindparam("what"),
        value=sa.bindparam("new"),
        ingest=sa.bindparam("by"),
    )


def _replaced() -> sa.Update:
    return (
        sa.update(WEATHER).where(*KEY).values(value=sa.bindparam("new"), ingest=sa.bindparam("by"))
    )


def _kept() -> sa.Insert:
    """Returns the statement that keeps a value as a revision before it is replaced."""
    columns = ("city", "time", "variable", "value", "ingest")
    old = sa.select(*(WEATHER.c[name] for name in columns), sa.bindparam("by", type_=sa.Integer))
    return sa.insert(WEATHER_REVISION).from_select([*columns, "replaced_by"], old.where(*KEY))
