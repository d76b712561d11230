"""Signs of life and of change: heartbeats of schedulers, and drift of a city's flow."""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from data.city import City
from data.store.database import Database
from data.store.ingests import as_second, as_times
from data.store.schema import DRIFT, HEARTBEAT


@dataclass(frozen=True)
class Drift:
    """How far a city is from its reference days.

    Attributes:
        time: of the newest slot, UTC.
        total: vehicles a slot of the last day.
        usual_total: what was expected of the same slots.
        error: RMSE in vehicles of the forecasts scored in the last day; None where there is none.
        usual_error: of the reference days; None where there is none.
        flagged: whether someone should look.
        message: for people, "" where nothing is unusual.
    """

    time: np.datetime64
    total: float
    usual_total: float
    error: float | None
    usual_error: float | None
    flagged: bool
    message: str


class Drifts:
    """The drift in `database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, city: City, drift: Drift) -> None:
        """Stores the drift of a time, in place of the one that was there."""
        time = as_second(drift.time)
        with self._database.write() as connection:
            connection.execute(
                sa.delete(DRIFT).where(DRIFT.c.city == city.name, DRIFT.c.time == time)
            )
            connection.execute(
                sa.insert(DRIFT).values(**{**vars(drift), "time": time}, city=city.name)
            )

    def table(self, city: City, last: int = 200) -> pd.DataFrame:
        """Returns the newest rows, oldest first, with the attributes of `Drift` as columns."""
        query = (
            sa.select(DRIFT)
            .where(DRIFT.c.city == city.name)
            .order_by(DRIFT.c.time.desc())
            .limit(last)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        table = pd.DataFrame(rows[::-1], columns=query.selected_columns.keys())
        table["time"] = as_times(table["time"].to_numpy(dtype=np.int64))
        return table.drop(columns="city")


class Heartbeats:
    """The heartbeats in `database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def beat(self, name: str, now: np.datetime64, detail: Mapping[str, Any] | None = None) -> None:
        """Tells that this process lives, in place of what was told before under the name.

        Args:
            name: of what it is, such as `scheduler`.
            now: UTC.
            detail: for JSON.
        """
        told = {"host": socket.gethostname(), "pid": os.getpid(), "at": as_second(now)}
        with self._database.write() as connection:
            connection.execute(sa.delete(HEARTBEAT).where(HEARTBEAT.c.name == name))
            connection.execute(
                sa.insert(HEARTBEAT).values(
                    **told, name=name, detail=json.dumps(dict(detail or {}))
                )
            )

    def newest(self, name: str) -> dict[str, Any] | None:
        """Returns `host`, `pid`, `at` (UTC) and `detail` of the newest beat; None: there was none."""
        query = sa.select(HEARTBEAT).where(HEARTBEAT.c.name == name)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            return None
        return {**row, "at": as_times([row["at"]])[0], "detail": json.loads(row["detail"])}
