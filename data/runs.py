"""Runs: the ledger of what was done for which slot, each slot of a job at most once.

A row is written before the work begins and closed when it ends. The row of a process that died stays
`running`; whoever claims the slot next sees that it is dead and works on in the same row.
"""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from data.database import Database
from data.ledger import as_second, as_times, key_of
from data.schema import RUN

RUNNING, DONE, FAILED, SKIPPED = "running", "done", "failed", "skipped"
ATTEMPTS = 3
"""How often a slot is tried at most."""


@dataclass(frozen=True)
class Claim:
    """The right to do the work of a slot.

    Attributes:
        run: number of its row.
        attempt: from 1.
    """

    run: int
    attempt: int


class Runs:
    """The ledger in `database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(
        self, job: str, city: str, scheduled_for: np.datetime64, now: np.datetime64, limit: float
    ) -> Claim | None:
        """Returns the right to work on a slot, None where another has done it or is at it.

        Args:
            job: such as `step`.
            city: registry key.
            scheduled_for: the slot, UTC.
            now: UTC.
            limit: seconds after which a run cannot be alive any more.
        """
        key = {"job": job, "city": city, "scheduled_for": as_second(scheduled_for)}
        mine = {
            **{"started_at": as_second(now), "ended_at": None, "outcome": RUNNING},
            **{"host": socket.gethostname(), "pid": os.getpid(), "message": "", "detail": "{}"},
        }
        where = [RUN.c[name] == value for name, value in key.items()]
        with self._database.write() as connection:
            row = connection.execute(sa.select(RUN).where(*where)).mappings().first()
            if row is None:
                made = connection.execute(sa.insert(RUN).values(**key, **mine, attempt=1))
                return Claim(key_of(made), 1)
            if not _is_open(row, as_second(now), limit):
                return None
            attempt = int(row["attempt"]) + 1
            connection.execute(sa.update(RUN).where(*where).values(**mine, attempt=attempt))
            return Claim(int(row["id"]), attempt)

    def finish(
        self,
        claim: Claim,
        now: np.datetime64,
        outcome: str,
        message: str = "",
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Closes the row of a claim, unless another has taken it over since.

        Args:
            claim: as it was given.
            now: UTC.
            outcome: `done` or `failed`.
            message: for people.
            detail: figures, for JSON.
        """
        ended = {"ended_at": as_second(now), "outcome": outcome, "message": message}
        with self._database.write() as connection:
            connection.execute(
                sa.update(RUN)
                .where(RUN.c.id == claim.run, RUN.c.attempt == claim.attempt)
                .values(**ended, detail=json.dumps(dict(detail or {})))
            )

    def skip(self, job: str, city: str, slots: np.ndarray, now: np.datetime64, message: str) -> int:
        """Writes that slots will not be worked on, and returns of how many that was not known.

        Args:
            job: such as `step`.
            city: registry key.
            slots: UTC.
            now: UTC.
            message: why.
        """
        if not len(slots):
            return 0
        times = [as_second(slot) for slot in slots]
        same = (RUN.c.job == job, RUN.c.city == city)
        with self._database.write() as connection:
            query = sa.select(RUN.c.scheduled_for).where(
                *same, RUN.c.scheduled_for.between(min(times), max(times))
            )
            there = set(connection.execute(query).scalars())
            rows = [
                {
                    **{"job": job, "city": city, "scheduled_for": time, "outcome": SKIPPED},
                    **{"started_at": as_second(now), "ended_at": as_second(now), "attempt": 0},
                    **{"host": socket.gethostname(), "pid": os.getpid()},
                    **{"message": message, "detail": "{}"},
                }
                for time in sorted({*times} - there)
            ]
            if rows:
                connection.execute(sa.insert(RUN), rows)
        return len(rows)

    def table(
        self, city: str | None = None, job: str | None = None, last: int = 200
    ) -> pd.DataFrame:
        """Returns the newest rows, oldest first; times are UTC, `detail` are dicts.

        Args:
            city: of which; None for all.
            job: which; None for all.
            last: rows at most.
        """
        query = sa.select(RUN).order_by(RUN.c.scheduled_for.desc(), RUN.c.id.desc()).limit(last)
        if city is not None:
            query = query.where(RUN.c.city == city)
        if job is not None:
            query = query.where(RUN.c.job == job)
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        table = pd.DataFrame(rows[::-1], columns=query.selected_columns.keys())
        for name in ("scheduled_for", "started_at"):
            table[name] = as_times(table[name].to_numpy(dtype=np.int64))
        ended = table["ended_at"].astype("Int64")
        table["ended_at"] = pd.to_datetime(ended, unit="s").astype("datetime64[s]")
        table["detail"] = [json.loads(text) for text in table["detail"]]
        return table

    def newest(self, job: str, city: str) -> np.datetime64 | None:
        """Returns the newest slot of a job that the ledger knows, UTC; None where there is none."""
        query = sa.select(sa.func.max(RUN.c.scheduled_for)).where(
            RUN.c.job == job, RUN.c.city == city
        )
        with self._database.read() as connection:
            time = connection.execute(query).scalar()
        return None if time is None else as_times([time])[0]

    def is_over(self, job: str, city: str, scheduled_for: np.datetime64) -> bool:
        """Returns whether a slot is done, or failed as often as it is tried."""
        query = sa.select(RUN.c.outcome, RUN.c.attempt).where(
            *(RUN.c.job == job, RUN.c.city == city),
            RUN.c.scheduled_for == as_second(scheduled_for),
        )
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
        return row is not None and _is_over(row)

    def outcome(self, job: str, city: str, scheduled_for: np.datetime64) -> str | None:
        """Returns what became of a slot, None where the ledger does not know it."""
        query = sa.select(RUN.c.outcome).where(
            *(RUN.c.job == job, RUN.c.city == city),
            RUN.c.scheduled_for == as_second(scheduled_for),
        )
        with self._database.read() as connection:
            return connection.execute(query).scalar()


def _is_over(row: Mapping[Any, Any]) -> bool:
    """Returns whether nothing more will be done for a row."""
    tries = row["outcome"] == FAILED and int(row["attempt"]) >= ATTEMPTS
    return row["outcome"] == DONE or tries


def _is_open(row: Mapping[Any, Any], now: int, limit: float) -> bool:
    """Returns whether the work of a row may be begun, again or at last."""
    if row["outcome"] == RUNNING:
        return not _is_alive(row, now, limit)
    return not _is_over(row)


def _is_alive(row: Mapping[Any, Any], now: int, limit: float) -> bool:
    """Returns whether the process of a row may still be at work."""
    if abs(now - row["started_at"]) > limit:  # clocks may have been set back since
        return False
    if row["host"] != socket.gethostname():
        return True
    try:
        os.kill(row["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
