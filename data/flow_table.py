"""Tables of flow: CSV and Parquet files with a row for each cell of each slot.

Their columns are `time` (start of the slot, ISO 8601, with an offset or as the city's clocks showed
it), `y` and `x` (row and column from 0), `inflow` and `outflow` (vehicles per step). Every slot has a row
for each of its cells: one that lacks some was not written whole, and what is not there is not 0.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from data.city import City
from data.clock import stamp, utc
from data.errors import FlowcastError
from data.flow import CHANNELS, label
from data.taxibj import Reading

CELLS = ("y", "x")
COLUMNS = ("time", *CELLS, *CHANNELS)
MOST_ROWS = 50_000_000
MOST_BYTES = 2 * 2**30
OFFSET = r"(?:[zZ]|[+-]\d\d:?\d\d)$"


def open_flow_table(path: Path, city: City) -> Reading:
    """Returns the flow of a CSV or Parquet file and what was repaired in it.

    Raises:
        FlowcastError: the file is refused; the sentence says why and what to do.
    """
    try:
        return _reading(_table(path), city)
    except FlowcastError as error:
        raise FlowcastError(f"{path} {error}") from error


def is_flow_table(path: Path) -> bool:
    """Returns whether a file is Parquet by its name, or CSV whose header names the columns."""
    if path.suffix.lower() == ".parquet":
        return True
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            names = {cell.strip().strip('"').lower() for cell in file.readline(2**16).split(",")}
    except OSError:
        return False
    return names >= {*CHANNELS}


def _table(path: Path) -> pd.DataFrame:
    """Returns the columns, times as they stand in the file."""
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise FlowcastError(
                f"has {size / 2**20:,.0f} MiB, more than {MOST_BYTES / 2**20:,.0f}; split it by years"
            )
        table = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
    except (OSError, ValueError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FlowcastError(f"cannot be read ({text}); get it anew from its source") from error
    table.columns = [str(name).strip().lower() for name in table.columns]
    if lacking := [name for name in COLUMNS if name not in table]:
        raise FlowcastError(
            f"has no column {lacking[0]}; a table of flow has {', '.join(COLUMNS)}, a row a cell"
        )
    if table.columns.duplicated().any():
        raise FlowcastError("has a column more than once; rename or remove one")
    if table.empty:
        raise FlowcastError("has no row beneath its header; get it anew from its source")
    return table[list(COLUMNS)]


def _csv(path: Path) -> pd.DataFrame:
    # The newest rows of a file that is cut off would be read as if it ended there.
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 1))
        if file.read(1) not in (b"\n", b"\r"):
            raise FlowcastError("does not end with a line break, so its end may lack; get it anew")
    return pd.read_csv(path, dtype={"time": str}, encoding="utf-8-sig", nrows=MOST_ROWS)


def _parquet(path: Path) -> pd.DataFrame:
    from pyarrow import parquet  # a forecast does without

    with parquet.ParquetFile(path) as file:
        if file.metadata.num_rows > MOST_ROWS:
            raise FlowcastError(
                f"has {file.metadata.num_rows:,} rows, more than {MOST_ROWS:,}; split it by years"
            )
        names = [name for name in file.schema_arrow.names if name.strip().lower() in COLUMNS]
        table: pd.DataFrame = file.read(columns=names).to_pandas()
    return table


def _reading(table: pd.DataFrame, city: City) -> Reading:
    """Returns the flow of the rows."""
    rows, repairs = _numbers(table, city)
    time = _times(table["time"], city)
    moments, slot = np.unique(time, return_inverse=True)
    y, x = (rows[name].to_numpy().astype(np.int64) for name in CELLS)
    place = (slot * city.grid[0] + y) * city.grid[1] + x
    whole = len(moments) * city.grid[0] * city.grid[1]
    first, index, count = np.unique(place, return_index=True, return_counts=True)
    values = rows[list(CHANNELS)].to_numpy(dtype=np.float64)
    if (count > 1).any():
        _check_copies(place, values, moments, city)
        repairs["duplicates_equal"] = len({*(slot[index[count > 1]].tolist())})
    if len(first) < whole:
        lacking = np.setdiff1d(np.arange(whole), first)
        moment = moments[lacking[0] // (city.grid[0] * city.grid[1])]
        raise FlowcastError(
            f"lacks {len(lacking):,} cells of its {len(moments):,} slots, the first of "
            f"{stamp(moment, city.timezone)}; write a row for every cell, 0 where nothing moves"
        )
    if (np.diff(slot) < 0).any():
        repairs["unsorted"] = int((np.diff(slot) < 0).sum())
    frames = values[index].reshape(len(moments), *city.grid, len(CHANNELS)).transpose(0, 3, 1, 2)
    finite = np.isfinite(frames).all(axis=(1, 2, 3))
    repairs["not_finite"] = int((~finite).sum())
    if not finite.any():
        raise FlowcastError("has no slot without missing values; get it anew from its source")
    _check_grid_of_time(moments, city)
    repairs["negative"] = int((frames[finite] < 0).sum())
    flow = label(np.maximum(frames[finite], 0), moments[finite], city)
    return Reading(flow, "observed", {name: count for name, count in repairs.items() if count})


def _numbers(table: pd.DataFrame, city: City) -> tuple[pd.DataFrame, dict[str, int]]:
    """Returns the columns but for the time as numbers.

    Raises:
        FlowcastError: a cell lies outside the grid, or there is text among them.
    """
    rows = pd.DataFrame(index=table.index)
    for name in COLUMNS[1:]:
        column = pd.to_numeric(table[name], errors="coerce")
        if (wrong := column.isna() & table[name].notna()).any():
            text = table[name][wrong].iloc[0]
            raise FlowcastError(f"has {str(text)[:40]!r} in its column {name}; write numbers there")
        rows[name] = column
    for name, size in zip(CELLS, city.grid, strict=True):
        column = rows[name]
        if not ((column >= 0) & (column < size) & (column % 1 == 0)).all():
            raise FlowcastError(
                f"has a cell outside the grid of {city.grid[0]}x{city.grid[1]}: {name} goes from 0 to "
                f"{size - 1}; mend it, or the grid in the city's TOML"
            )
    return rows, {}


def _times(column: pd.Series, city: City) -> np.ndarray:
    """Returns the times of the rows, UTC.

    Raises:
        FlowcastError: they are no times, or tell no moment.
    """
    texts, place = np.unique(column.to_numpy().astype(str), return_inverse=True)
    unique = pd.Series(texts)
    marked = unique.str.contains(OFFSET, regex=True)
    try:
        if marked.all():
            times = pd.to_datetime(unique, utc=True, format="ISO8601").dt.tz_localize(None)
            moments = times.to_numpy().astype("datetime64[s]")
        elif marked.any():
            raise FlowcastError("has times with and without an offset; write all of one kind")
        else:
            shown = pd.to_datetime(unique, format="ISO8601").to_numpy().astype("datetime64[s]")
            moments = _told_apart(shown, city)
    except ValueError as error:
        raise FlowcastError(
            f"has a time that is none ({str(error).splitlines()[0][:80]}); write it like "
            f"2016-03-20T08:00 or 2016-03-20T08:00+08:00"
        ) from error
    return np.asarray(moments[place])


def _told_apart(shown: np.ndarray, city: City) -> np.ndarray:
    """Returns when clocks showed times that they show just once."""
    zoned = pd.DatetimeIndex(shown).tz_localize(city.timezone, ambiguous="NaT", nonexistent="NaT")
    if (unknown := zoned.isna()).any():
        raise FlowcastError(
            f"has the time {pd.Timestamp(shown[unknown][0]):%Y-%m-%d %H:%M}, which clocks in "
            f"{city.timezone} showed twice or never; write its times with an offset, such as +01:00"
        )
    return utc(shown, city.timezone)


def _check_grid_of_time(moments: np.ndarray, city: City) -> None:
    """Refuses times at which no slot of the city begins."""
    step = int(city.step / np.timedelta64(1, "s"))
    shown = pd.DatetimeIndex(moments).tz_localize("UTC").tz_convert(city.timezone)
    seconds = shown.hour * 3600 + shown.minute * 60 + shown.second
    if (wrong := (seconds.to_numpy() % min(step, 3600)) != 0).any() and step <= 3600:
        raise FlowcastError(
            f"has a slot at {stamp(moments[wrong][0], city.timezone)}:{shown[wrong][0].second:02}, but "
            f"slots of {city.name} begin every {step // 60} min from midnight; mend its times"
        )
    if step > 3600 and (wrong := (seconds.to_numpy() % step) != 0).any():
        raise FlowcastError(
            f"has a slot at {stamp(moments[wrong][0], city.timezone)}, but slots of {city.name} begin "
            f"every {step // 3600} h from midnight; mend its times"
        )


def _check_copies(place: np.ndarray, values: np.ndarray, moments: np.ndarray, city: City) -> None:
    """Refuses rows of one cell and slot that differ."""
    order = np.argsort(place, kind="stable")
    same = np.diff(place[order]) == 0
    differ = same & (np.diff(values[order], axis=0) != 0).any(axis=1)
    if differ.any():
        slot = place[order][1:][differ][0] // (city.grid[0] * city.grid[1])
        raise FlowcastError(
            f"has {int(differ.sum()):,} cells twice with other values, the first in the slot of "
            f"{stamp(moments[slot], city.timezone)}; keep one row of each"
        )
