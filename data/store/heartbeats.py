"""Heartbeats: when a process that runs for months was alive last."""

import json
import os
import socket
from collections.abc import Mapping
from typing import Any

import numpy as np
import sqlalchemy as sa

from data.store.columns import as_second, as_times
from data.store.database import Repository
from data.store.schema import HEARTBEAT


class Heartbeats(Repository):
    """The heartbeats in `database`."""

    def beat(self, name: str, now: np.datetime64, detail: Mapping[str, Any] | None = None) -> None:
        """Writes that this process is alive, in place of the former beat under this name."""
        beat = {"host": socket.gethostname(), "pid": os.getpid(), "at": as_second(now)}
        with self._database.write() as connection:
            connection.execute(sa.delete(HEARTBEAT).where(HEARTBEAT.c.name == name))
            connection.execute(
                sa.insert(HEARTBEAT).values(
                    **beat, name=name, detail=json.dumps(dict(detail or {}))
                )
            )

    def newest(self, name: str) -> dict[str, Any] | None:
        """Returns `host`, `pid`, `at` (UTC) and `detail` of the newest beat; None without a beat."""
        query = sa.select(HEARTBEAT).where(HEARTBEAT.c.name == name)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            return None
        return {**row, "at": as_times([row["at"]])[0], "detail": json.loads(row["detail"])}
