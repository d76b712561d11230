"""Flow in the store: a frame for each city, series and slot, and the frames that were replaced.

A series is `observed`, or `expected` of a simulated city.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
import xarray as xr

from data.city import City
from data.errors import FlowcastError
from data.flow import CHANNELS, attributes, label
from data.store.columns import as_second, as_seconds, as_times
from data.store.database import Repository
from data.store.ingests import Added, Source, add_ingest
from data.store.schema import ARCHIVE, FLOW, REVISION

FETCHED_ROWS = 512
"""Rows that are taken from the database at a time."""
CHUNK_BYTES = 2**24
"""Bytes of flow that are read at a time where the whole is not needed at once."""


class FlowArchive(Repository):
    """The flow in `database`.

    Every method raises `FlowcastError` where the archive of the city was made with another grid, step
    or timezone than its TOML says now.
    """

    def add(
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

        With `replace` a slot that is stored with another value takes the new one, and the old one is
        kept as a revision.

        Raises:
            FlowcastError: a stored slot differs and `replace` is not set.
            StoreError: the database cannot be written.
        """
        frames = {
            int(time): np.ascontiguousarray(frame, dtype="<f4").tobytes()
            for time, frame in zip(as_seconds(flow["time"].values), flow.values, strict=True)
        }
        with self._database.write() as connection:
            if not _check_archive(connection, city):
                connection.execute(sa.insert(ARCHIVE).values(_archive(city)))
            stored = _stored(connection, city, series, frames)
            new = [time for time in frames if time not in stored]
            changed = [time for time, old in stored.items() if old["frame"] != frames[time]]
            if changed and not replace:
                raise _differs(city, source, changed)
            added = Added(len(new), len(stored) - len(changed), len(changed))
            ingest = add_ingest(connection, city, source, added, repairs or {})
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

    def read(
        self,
        city: City,
        series: str = "observed",
        *,
        first: np.datetime64 | None = None,
        last: np.datetime64 | None = None,
    ) -> xr.DataArray:
        """Returns the slots from `first` to `last`, UTC, as a checked flow; it may have none."""
        times, frames = (
            _slots(column, city, series, first, last) for column in (FLOW.c.time, FLOW.c.frame)
        )
        with self._database.read() as connection:
            _check_archive(connection, city)
            time = connection.execute(times).scalars().all()
            values = np.empty((len(time), len(CHANNELS), *city.grid), dtype=np.float32)
            options = {"yield_per": FETCHED_ROWS}
            rows = connection.execute(frames, execution_options=options).scalars()
            for slot, frame in zip(values, rows, strict=True):
                slot[:] = np.frombuffer(frame, "<f4").reshape(slot.shape)
        return label(values, as_times(time), city)

    def times(
        self, city: City, series: str = "observed", *, first: np.datetime64 | None = None
    ) -> xr.DataArray:
        """Returns the starts of the slots from `first` on, UTC, dim `time`, with a flow's attributes.

        It serves where only the times of a flow are needed, as by `windows.whole`.
        """
        query = _slots(FLOW.c.time, city, series, first)
        with self._database.read() as connection:
            _check_archive(connection, city)
            time = as_times(connection.execute(query).scalars().all())
        return xr.DataArray(time, dims="time", coords={"time": time}, attrs=attributes(city))

    def span(
        self, city: City, last: np.datetime64 | None = None
    ) -> tuple[np.datetime64, np.datetime64] | None:
        """Returns the starts of the first and the newest observed slot until `last`, UTC; or None."""
        query = _slots(FLOW.c.time, city, "observed", last=last).limit(1)
        newest = query.order_by(None).order_by(FLOW.c.time.desc())
        with self._database.read() as connection:
            _check_archive(connection, city)
            ends = [connection.execute(one).scalar() for one in (query, newest)]
        if ends[0] is None:
            return None
        first, last = as_times(ends)
        return first, last

    def chunks(
        self, city: City, series: str = "observed", *, last: np.datetime64 | None = None
    ) -> Iterator[xr.DataArray]:
        """Yields the slots until `last`, UTC, in the order of time, some MB of them at a time."""
        time = self.times(city, series)["time"].values
        known = time if last is None else time[time <= last]
        slots = max(1, CHUNK_BYTES // (4 * len(CHANNELS) * city.grid[0] * city.grid[1]))
        for start in range(0, len(known), slots):
            part = known[start : start + slots]
            yield self.read(city, series, first=part[0], last=part[-1])

    def revisions(self, city: City) -> pd.DataFrame:
        """Returns the values that were replaced: `series`, `time` and `frame` `(channel, y, x)`."""
        query = sa.select(REVISION).where(REVISION.c.city == city.name).order_by(REVISION.c.id)
        table = self._database.table(query, times=["time"])
        shape = (len(CHANNELS), *city.grid)
        frames = [np.frombuffer(frame, "<f4").reshape(shape) for frame in table["frame"]]
        return table.assign(frame=pd.Series(frames, dtype=object))


def _check_archive(connection: sa.Connection, city: City) -> bool:
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


def _archive(city: City) -> dict[str, Any]:
    rows, columns = city.grid
    return {
        "city": city.name,
        "rows": rows,
        "columns": columns,
        "step": int(city.step / np.timedelta64(1, "s")),
        "timezone": city.timezone,
    }


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
        query = query.where(FLOW.c.time >= as_second(first))
    if last is not None:
        query = query.where(FLOW.c.time <= as_second(last))
    return query


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
