"""The store: flow, forecasts, ingests and promotions in one database; nothing else knows of it.

Every write is one transaction, so that a process that dies leaves the whole of it or nothing. SQLite
runs as `database.py` says. Times are whole seconds since 1970 UTC.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
import xarray as xr

from data.city import City
from data.errors import FlowcastError
from data.flow import CHANNELS, attributes, label
from data.store.change_token import state
from data.store.columns import as_seconds, as_times, now
from data.store.database import Database, default_url
from data.store.drift import Drifts
from data.store.forecasts import (
    add_forecast,
    first_forecast,
    keep_calibration,
    list_forecasts,
    read_calibration,
    read_forecast,
    read_forecasts,
    read_lacking,
)
from data.store.heartbeats import Heartbeats
from data.store.ingests import Added as Added
from data.store.ingests import Source as Source
from data.store.ingests import record
from data.store.promotions import Judgements, insert_promotion, newest_promotion
from data.store.runs import Runs
from data.store.scheduler_lock import Held, scheduler_lock
from data.store.schema import ARCHIVE, FLOW, INGEST, PROMOTION, REVISION
from data.store.scores import Scores
from data.store.weather import add_weather, read_weather, weather_revisions

ROWS = 512
"""Rows that are taken from the database at a time."""
PIECE = 2**24
"""Bytes of flow that are read at a time where it need not be there as a whole."""


class Store:
    """The database at `url`; by default as `FLOWCAST_STORE` says, else SQLite in the user's home.

    It is made when first opened.

    Args:
        url: of SQLite or PostgreSQL.
        patience: seconds to wait for another process; None for as long as writers wait.

    Attributes:
        runs: the ledger of what was done for which slot.
        scores: of stored forecasts.
        judgements: of versions.
        drifts: of flow.
        heartbeats: of schedulers.

    Raises:
        StoreError: it cannot be opened, is no database of ours, or a newer flowcast wrote it.
    """

    def __init__(self, url: str | None = None, patience: float | None = None) -> None:
        self._database = Database(url or default_url(), patience)
        self.runs = Runs(self._database)
        self.scores = Scores(self._database)
        self.judgements = Judgements(self._database)
        self.drifts = Drifts(self._database)
        self.heartbeats = Heartbeats(self._database)

    def add_flow(
        self,
        city: City,
        flow: xr.DataArray,
        *,
        source: Source,
        series: str = "observed",
        repairs: Mapping[str, int] | None = None,
        replace: bool = False,
    ) -> Added:
        """Stores the slots of one file, all or none, and an entry in the ledger of ingests.

        Args:
            city: whose archive it is.
            flow: checked, dims `(time, channel, y, x)`.
            source: for the ledger.
            series: `observed`, or `expected` of a simulated city.
            repairs: what the reader repaired, for the ledger.
            replace: whether a slot that is stored with another value takes the new one; the old
                one is kept as a revision.

        Raises:
            FlowcastError: a stored slot differs and `replace` is not set, the archive was made
                with another grid, step or timezone, or the database cannot be written.
        """
        frames = {
            int(time): np.ascontiguousarray(frame, dtype="<f4").tobytes()
            for time, frame in zip(as_seconds(flow["time"].values), flow.values, strict=True)
        }
        with self._database.write() as connection:
            _check_archive(connection, city)
            stored = _stored(connection, city, series, frames)
            new = [time for time in frames if time not in stored]
            changed = [time for time, old in stored.items() if old["frame"] != frames[time]]
            if changed and not replace:
                raise _differs(city, source, changed)
            added = Added(len(new), len(stored) - len(changed), len(changed))
            ingest = record(connection, city, source, added, repairs or {}, "stored", "")
            key = {"city": city.name, "series": series}
            if changed:
                old_rows = [
                    {**key, "time": time, **stored[time], "replaced_by": ingest} for time in changed
                ]
                connection.execute(sa.insert(REVISION), old_rows)
                connection.execute(
                    sa.update(FLOW)
                    .where(FLOW.c.city == city.name, FLOW.c.series == series)
                    .where(FLOW.c.time == sa.bindparam("slot"))
                    .values(frame=sa.bindparam("new"), ingest=ingest),
                    [{"slot": time, "new": frames[time]} for time in changed],
                )
            if new:
                rows = [{**key, "time": time, "frame": frames[time]} for time in new]
                connection.execute(sa.insert(FLOW).values(ingest=ingest), rows)
        return added

    def add_refusal(self, city: City, source: Source, message: str) -> None:
        """Records in the ledger of ingests that a file was refused, and why."""
        with self._database.write() as connection:
            record(connection, city, source, Added(0, 0, 0), {}, "refused", message)

    def flow(
        self,
        city: City,
        series: str = "observed",
        *,
        first: np.datetime64 | None = None,
        last: np.datetime64 | None = None,
    ) -> xr.DataArray:
        """Returns the archive of a city as a checked flow; without slots where nothing is stored.

        Args:
            city: whose archive it is.
            series: `observed`, or `expected` of a simulated city.
            first: UTC; slots that begin before it are left out.
            last: UTC; slots that begin after it are left out.

        Raises:
            FlowcastError: the archive was made with another grid, step or timezone.
        """
        times, frames = (
            _slots(column, city, series, first, last) for column in (FLOW.c.time, FLOW.c.frame)
        )
        with self._database.read() as connection:
            _check_archive_of(connection, city)
            time = connection.execute(times).scalars().all()
            values = np.empty((len(time), len(CHANNELS), *city.grid), dtype=np.float32)
            rows = connection.execute(frames, execution_options={"yield_per": ROWS}).scalars()
            for slot, frame in zip(values, rows, strict=True):
                slot[:] = np.frombuffer(frame, "<f4").reshape(slot.shape)
        return label(values, as_times(time), city)

    def times(
        self, city: City, series: str = "observed", *, first: np.datetime64 | None = None
    ) -> xr.DataArray:
        """Returns the start of each stored slot, UTC, dim `time`, with the attributes of a flow.

        It serves where a flow is asked only for its times, as by `windows.whole`.

        Args:
            city: whose archive it is.
            series: `observed`, or `expected` of a simulated city.
            first: UTC; slots that begin before it are left out.
        """
        query = _slots(FLOW.c.time, city, series, first)
        with self._database.read() as connection:
            _check_archive_of(connection, city)
            time = as_times(connection.execute(query).scalars().all())
        return xr.DataArray(time, dims="time", coords={"time": time}, attrs=attributes(city))

    def span(
        self, city: City, last: np.datetime64 | None = None
    ) -> tuple[np.datetime64, np.datetime64] | None:
        """Returns the start of the first and of the newest slot, UTC; None where there is none.

        Args:
            city: whose archive it is.
            last: slots that begin after it are left out.
        """
        query = _slots(FLOW.c.time, city, "observed", last=last).limit(1)
        newest = query.order_by(None).order_by(FLOW.c.time.desc())
        with self._database.read() as connection:
            _check_archive_of(connection, city)
            ends = [connection.execute(one).scalar() for one in (query, newest)]
        if ends[0] is None:
            return None
        first, last = as_times(ends)
        return first, last

    def pieces(
        self, city: City, series: str = "observed", *, last: np.datetime64 | None = None
    ) -> Iterator[xr.DataArray]:
        """Yields the archive in the order of time, some MB of it at a time.

        Args:
            city: whose archive it is.
            series: `observed`, or `expected` of a simulated city.
            last: UTC; slots that begin after it are left out.
        """
        time = self.times(city, series)["time"].values
        known = time if last is None else time[time <= last]
        slots = max(1, PIECE // (4 * len(CHANNELS) * city.grid[0] * city.grid[1]))
        for start in range(0, len(known), slots):
            part = known[start : start + slots]
            yield self.flow(city, series, first=part[0], last=part[-1])

    def revisions(self, city: City) -> pd.DataFrame:
        """Returns the values that were replaced: `series`, `time` and `frame` `(channel, y, x)`."""
        query = sa.select(REVISION).where(REVISION.c.city == city.name).order_by(REVISION.c.id)
        table = self._table(query, times=["time"])
        shape = (len(CHANNELS), *city.grid)
        frames = [np.frombuffer(frame, "<f4").reshape(shape) for frame in table["frame"]]
        return table.assign(frame=pd.Series(frames, dtype=object))

    def ingests(self, city: City) -> pd.DataFrame:
        """Returns the ledger of ingests, oldest first; `repairs` are dicts."""
        query = sa.select(INGEST).where(INGEST.c.city == city.name).order_by(INGEST.c.id)
        table = self._table(query, times=["at"])
        table["repairs"] = [json.loads(text) for text in table["repairs"]]
        return table

    def add_forecast(self, city: City, forecast: xr.DataArray) -> int:
        """Stores one forecast (a stack of one) with attributes and bands, and returns its number.

        Forecasts are never overwritten; of several with one `init_time` the newest counts.
        """
        return add_forecast(self._database, city, forecast)

    def forecast(self, city: City, init_time: np.datetime64 | None = None) -> xr.DataArray | None:
        """Returns the newest stored forecast, or the newest of those made at `init_time`.

        Its bands are as near to those that were stored as `data.intervals.packed` says.
        """
        return read_forecast(self._database, city, init_time)

    def forecasts(
        self, city: City, after: np.datetime64, until: np.datetime64
    ) -> Iterator[xr.DataArray]:
        """Yields the forecasts made after `after` and until `until`, UTC, in the order of time.

        Of several with one `init_time` all come, the newest last.
        """
        return read_forecasts(self._database, city, after, until)

    def forecast_list(self, city: City, last: int = 200) -> pd.DataFrame:
        """Returns the newest forecasts without their frames, oldest first.

        Args:
            city: whose they are.
            last: rows at most.

        Returns:
            columns `init_time` and `created_at` (UTC), `horizon`, `forecaster`, `version` (of the
            model, "" without one) and `notes` (sentences, one a line).
        """
        return list_forecasts(self._database, city, last)

    def first_forecast(self, city: City) -> np.datetime64 | None:
        """Returns when the city's first forecast was made, UTC; None where there is none."""
        return first_forecast(self._database, city)

    def state(self, city: City) -> str:
        """Returns a text that changes whenever what is stored of a city does."""
        return state(self._database, city)

    def lacking(self, city: City, first: np.datetime64, last: np.datetime64) -> np.ndarray:
        """Returns the slots from `first` to `last` that have no forecast, UTC, oldest first.

        Before the city's first forecast none lacks.
        """
        return read_lacking(self._database, city, first, last)

    def keep_calibration(
        self, city: City, version: str, time: np.datetime64, content: bytes
    ) -> None:
        """Stores how the bands of a version stand at `time`, UTC, in place of how they stood."""
        keep_calibration(self._database, city, version, time, content)

    def calibration(self, city: City, version: str) -> tuple[np.datetime64, bytes] | None:
        """Returns when the bands of a version were kept, UTC, and what was kept; None: never."""
        return read_calibration(self._database, city, version)

    def add_weather(
        self,
        city: City,
        weather: xr.DataArray,
        *,
        source: Source,
        repairs: Mapping[str, int] | None = None,
    ) -> Added:
        """Stores the records of one file, all or none, and an entry in the ledger of ingests.

        A value that is stored otherwise takes the new one, and the old is kept as a revision; a
        missing value changes nothing.

        Returns:
            How many records had new values and replaced none, had equal ones only, or replaced
            others.
        """
        return add_weather(self._database, city, weather, source, repairs or {})

    def weather(
        self,
        city: City,
        *,
        first: np.datetime64 | None = None,
        last: np.datetime64 | None = None,
    ) -> xr.DataArray:
        """Returns the weather of a city, dims `(time, variable)`; without records where none is.

        Args:
            city: where it was measured.
            first: UTC; records that were known before it are left out.
            last: UTC; records that were known after it are left out.

        Returns:
            variables by their names; those without a value from `first` to `last` are left out.
        """
        return read_weather(self._database, city, first, last)

    def weather_revisions(self, city: City) -> pd.DataFrame:
        """Returns the values that were replaced: `time`, `variable` and `value`, oldest first."""
        return weather_revisions(self._database, city)

    def promote(self, city: City, version: str, reason: str) -> None:
        """Makes `version` the city's champion from now on; the history is never rewritten."""
        with self._database.write() as connection:
            insert_promotion(connection, city, now(), version, reason)

    def champion(self, city: City) -> str | None:
        """Returns the version promoted last, None where there was none."""
        with self._database.read() as connection:
            return newest_promotion(connection, city)[0]

    def promotions(self, city: City) -> pd.DataFrame:
        """Returns the promotions, oldest first: `at`, `version`, `reason`."""
        query = sa.select(PROMOTION).where(PROMOTION.c.city == city.name).order_by(PROMOTION.c.id)
        return self._table(query, times=["at"])

    def scheduler_lock(self) -> AbstractContextManager[Held | None]:
        """Gives the lock of the one scheduler of this store, None where another process holds it."""
        return scheduler_lock(self._database)

    def close(self) -> None:
        """Closes the connections to the database."""
        self._database.close()

    def _table(self, query: "sa.Select[Any]", times: list[str]) -> pd.DataFrame:
        with self._database.read() as connection:
            table = pd.DataFrame(
                connection.execute(query).mappings().all(), columns=query.selected_columns.keys()
            )
        for name in times:
            table[name] = as_times(table[name].to_numpy(dtype=np.int64))
        return table


