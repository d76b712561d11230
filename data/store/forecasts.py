"""Forecasts in the store, with their bands, and how the bands of each version stand."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
import xarray as xr

from data.city import City
from data.clock import Clock
from data.flow import CHANNELS
from data.intervals import band, packed, unpacked, with_band
from data.store.columns import as_second, as_times, key_of, now
from data.store.database import Database
from data.store.schema import CALIBRATION, FLOW, FORECAST

ROWS = 64
"""Forecasts that are taken from the database at a time."""


def add_forecast(database: Database, city: City, forecast: xr.DataArray) -> int:
    """Stores one forecast (a stack of one) with attributes and bands, and returns its number."""
    if forecast.sizes["init_time"] != 1:
        raise ValueError("one forecast at a time")
    around = band(forecast)
    with database.write() as connection:
        result = connection.execute(
            sa.insert(FORECAST).values(
                city=city.name,
                init_time=as_second(forecast["init_time"].values[0]),
                created_at=now(),
                horizon=forecast.sizes["lead_time"],
                forecaster=str(forecast.attrs["forecaster"]),
                attributes=json.dumps(forecast.attrs),
                frames=np.ascontiguousarray(forecast.values[0], dtype="<f4").tobytes(),
                band=None if around is None else packed(around.values),
            )
        )
    return key_of(result)


def read_forecast(
    database: Database, city: City, init_time: np.datetime64 | None
) -> xr.DataArray | None:
    """Returns the newest forecast, or the newest of those made at `init_time`."""
    query = sa.select(FORECAST).where(FORECAST.c.city == city.name)
    if init_time is None:
        query = query.order_by(FORECAST.c.init_time.desc(), FORECAST.c.id.desc())
    else:
        query = query.where(FORECAST.c.init_time == as_second(init_time))
        query = query.order_by(FORECAST.c.id.desc())
    with database.read() as connection:
        row = connection.execute(query.limit(1)).first()
    return None if row is None else _forecast(row, city)


def read_forecasts(
    database: Database, city: City, after: np.datetime64, until: np.datetime64
) -> Iterator[xr.DataArray]:
    """Yields the forecasts made after `after` and until `until`, UTC, in the order of time.

    Of several with one `init_time` all come, the newest last.
    """
    query = (
        sa.select(FORECAST)
        .where(FORECAST.c.city == city.name)
        .where(FORECAST.c.init_time > as_second(after), FORECAST.c.init_time <= as_second(until))
        .order_by(FORECAST.c.init_time, FORECAST.c.id)
    )
    with database.read() as connection:
        for row in connection.execute(query, execution_options={"yield_per": ROWS}):
            yield _forecast(row, city)


def first_forecast(database: Database, city: City) -> np.datetime64 | None:
    """Returns when the city's first forecast was made, UTC; None where there is none."""
    query = sa.select(sa.func.min(FORECAST.c.init_time)).where(FORECAST.c.city == city.name)
    with database.read() as connection:
        first = connection.execute(query).scalar()
    return None if first is None else as_times([first])[0]


def list_forecasts(database: Database, city: City, last: int) -> pd.DataFrame:
    """Returns the newest forecasts without their frames, oldest first."""
    columns = ("init_time", "created_at", "horizon", "forecaster", "attributes")
    query = (
        sa.select(*(FORECAST.c[name] for name in columns))
        .where(FORECAST.c.city == city.name)
        .order_by(FORECAST.c.init_time.desc(), FORECAST.c.id.desc())
        .limit(last)
    )
    with database.read() as connection:
        rows = connection.execute(query).mappings().all()
    table = pd.DataFrame(rows[::-1], columns=columns)
    for name in ("init_time", "created_at"):
        table[name] = as_times(table[name].to_numpy(dtype=np.int64))
    told = [json.loads(text) for text in table.pop("attributes")]
    return table.assign(
        version=[one["model_version"] for one in told], notes=[one["notes"] for one in told]
    )


def read_lacking(
    database: Database, city: City, first: np.datetime64, last: np.datetime64
) -> np.ndarray:
    """Returns the slots from `first` to `last` that have no forecast though an earlier one has, UTC."""
    made = sa.select(FORECAST.c.init_time).where(FORECAST.c.city == city.name)
    oldest = sa.select(sa.func.min(FORECAST.c.init_time)).where(FORECAST.c.city == city.name)
    span = as_second(first), as_second(last)
    query = (
        sa.select(FLOW.c.time)
        .where(FLOW.c.city == city.name, FLOW.c.series == "observed", FLOW.c.time.between(*span))
        .where(FLOW.c.time > oldest.scalar_subquery())
        .where(FLOW.c.time.not_in(made.where(FORECAST.c.init_time.between(*span))))
        .order_by(FLOW.c.time)
    )
    with database.read() as connection:
        return as_times(connection.execute(query).scalars().all())


def keep_calibration(
    database: Database, city: City, version: str, time: np.datetime64, content: bytes
) -> None:
    """Stores how the bands of a version stand at `time`, in place of how they stood."""
    of = (CALIBRATION.c.city == city.name, CALIBRATION.c.version == version)
    with database.write() as connection:
        connection.execute(sa.delete(CALIBRATION).where(*of))
        connection.execute(
            sa.insert(CALIBRATION).values(
                city=city.name, version=version, time=as_second(time), content=content
            )
        )


def read_calibration(
    database: Database, city: City, version: str
) -> tuple[np.datetime64, bytes] | None:
    """Returns when the bands of a version were kept, UTC, and what was kept; None: never."""
    query = sa.select(CALIBRATION.c.time, CALIBRATION.c.content).where(
        CALIBRATION.c.city == city.name, CALIBRATION.c.version == version
    )
    with database.read() as connection:
        row = connection.execute(query).first()
    return None if row is None else (as_times([row.time])[0], row.content)


def _forecast(row: "sa.Row[Any]", city: City) -> xr.DataArray:
    init_times = as_times([row.init_time])
    clock = Clock(city.step, city.timezone)
    leads = np.arange(1, row.horizon + 1)
    forecast = xr.DataArray(
        np.frombuffer(row.frames, "<f4").reshape(1, row.horizon, len(CHANNELS), *city.grid),
        dims=("init_time", "lead_time", "channel", "y", "x"),
        coords={
            "init_time": init_times,
            "lead_time": leads * clock.step,
            "channel": list(CHANNELS),
            "valid_time": (("init_time", "lead_time"), clock.time(init_times[:, None], leads)),
        },
        name="flow",
        attrs=json.loads(row.attributes),
    )
    return with_band(forecast, unpacked(row.band, forecast.shape)) if row.band else forecast
