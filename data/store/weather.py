"""Weather in the store: a value for each city, time and variable; a missing value is no row."""

from array import array
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
import xarray as xr

from data.city import City
from data.store.columns import as_seconds, as_times
from data.store.database import Database
from data.store.ingests import Added, Source, record
from data.store.schema import WEATHER, WEATHER_REVISION
from data.weather import label_weather

ROWS = 20_000
"""Values that go to or come from the database at a time."""
KEY = (
    WEATHER.c.city == sa.bindparam("of"),
    WEATHER.c.time == sa.bindparam("at"),
    WEATHER.c.variable == sa.bindparam("what"),
)


def add_weather(
    database: Database,
    city: City,
    weather: xr.DataArray,
    source: Source,
    repairs: Mapping[str, int],
) -> Added:
    """Stores the records of one file, all or none, and an entry in the ledger of ingests.

    A value that is stored otherwise takes the new one, and the old is kept as a revision; a missing
    value changes nothing.

    Returns:
        How many records had new values and replaced none, had equal ones only, or replaced others.

    Raises:
        StoreError: the database cannot be written.
    """
    time = weather["time"].values
    with database.write() as connection:
        old = _weather(connection, city, time[0], time[-1]).reindex_like(weather).values
        given = np.isfinite(weather.values)
        new = given & np.isnan(old)
        changed = given & ~new & (old != weather.values)
        added = _added(given, new, changed)
        ingest = record(connection, city, source, added, repairs, "stored", "")
        for rows in _rows(city, weather, changed, ingest):
            connection.execute(_kept(), rows)
            connection.execute(_replaced(), rows)
        for rows in _rows(city, weather, new, ingest):
            connection.execute(_inserted(), rows)
    return added


def read_weather(
    database: Database, city: City, first: np.datetime64 | None, last: np.datetime64 | None
) -> xr.DataArray:
    """Returns the weather of a city known from `first` to `last`, UTC; variables by their names."""
    with database.read() as connection:
        return _weather(connection, city, first, last)


def weather_revisions(database: Database, city: City) -> pd.DataFrame:
    """Returns the values that were replaced: `time`, `variable` and `value`, oldest first."""
    query = sa.select(
        WEATHER_REVISION.c.time, WEATHER_REVISION.c.variable, WEATHER_REVISION.c.value
    ).where(WEATHER_REVISION.c.city == city.name)
    with database.read() as connection:
        rows = connection.execute(query.order_by(WEATHER_REVISION.c.id)).all()
    table = pd.DataFrame(rows, columns=["time", "variable", "value"])
    return table.assign(time=as_times(table["time"].to_numpy(dtype=np.int64)))


def _weather(
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
        query = query.where(WEATHER.c.time >= int(as_seconds(np.asarray(first))))
    if last is not None:
        query = query.where(WEATHER.c.time <= int(as_seconds(np.asarray(last))))
    names: dict[str, int] = {}
    times, variables, found = array("q"), array("q"), array("d")
    for time, variable, value in connection.execute(query, execution_options={"yield_per": ROWS}):
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
    for start in range(0, len(places), ROWS):
        yield [
            {
                "of": city.name,
                "at": seconds[time],
                "what": names[variable],
                "new": float(values[time, variable]),
                "by": ingest,
            }
            for time, variable in places[start : start + ROWS].tolist()
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