def _check_archive(connection: sa.Connection, city: City) -> None:
    """Checks the city's archive, and makes its entry where this is the first flow."""
    if not _check_archive_of(connection, city):
        connection.execute(sa.insert(ARCHIVE).values(_archive(city)))


def _check_archive_of(connection: sa.Connection, city: City) -> bool:
    """Returns whether there is an archive; one made otherwise than the TOML says is an error."""
    query = sa.select(ARCHIVE).where(ARCHIVE.c.city == city.name)
    row = connection.execute(query).mappings().first()
    if row is None:
        return False
    for key, value in _archive(city).items():
        if row[key] != value:
            raise FlowcastError(
                f"the archive of {city.name} was made with {key} {row[key]}, but its TOML says {value}; "
                f"put it back, or give the new description a name of its own"
            )
    return True


def _slots(
    column: "sa.Column[Any]",
    city: City,
    series: str,
    first: np.datetime64 | None = None,
    last: np.datetime64 | None = None,
) -> "sa.Select[Any]":
    """Returns the query for a column of the stored slots from `first` to `last`, oldest first."""
    query = (
        sa.select(column)
        .where(FLOW.c.city == city.name, FLOW.c.series == series)
        .order_by(FLOW.c.time)
    )
    if first is not None:
        query = query.where(FLOW.c.time >= int(as_seconds(np.asarray(first))))
    if last is not None:
        query = query.where(FLOW.c.time <= int(as_seconds(np.asarray(last))))
    return query


