"""Drift: how far the flow of a city is from its reference days."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import sqlalchemy as sa

from data.city import City
from data.store.columns import as_second
from data.store.database import Repository
from data.store.schema import DRIFT


@dataclass(frozen=True)
class Drift:
    """How far a city is from its reference days.

    Attributes:
        time: of the newest slot, UTC.
        total: vehicles a slot of the last day.
        usual_total: of the same slots, as expected.
        error: RMSE in vehicles of the forecasts scored in the last day; None without scores.
        usual_error: of the reference days; None without scores.
        flagged: whether someone should look.
        message: for people, "" without a flag.
    """

    time: np.datetime64
    total: float
    usual_total: float
    error: float | None
    usual_error: float | None
    flagged: bool
    message: str


class Drifts(Repository):
    """The drift in `database`."""

    def add(self, city: City, drift: Drift) -> None:
        """Stores the drift of a time, in place of the former one."""
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
        table = self._database.table(query, times=["time"])
        return table.iloc[::-1].reset_index(drop=True).drop(columns="city")
