"""Runs: the ledger of jobs, each slot of a job at most once.

A row is written before the work begins and closed when it ends. The row of a process that died stays
`running`; the next to claim the slot sees that it is dead and works on in the same row. A process is known
by its host, number and start, for numbers are reused; one of another host by its heartbeats.
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

from data.store.columns import as_second, as_times, key_of
from data.store.database import Repository
from data.store.schema import RUN

RUNNING, DONE, FAILED, SKIPPED = "running", "done", "failed", "skipped"
MAX_FAILURES = 5
"""Failures after which a slot is not tried again; processes that were killed do not count."""
LIVENESS_TIMEOUT = 300
"""Seconds without a heartbeat after which a process of another host counts as dead."""
RELEASED = -1
"""Process number of a slot that was given back."""
SAME_START = 2.0
"""Seconds by which two readings of one process's start may differ."""
FAILURES = "failures"


@dataclass(frozen=True)
class Claim:
    """The right to do the work of a slot.

    Attributes:
        run: number of its row.
        attempt: from 1.
    """

    run: int
    attempt: int


class Runs(Repository):
    """The ledger in `database`."""

    def claim(
        self, job: str, city: str, scheduled_for: np.datetime64, now: np.datetime64, limit: float
    ) -> Claim | None:
        """Returns the right to work on a slot, None where it is done or another process works on it.

        Args:
            job: such as `step`.
            city: its name.
            scheduled_for: the slot, UTC.
            now: UTC.
            limit: seconds after which a run cannot be alive any more.
        """
        key = {"job": job, "city": city, "scheduled_for": as_second(scheduled_for)}
        mine = {
            **{"started_at": as_second(now), "ended_at": None, "outcome": RUNNING},
            **{"host": socket.gethostname(), "pid": os.getpid(), "message": ""},
        }
        where = [RUN.c[name] == value for name, value in key.items()]
        with self._database.write() as connection:
            row = connection.execute(sa.select(RUN).where(*where)).mappings().first()
            if row is None:
                life = {"attempt": 1, "detail": _life(now, 0)}
                made = connection.execute(sa.insert(RUN).values(**key, **mine, **life))
                return Claim(key_of(made), 1)
            if not _is_open(row, as_second(now), limit):
                return None
            attempt = int(row["attempt"]) + 1
            life = {"attempt": attempt, "detail": _life(now, _failures(row))}
            connection.execute(sa.update(RUN).where(*where).values(**mine, **life))
            return Claim(int(row["id"]), attempt)

    def finish(
        self,
        claim: Claim,
        now: np.datetime64,
        outcome: str,
        message: str = "",
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Closes the row of a claim with `done` or `failed`, unless another process has taken it over."""
        ended = {"ended_at": as_second(now), "outcome": outcome, "message": message}
        with self._database.write() as connection:
            if (row := _row_of(connection, claim)) is None:
                return
            figures = dict(detail or {})
            if outcome == FAILED:
                figures[FAILURES] = _failures(row) + 1
            connection.execute(
                sa.update(RUN)
                .where(RUN.c.id == claim.run)
                .values(**ended, detail=json.dumps(figures))
            )

    def renew(self, claim: Claim, now: np.datetime64) -> None:
        """Writes a heartbeat of the process that works on a claim."""
        with self._database.write() as connection:
            if (row := _row_of(connection, claim)) is not None:
                life = _life(now, _failures(row))
                connection.execute(sa.update(RUN).where(RUN.c.id == claim.run).values(detail=life))

    def release(self, claim: Claim, message: str) -> None:
        """Gives a claim back, with the reason: the slot is due again, and this was no failure."""
        with self._database.write() as connection:
            if _row_of(connection, claim) is not None:
                given = {"pid": RELEASED, "message": message}
                connection.execute(sa.update(RUN).where(RUN.c.id == claim.run).values(**given))

    def mark_skipped(
        self, job: str, city: str, slots: np.ndarray, now: np.datetime64, message: str
    ) -> int:
        """Marks slots, UTC, as skipped, with the reason; returns how many were not known before."""
        if not len(slots):
            return 0
        times = [as_second(slot) for slot in slots]
        same = (RUN.c.job == job, RUN.c.city == city)
        with self._database.write() as connection:
            query = sa.select(RUN.c.scheduled_for).where(
                *same, RUN.c.scheduled_for.between(min(times), max(times))
            )
            known = set(connection.execute(query).scalars())
            rows = [
                {
                    **{"job": job, "city": city, "scheduled_for": time, "outcome": SKIPPED},
                    **{"started_at": as_second(now), "ended_at": as_second(now), "attempt": 0},
                    **{"host": socket.gethostname(), "pid": os.getpid()},
                    **{"message": message, "detail": "{}"},
                }
                for time in sorted({*times} - known)
            ]
            if rows:
                connection.execute(sa.insert(RUN), rows)
        return len(rows)

    def table(
        self, city: str | None = None, job: str | None = None, last: int = 200
    ) -> pd.DataFrame:
        """Returns the `last` newest rows, of all cities and jobs by default, oldest first.

        Times are UTC, `detail` are dicts.
        """
        query = sa.select(RUN).order_by(RUN.c.scheduled_for.desc(), RUN.c.id.desc()).limit(last)
        if city is not None:
            query = query.where(RUN.c.city == city)
        if job is not None:
            query = query.where(RUN.c.job == job)
        table = self._database.table(query, times=["scheduled_for", "started_at"])
        table = table.iloc[::-1].reset_index(drop=True)
        ended = table["ended_at"].astype("Int64")
        table["ended_at"] = pd.to_datetime(ended, unit="s").astype("datetime64[s]")
        table["detail"] = [json.loads(text) for text in table["detail"]]
        return table

    def newest(self, job: str, city: str) -> np.datetime64 | None:
        """Returns the newest slot of a job in the ledger, UTC; None without one."""
        query = sa.select(sa.func.max(RUN.c.scheduled_for)).where(
            RUN.c.job == job, RUN.c.city == city
        )
        with self._database.read() as connection:
            time = connection.execute(query).scalar()
        return None if time is None else as_times([time])[0]

    def is_over(self, job: str, city: str, scheduled_for: np.datetime64) -> bool:
        """Returns whether a slot is done, or failed as often as it is tried."""
        query = sa.select(RUN.c.outcome, RUN.c.attempt, RUN.c.detail).where(
            *(RUN.c.job == job, RUN.c.city == city),
            RUN.c.scheduled_for == as_second(scheduled_for),
        )
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
        return row is not None and _is_over(row)

    def is_unfinished(self, job: str, city: str, now: np.datetime64, limit: float) -> bool:
        """Returns whether the newest run of a job failed or died, and no `step` did its work since.

        The job is one of which no slot comes again, such as `arrival`; `limit` is that of `claim`.
        """
        same = RUN.c.city == city
        newest = sa.select(RUN).where(same, RUN.c.job == job).order_by(RUN.c.id.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(newest).mappings().first()
            if row is None or row["outcome"] == DONE:
                return False
            if row["outcome"] == RUNNING and _is_alive(row, as_second(now), limit):
                return False
            since = sa.select(RUN.c.id).where(
                *(same, RUN.c.job == "step", RUN.c.outcome == DONE),
                RUN.c.started_at > row["started_at"],
            )
            return connection.execute(since.limit(1)).first() is None

    def outcome(self, job: str, city: str, scheduled_for: np.datetime64) -> str | None:
        """Returns the outcome of a slot, None where it is not in the ledger."""
        query = sa.select(RUN.c.outcome).where(
            *(RUN.c.job == job, RUN.c.city == city),
            RUN.c.scheduled_for == as_second(scheduled_for),
        )
        with self._database.read() as connection:
            return connection.execute(query).scalar()


def _is_over(row: Mapping[Any, Any]) -> bool:
    """Returns whether nothing more will be done for a row."""
    failed = row["outcome"] == FAILED and _failures(row) >= MAX_FAILURES
    return row["outcome"] == DONE or failed


def _failures(row: Mapping[Any, Any]) -> int:
    """Returns how often the work of a row has failed."""
    return int(json.loads(row["detail"]).get(FAILURES, 0))


def _row_of(connection: sa.Connection, claim: Claim) -> Mapping[Any, Any] | None:
    """Returns the open row of a claim, None where it is closed or taken over."""
    query = sa.select(RUN).where(
        RUN.c.id == claim.run, RUN.c.attempt == claim.attempt, RUN.c.outcome == RUNNING
    )
    return connection.execute(query).mappings().first()


def _is_open(row: Mapping[Any, Any], now: int, limit: float) -> bool:
    """Returns whether the work of a row may begin."""
    if row["outcome"] == RUNNING:
        return not _is_alive(row, now, limit)
    return not _is_over(row)


def _is_alive(row: Mapping[Any, Any], now: int, limit: float) -> bool:
    """Returns whether the process of a row may still be at work."""
    if row["pid"] == RELEASED or abs(now - row["started_at"]) > limit:  # clocks may be set back
        return False
    life = json.loads(row["detail"])
    if row["host"] != socket.gethostname():
        return abs(now - int(life.get("sign", row["started_at"]))) <= LIVENESS_TIMEOUT
    import psutil  # no forecast by hand needs it

    try:
        began = psutil.Process(row["pid"]).create_time()
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
    return "began" not in life or abs(began - float(life["began"])) < SAME_START


def _life(now: np.datetime64, failures: int) -> str:
    """Returns what identifies this process, its heartbeat `now`, and how often the slot failed before."""
    import psutil

    began = psutil.Process().create_time()
    return json.dumps({"began": began, "sign": as_second(now), FAILURES: failures})