def _archive(city: City) -> dict[str, Any]:
    step = int(city.step / np.timedelta64(1, "s"))
    rows, columns = city.grid
    return {
        "city": city.name,
        "rows": rows,
        "columns": columns,
        "step": step,
        "timezone": city.timezone,
    }


def _stored(
    connection: sa.Connection, city: City, series: str, frames: Mapping[int, bytes]
) -> dict[int, dict[str, Any]]:
    """Returns `frame` and `ingest` of those of the slots `frames` that are stored, by time."""
    if not frames:
        return {}
    query = (
        sa.select(FLOW.c.time, FLOW.c.frame, FLOW.c.ingest)
        .where(FLOW.c.city == city.name, FLOW.c.series == series)
        .where(FLOW.c.time.between(min(frames), max(frames)))
    )
    return {
        row.time: {"frame": row.frame, "ingest": row.ingest}
        for row in connection.execute(query)
        if row.time in frames
    }


def _differs(city: City, source: Source, changed: list[int]) -> FlowcastError:
    first = pd.Timestamp(min(changed), unit="s", tz="UTC").tz_convert(city.timezone)
    return FlowcastError(
        f"{source.path}: {len(changed)} slots are stored with other values, "
        f"the first {first:%Y-%m-%d %H:%M}; nothing was stored; "
        f"to take the new values and keep the old as revisions, add --replace"
    )
