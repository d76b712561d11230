"""Scores: errors of stored forecasts and of the baselines, by lead.

A score is kept as sums, so that any mean is the mean of all. It is made anew where its slot is corrected.
"""

import numpy as np
import pandas as pd
import sqlalchemy as sa

from data.city import City
from data.clock import Clock
from data.store.columns import as_second, as_times
from data.store.database import Repository
from data.store.schema import FLOW, FORECAST, SCORE

SERVED = "served"
"""Forecaster of the stored forecast, whatever made it; the others are baselines."""
MAX_CLOCK_CHANGE = 2 * 3600
"""Seconds by which clocks are set at most."""
SUMS = ("count", "squared", "absolute", "difference")
COLUMNS = ("init_time", "lead", "forecaster", "forecast", "ingest", *SUMS)


class Scores(Repository):
    """The scores in `database`."""

    def add(self, city: City, scores: pd.DataFrame) -> None:
        """Stores scores; one that replaces another counts as its revision.

        Args:
            city: whose forecasts they are of.
            scores: columns `init_time` (UTC), `lead` (from 1), `forecaster`, `forecast` (number of
                the stored one), `ingest` (that brought the observed slot), and the sums over all cells and
                channels: `count`, `squared` (vehicles squared), `absolute`, `difference` (forecast
                less observed, vehicles).
        """
        if scores.empty:
            return
        times = [as_second(time) for time in scores["init_time"].to_numpy()]
        span = (SCORE.c.city == city.name, SCORE.c.init_time.between(min(times), max(times)))
        names = ("init_time", "lead", "forecaster")
        with self._database.write() as connection:
            query = sa.select(*(SCORE.c[name] for name in names), SCORE.c.revision).where(*span)
            known = {tuple(row[:3]): row[3] for row in connection.execute(query)}
            rows = []
            for time, row in zip(
                times, scores[list(COLUMNS[1:])].itertuples(index=False), strict=True
            ):
                fields = dict(zip(COLUMNS, (time, *row), strict=True))
                key = tuple(fields[name] for name in names)
                revision = known[key] + 1 if key in known else 0
                rows.append({**fields, "city": city.name, "revision": revision})
            old = [row for row in rows if row["revision"]]
            if old:
                gone = [{f"old_{name}": row[name] for name in names} for row in old]
                matches = (SCORE.c[name] == sa.bindparam(f"old_{name}") for name in names)
                connection.execute(
                    sa.delete(SCORE).where(SCORE.c.city == city.name, *matches), gone
                )
            connection.execute(sa.insert(SCORE), rows)

    def table(self, city: City, after: np.datetime64, until: np.datetime64) -> pd.DataFrame:
        """Returns the scores of forecasts made after `after` and until `until`, UTC, oldest first.

        Its columns are those of `add`, and `revision` (how often it was made anew) and `version` (of the
        model that was served, "" where a baseline was).
        """
        query = (
            sa.select(SCORE, FORECAST.c.attributes)
            .join(FORECAST, FORECAST.c.id == SCORE.c.forecast)
            .where(SCORE.c.city == city.name)
            .where(SCORE.c.init_time > as_second(after), SCORE.c.init_time <= as_second(until))
            .order_by(SCORE.c.init_time, SCORE.c.lead, SCORE.c.forecaster)
        )
        table = self._database.table(query, times=["init_time"])
        table["version"] = table.pop("attributes").str.extract(r'"model_version": "([^"]*)"')[0]
        return table.drop(columns="city")

    def sums(self, city: City, after: np.datetime64, until: np.datetime64) -> pd.DataFrame:
        """Returns the scores of forecasts made after `after` and until `until`, UTC, oldest first.

        Its columns are `init_time` (UTC), `lead`, `forecaster` and the sums: all that means need.
        """
        names = ("init_time", "lead", "forecaster", *SUMS)
        query = (
            sa.select(*(SCORE.c[name] for name in names))
            .where(SCORE.c.city == city.name)
            .where(SCORE.c.init_time > as_second(after), SCORE.c.init_time <= as_second(until))
            .order_by(SCORE.c.init_time, SCORE.c.lead, SCORE.c.forecaster)
        )
        return self._database.table(query, times=["init_time"])

    def due(self, city: City, first: np.datetime64) -> pd.DataFrame:
        """Returns the leads of forecasts made since `first`, UTC, that are observed and not scored yet.

        Returns:
            columns `init_time` (UTC), `lead` (from 1), `forecast`, `ingest`, oldest first. Of several
            forecasts with one `init_time` the newest counts.
        """
        step = int(city.step / np.timedelta64(1, "s"))
        newest = (
            sa.select(sa.func.max(FORECAST.c.id).label("id"))
            .where(FORECAST.c.city == city.name, FORECAST.c.init_time >= as_second(first))
            .group_by(FORECAST.c.init_time)
            .subquery()
        )
        made = (
            sa.select(FORECAST.c.id, FORECAST.c.init_time, FORECAST.c.horizon)
            .join(newest, newest.c.id == FORECAST.c.id)
            .subquery()
        )
        observed = (
            sa.select(made.c.init_time, FLOW.c.time, made.c.horizon, made.c.id, FLOW.c.ingest)
            .join_from(
                made,
                FLOW,
                sa.and_(
                    FLOW.c.city == city.name,
                    FLOW.c.series == "observed",
                    FLOW.c.time > made.c.init_time,
                    FLOW.c.time <= made.c.init_time + made.c.horizon * step + MAX_CLOCK_CHANGE,
                ),
            )
            .order_by(made.c.init_time, FLOW.c.time)
        )
        names = ("init_time", "lead", "forecast", "ingest")
        scored = sa.select(*(SCORE.c[name] for name in names)).where(
            SCORE.c.city == city.name,
            SCORE.c.init_time >= as_second(first),
            SCORE.c.forecaster == SERVED,
        )
        with self._database.read() as connection:
            rows = connection.execute(observed).all()
            known = {tuple(row) for row in connection.execute(scored)}
        table = pd.DataFrame(rows, columns=["init_time", "time", "horizon", "forecast", "ingest"])
        table = table.astype("int64")
        # On days when clocks are moved, slots of more than an hour are not all as long.
        clock = Clock(city.step, city.timezone)
        init_times = as_times(table["init_time"].to_numpy())
        table["lead"] = clock.number(as_times(table.pop("time").to_numpy()), init_times)
        table = table[(table["lead"] >= 1) & (table["lead"] <= table.pop("horizon"))]
        keys = zip(*(table[name].tolist() for name in names), strict=True)
        due = np.array([key not in known for key in keys], dtype=bool)
        return table[due].assign(init_time=init_times[table.index[due]]).reset_index(drop=True)
