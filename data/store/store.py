"""The store: one database, and what it keeps, a repository each; nothing else knows the database.

Every write is one transaction, so that a process that dies leaves the whole of it or nothing. SQLite
runs as `database.py` says. Times are whole seconds since 1970 UTC.
"""

from contextlib import AbstractContextManager
from typing import Any

import sqlalchemy as sa

from data.city import City
from data.store.database import Database, default_url
from data.store.drift import Drifts
from data.store.flow import FlowArchive
from data.store.forecasts import Calibrations, Forecasts
from data.store.heartbeats import Heartbeats
from data.store.ingests import Ingests
from data.store.promotions import Promotions
from data.store.runs import Runs
from data.store.scheduler_lock import HeldLock, scheduler_lock
from data.store.schema import DRIFT, FORECAST, INGEST, JUDGEMENT, PROMOTION, RUN, SCORE
from data.store.scores import Scores
from data.store.weather import WeatherRecords

RESCORED_SECONDS = 29 * 86_400
"""Age of the oldest forecast whose scores may still change."""


class Store:
    """The database at `url`; by default as `FLOWCAST_STORE` says, else SQLite in the user's home.

    It is made when first opened.

    Args:
        url: of SQLite or PostgreSQL.
        patience: seconds to wait for another process; None for as long as writers wait.

    Attributes:
        flow: observed flow, and the expected flow of simulated cities.
        weather: of cities.
        ingests: the ledger of files.
        forecasts: as they were made.
        calibrations: how the prediction intervals of versions stand.
        scores: of stored forecasts.
        promotions: which version is champion, and why.
        runs: the ledger of what was done for which slot.
        drifts: of flow.
        heartbeats: of schedulers.

    Raises:
        StoreError: it cannot be opened, is no database of ours, or a newer flowcast wrote it.
    """

    def __init__(self, url: str | None = None, patience: float | None = None) -> None:
        self._database = Database(url or default_url(), patience)
        self.flow = FlowArchive(self._database)
        self.weather = WeatherRecords(self._database)
        self.ingests = Ingests(self._database)
        self.forecasts = Forecasts(self._database)
        self.calibrations = Calibrations(self._database)
        self.scores = Scores(self._database)
        self.promotions = Promotions(self._database)
        self.runs = Runs(self._database)
        self.drifts = Drifts(self._database)
        self.heartbeats = Heartbeats(self._database)

    def change_token(self, city: City) -> str:
        """Returns a text that changes whenever what is stored of a city does, for caches of readers."""

        def query(table: sa.Table, *columns: Any) -> "sa.Select[Any]":
            return sa.select(*columns).where(table.c.city == city.name)

        queries = [
            query(INGEST, sa.func.max(INGEST.c.id)),
            query(FORECAST, sa.func.max(FORECAST.c.id)),
            query(JUDGEMENT, sa.func.max(JUDGEMENT.c.id)),
            query(PROMOTION, sa.func.max(PROMOTION.c.id)),
            query(DRIFT, sa.func.max(DRIFT.c.time)),
            query(
                RUN, sa.func.max(RUN.c.id), sa.func.max(RUN.c.ended_at), sa.func.sum(RUN.c.attempt)
            ),
        ]
        newest = query(FORECAST, sa.func.max(FORECAST.c.init_time))
        scores = query(SCORE, sa.func.count(), sa.func.sum(SCORE.c.revision))
        with self._database.read() as connection:
            parts: list[Any] = [part for one in queries for part in connection.execute(one).one()]
            last = connection.execute(newest).scalar()
            if last is not None:
                recent = scores.where(SCORE.c.init_time > int(last) - RESCORED_SECONDS)
                parts += connection.execute(recent).one()
        return "-".join(str(part) for part in parts)

    def scheduler_lock(self) -> AbstractContextManager[HeldLock | None]:
        """Gives the lock of the one scheduler of this store, None where another process holds it."""
        return scheduler_lock(self._database)

    def close(self) -> None:
        """Closes the connections to the database."""
        self._database.close()
