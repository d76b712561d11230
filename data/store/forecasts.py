"""Forecasts in the store, and how the prediction intervals of each version are calibrated."""

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
from data.intervals import intervals_of, pack, unpack, with_intervals
from data.store.columns import as_second, as_times, key_of, now
from data.store.database import Repository
from data.store.schema import CALIBRATION, FLOW, FORECAST

FETCHED_ROWS = 64
"""Forecasts that are taken from the database at a time."""


class Forecasts(Repository):
    """The forecasts in `database`; of several with one `init_time` the newest counts."""

    def add(self, city: City, forecast: xr.DataArray) -> int:
        """Stores one forecast (a stack of one) with its prediction intervals; returns its number.

        Forecasts are never overwritten.
        """
        if forecast.sizes["init_time"] != 1:
            raise ValueError("one forecast at a time")
        edges = intervals_of(forecast)
        with self._database.write() as connection:
            result = connection.execute(
                sa.insert(FORECAST).values(
                    city=city.name,
                    init_time=as_second(forecast["init_time"].values[0]),
                    created_at=now(),
                    horizon=forecast.sizes["lead_time"],
                    forecaster=str(forecast.attrs["forecaster"]),
                    attributes=json.dumps(forecast.attrs),
                    frames=np.ascontiguousarray(forecast.values[0], dtype="<f4").tobytes(),
                    band=None if edges is None else pack(edges.values),
                )
            )
        return key_of(result)

    def newest(self, city: City, init_time: np.datetime64 | None = None) -> xr.DataArray | None:
        """Returns the newest forecast, or the newest of those made at `init_time`, UTC.

        Its prediction intervals are as near to those that were stored as `pack` says.
        """
        query = sa.select(FORECAST).where(FORECAST.c.city == city.name)
        if init_time is not None:
            query = query.where(FORECAST.c.init_time == as_second(init_time))
        query = query.order_by(FORECAST.c.init_time.desc(), FORECAST.c.id.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else _forecast(row, city)

    def between(
        self, city: City, after: np.datetime64, until: np.datetime64
    ) -> Iterator[xr.DataArray]:
        """Yields the forecasts made after `after` and until `until`, UTC, in the order of time.

        Of several with one `init_time` all are yielded, the newest last.
        """
        query = (
            sa.select(FORECAST)
            .where(FORECAST.c.city == city.name)
            .where(
                FORECAST.c.init_time > as_second(after), FORECAST.c.init_time <= as_second(until)
            )
            .order_by(FORECAST.c.init_time, FORECAST.c.id)
        )
        options = {"yield_per": FETCHED_ROWS}
        with self._database.read() as connection:
            for row in connection.execute(query, execution_options=options):
                yield _forecast(row, city)

    def first(self, city: City) -> np.datetime64 | None:
        """Returns the `init_time` of the city's first forecast, UTC; None without forecasts."""
        query = sa.select(sa.func.min(FORECAST.c.init_time)).where(FORECAST.c.city == city.name)
        with self._database.read() as connection:
            first = connection.execute(query).scalar()
        return None if first is None else as_times([first])[0]

    def table(self, city: City, last: int = 200) -> pd.DataFrame:
        """Returns the `last` newest forecasts without their frames, oldest first.

        Returns:
            columns `init_time` and `created_at` (UTC), `horizon`, `forecaster`, `version` (of the
            model, "" without one) and `notes` (sentences, one a line).
        """
        columns = ("init_time", "created_at", "horizon", "forecaster", "attributes")
        query = (
            sa.select(*(FORECAST.c[name] for name in columns))
            .where(FORECAST.c.city == city.name)
            .order_by(FORECAST.c.init_time.desc(), FORECAST.c.id.desc())
            .limit(last)
        )
        table = self._database.table(query, times=["init_time", "created_at"])
        table = table.iloc[::-1].reset_index(drop=True)
        attributes = [json.loads(text) for text in table.pop("attributes")]
        return table.assign(
            version=[one["model_version"] for one in attributes],
            notes=[one["notes"] for one in attributes],
        )

    def missing(self, city: City, first: np.datetime64, last: np.datetime64) -> np.ndarray:
        """Returns the observed slots from `first` to `last` without a forecast, UTC, oldest first.

        Slots before the city's first forecast do not count.
        """
        made = sa.select(FORECAST.c.init_time).where(FORECAST.c.city == city.name)
        oldest = sa.select(sa.func.min(FORECAST.c.init_time)).where(FORECAST.c.city == city.name)
        span = as_second(first), as_second(last)
        query = (
            sa.select(FLOW.c.time)
            .where(FLOW.c.city == city.name, FLOW.c.series == "observed")
            .where(FLOW.c.time.between(*span), FLOW.c.time > oldest.scalar_subquery())
            .where(FLOW.c.time.not_in(made.where(FORECAST.c.init_time.between(*span))))
            .order_by(FLOW.c.time)
        )
        with self._database.read() as connection:
            return as_times(connection.execute(query).scalars().all())


class Calibrations(Repository):
    """How the prediction intervals of each version stand, in `database`."""

    def add(self, city: City, version: str, time: np.datetime64, content: bytes) -> None:
        """Stores the calibration of a version at `time`, UTC, in place of its former one."""
        key = (CALIBRATION.c.city == city.name, CALIBRATION.c.version == version)
        with self._database.write() as connection:
            connection.execute(sa.delete(CALIBRATION).where(*key))
            connection.execute(
                sa.insert(CALIBRATION).values(
                    city=city.name, version=version, time=as_second(time), content=content
                )
            )

    def read(self, city: City, version: str) -> tuple[np.datetime64, bytes] | None:
        """Returns the time, UTC, and the content of a version's calibration; None without one."""
        query = sa.select(CALIBRATION.c.time, CALIBRATION.c.content).where(
            CALIBRATION.c.city == city.name, CALIBRATION.c.version == version
        )
        with self._database.read() as connection:
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
    return with_intervals(forecast, unpack(row.band, forecast.shape)) if row.band else forecast
