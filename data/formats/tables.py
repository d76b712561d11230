"""Tables of flow: CSV and Parquet files with a row for each cell of each slot.

Their columns are `time` (start of the slot, ISO 8601, with an offset or as the city's clocks showed
it), `y` and `x` (row and column from 0), `inflow` and `outflow` (vehicles per step). Every slot has a row
for each of its cells: a missing cell is not 0, and a slot with one was not written whole.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from data.city import City
from data.clock import stamp
from data.errors import FlowcastError
from data.files import atomic_write
from data.flow import CHANNELS, label, possible
from data.formats.reading import Reading
from data.formats.table_chunks import COLUMNS, csv_header, open_chunks
from data.formats.table_times import moments_of

CELLS = ("y", "x")


def open_flow_table(path: Path, city: City) -> Reading:
    """Returns the flow of a CSV or Parquet file and what was repaired in it.

    A file of a few KB can hold millions of rows: they are read in chunks, and memory grows with the
    slots that the rows can fill.

    Raises:
        FlowcastError: the file is refused; the sentence says why and what to do.
    """
    try:
        return _reading(path, city)
    except OSError as error:
        raise FlowcastError(
            f"{path} cannot be read ({error.strerror}); check that it exists and may be read"
        ) from error
    except FlowcastError as error:
        raise FlowcastError(f"{path} {error}") from error


def write_flow_csv(path: Path, flow: xr.DataArray) -> None:
    """Writes a flow as CSV with times in UTC, whole or not at all.

    Raises:
        FlowcastError: the file cannot be written.
    """
    table = flow.drop_attrs().to_dataset("channel").reset_coords(drop=True).to_dataframe()
    rows = table.reset_index()
    rows["time"] = rows["time"].dt.strftime("%Y-%m-%dT%H:%MZ")
    with atomic_write(path) as temporary:
        rows[list(COLUMNS)].to_csv(temporary, index=False)


def is_flow_csv(path: Path) -> bool:
    """Returns whether a file is CSV and its header has a column of flow, or those of cells and times."""
    names = csv_header(path)
    return not names.isdisjoint(CHANNELS) or names >= {"time", *CELLS}


def is_parquet(path: Path) -> bool:
    """Returns whether a file is Parquet, by its name."""
    return path.suffix.lower() == ".parquet"


def _reading(path: Path, city: City) -> Reading:
    """Returns the flow of all rows."""
    chunks, max_rows = open_chunks(path)
    slots = _Slots(city, max_rows)
    offsets = set()
    for table in chunks:
        if table.empty:
            continue
        moments, offset = moments_of(table["time"], city)
        offsets.add(offset)
        slots.fill(moments, *_numbers(table, city))
    if not offsets:
        raise FlowcastError("has no row beneath its header; get it anew from its source")
    if len(offsets) > 1:
        raise FlowcastError(
            "has times with and without an offset; write all with one, or all without"
        )
    return slots.reading()


class _Slots:
    """Slots that are filled chunk by chunk; no more than `max_rows` rows fill."""

    def __init__(self, city: City, max_rows: int) -> None:
        self.city, self.cells = city, city.grid[0] * city.grid[1]
        self.max_slots = max_rows // self.cells
        self.place: dict[int, int] = {}  # of a slot, by its time in seconds
        self.values = np.empty((0, self.cells, len(CHANNELS)), np.float32)
        self.named = np.empty((0, self.cells), bool)
        self.rows = np.empty(0, np.int64)  # of each slot
        self.newest, self.unsorted = np.datetime64(-(2**62), "s"), 0

    def fill(self, moments: np.ndarray, cells: np.ndarray, values: np.ndarray) -> None:
        """Fills in rows: UTC times, cells from 0 row by row, values with a column a channel.

        Raises:
            FlowcastError: a cell of a slot is given again with other values, or cells are missing.
        """
        unique, index = np.unique(moments, return_inverse=True)
        for second in unique.astype(np.int64).tolist():
            self.place.setdefault(second, len(self.place))
        self._make_room()
        slot = np.array([self.place[second] for second in unique.astype(np.int64).tolist()])[index]
        new = ~self.named[slot, cells]
        self.values[slot[new], cells[new]] = values[new]
        self.named[slot, cells] = True
        self.rows += np.bincount(slot, minlength=len(self.rows))
        stored = self.values[slot, cells]
        differs = ((stored != values) & ~(np.isnan(stored) & np.isnan(values))).any(axis=1)
        if differs.any():
            raise FlowcastError(
                f"has {int(differs.sum()):,} cells twice with other values, the first in the slot of "
                f"{self._stamp(moments[differs][0])}; keep one row of each"
            )
        self.unsorted += int((np.diff(moments, prepend=self.newest) < np.timedelta64(0)).sum())
        self.newest = moments[-1]

    def _make_room(self) -> None:
        """Makes room for the known slots, at least twice as much as before."""
        if (count := len(self.place)) > self.max_slots:
            raise FlowcastError(
                f"has {count:,} slots or more, and fewer rows than their {self.cells:,} cells each; "
                f"write a row for every cell, 0 where nothing moves"
            )
        if count > len(self.rows):
            more = min(self.max_slots, max(count, 2 * len(self.rows))) - len(self.rows)
            self.values = np.pad(self.values, ((0, more), (0, 0), (0, 0)))
            self.named = np.pad(self.named, ((0, more), (0, 0)))
            self.rows = np.pad(self.rows, (0, more))

    def reading(self) -> Reading:
        """Returns the flow of the slots and what was repaired in them.

        Raises:
            FlowcastError: a slot lacks cells, or no slot is whole.
        """
        times = np.array([*self.place], dtype=np.int64).astype("datetime64[s]")
        order = np.argsort(times)
        times, named = times[order], self.named[order]
        if missing := int((~named).sum()):
            raise FlowcastError(
                f"lacks {missing:,} cells of its {len(times):,} slots, the first of "
                f"{self._stamp(times[~named.all(axis=1)][0])}; write a row for every cell, 0 where "
                f"nothing moves"
            )
        frames = self.values[order].reshape(len(times), *self.city.grid, len(CHANNELS))
        frames = frames.transpose(0, 3, 1, 2)
        finite = possible(frames)
        if not finite.any():
            raise FlowcastError("has no slot without missing or impossible values; get it anew")
        frames = frames[finite]
        repairs = {
            "duplicates_equal": int((self.rows > self.cells).sum()),
            "unsorted": self.unsorted,
            "not_finite": int((~finite).sum()),
            "negative": int((frames < 0).sum()),
        }
        flow = label(np.maximum(frames, 0), times[finite], self.city)
        return Reading(flow, "observed", {name: count for name, count in repairs.items() if count})

    def _stamp(self, moment: np.datetime64) -> str:
        return stamp(moment, self.city.timezone)


def _numbers(table: pd.DataFrame, city: City) -> tuple[np.ndarray, np.ndarray]:
    """Returns the cell of each row, counted row by row, and the values.

    Raises:
        FlowcastError: a cell lies outside the grid, or a cell holds no number.
    """
    columns = {name: _column(table[name], name) for name in COLUMNS[1:]}
    for name, size in zip(CELLS, city.grid, strict=True):
        column = columns[name]
        if not ((column >= 0) & (column < size) & (column % 1 == 0)).all():
            raise FlowcastError(
                f"has a cell outside the grid of {city.grid[0]}x{city.grid[1]}: {name} goes from 0 to "
                f"{size - 1}; mend it, or the grid in the city's TOML"
            )
    cells = columns["y"] * city.grid[1] + columns["x"]
    with np.errstate(over="ignore"):  # what float32 cannot hold is not finite
        values = np.stack([columns[name] for name in CHANNELS], axis=1).astype(np.float32)
    return cells.astype(np.int64), values


def _column(column: pd.Series, name: str) -> np.ndarray:
    """Returns numbers, NaN where a cell is empty."""
    if pd.api.types.is_bool_dtype(column):
        raise FlowcastError(f"has true and false in its column {name}; write numbers there")
    numbers = pd.to_numeric(column, errors="coerce")
    if (wrong := numbers.isna() & column.notna()).any():
        text = str(column[wrong].iloc[0])[:40]
        raise FlowcastError(f"has {text!r} in its column {name}; write numbers there")
    with np.errstate(invalid="ignore"):
        return numbers.to_numpy(dtype=np.float64, na_value=np.nan)
