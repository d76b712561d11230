"""State: a text that changes whenever what the store knows of a city does, for caches of readers."""

from typing import Any

import numpy as np
import sqlalchemy as sa

from data.city import City
from data.store.database import Database
from data.store.schema import DRIFT, FORECAST, INGEST, JUDGEMENT, PROMOTION, RUN, SCORE

BACK = np.timedelta64(29, "D")
"""How far back scores are looked at: what is older is not scored anew."""


def state(database: Database, city: City) -> str:
    """Returns the state of a city; equal texts stand for equal contents."""

    def of(table: sa.Table, *columns: Any) -> sa.Select[Any]:
        return sa.select(*columns).where(table.c.city == city.name)

    newest = of(FORECAST, sa.func.max(FORECAST.c.init_time))
    queries = [
        of(INGEST, sa.func.max(INGEST.c.id)),
        of(FORECAST, sa.func.max(FORECAST.c.id)),
        of(JUDGEMENT, sa.func.max(JUDGEMENT.c.id)),
        of(PROMOTION, sa.func.max(PROMOTION.c.id)),
        of(DRIFT, sa.func.max(DRIFT.c.time)),
        of(RUN, sa.func.max(RUN.c.id), sa.func.max(RUN.c.ended_at), sa.func.sum(RUN.c.attempt)),
    ]
    with database.read() as connection:
        parts: list[Any] = [value for query in queries for value in connection.execute(query).one()]
        last = connection.execute(newest).scalar()
        if last is not None:
            since = int(last) - int(BACK / np.timedelta64(1, "s"))
            scores = of(SCORE, sa.func.count(), sa.func.sum(SCORE.c.revision))
            parts += connection.execute(scores.where(SCORE.c.init_time > since)).one()
    return "-".join(str(part) for part in parts)
