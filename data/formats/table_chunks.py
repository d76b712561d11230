"""Chunks of a table of flow: some rows of a CSV or Parquet file at a time, however long it is."""

import csv
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from data.errors import FlowcastError

COLUMNS = ("time", "y", "x", "inflow", "outflow")
CHUNK_ROWS = 2**18
MAX_ROWS = 50_000_000
MAX_BYTES = 2 * 2**30
MIN_ROW_BYTES = 12
"""Bytes of the shortest row that a CSV file can have."""
MAX_TEXT_BYTES = 64
"""Bytes of a text in a Parquet file: one of 1 GB can stand there once, for millions of rows."""


class Chunks(NamedTuple):
    """A table of flow, read lazily.

    Attributes:
        tables: some rows each with the columns `COLUMNS`, in the order of the file.
        max_rows: upper bound of its rows.
    """

    tables: Iterator[pd.DataFrame]
    max_rows: int


def csv_header(path: Path) -> set[str]:
    """Returns the names of the columns of a CSV file in small letters; none of any other file."""
    if path.suffix.lower() != ".csv":
        return set()
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return {cell.strip().strip('"').lower() for cell in file.readline(2**16).split(",")}
    except OSError:
        return set()


def open_chunks(path: Path) -> Chunks:
    """Returns the chunks of a file.

    Raises:
        FlowcastError: it is refused; also raised while it is read.
    """
    if (size := path.stat().st_size) > MAX_BYTES:
        raise _too_large(size)
    if path.suffix.lower() == ".parquet":
        return Chunks(_readable(_parquet(path)), MAX_ROWS)
    return Chunks(_readable(_csv(path)), min(MAX_ROWS, size // MIN_ROW_BYTES))


def _readable(tables: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Yields tables; an error of a parser is a refusal."""
    try:
        yield from tables
    except (FlowcastError, MemoryError):
        raise
    except Exception as error:  # Arrow documents no error of damaged files
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FlowcastError(f"cannot be read ({text}); get it anew from its source") from error


def _csv(path: Path) -> Iterator[pd.DataFrame]:
    _check_lines(path)
    with path.open(encoding="utf-8-sig", errors="replace") as text:
        names = _names(next(csv.reader([text.readline(2**16)])))
    with warnings.catch_warnings():
        # A row that is longer than the header is shifted: no number of it is what it seems.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        reader = pd.read_csv(
            path,
            names=[name if name in COLUMNS else f"{name} {n}" for n, name in enumerate(names)],
            header=0,
            index_col=False,
            dtype={"time": str},
            encoding="utf-8-sig",
            chunksize=CHUNK_ROWS,
        )
        with reader:
            for table in reader:
                yield table[list(COLUMNS)]


def _check_lines(path: Path) -> None:
    """Refuses a file that was cut off, and one with a line of a MB, which costs six times as much."""
    last = b""
    with path.open("rb") as file:
        while block := file.read(2**20):
            if len(block) == 2**20 and b"\n" not in block and b"\r" not in block:
                raise FlowcastError("has a line of a MB; write a row for every cell")
            last = block[-1:]
    # A file that is cut off would be read as if it ended there.
    if last not in (b"\n", b"\r"):
        raise FlowcastError("does not end with a line break, so its end may lack; get it anew")


def _parquet(path: Path) -> Iterator[pd.DataFrame]:
    from pyarrow import parquet  # a forecast does without

    schema = parquet.read_schema(path)
    _names(schema.names)
    columns = {field.name.strip().lower(): field for field in schema}
    texts = [columns[name].name for name in COLUMNS if _is_text(columns[name].type)]
    with parquet.ParquetFile(path, read_dictionary=texts, page_checksum_verification=True) as file:
        if (rows := file.metadata.num_rows) > MAX_ROWS:
            raise FlowcastError(f"has {rows:,} rows, more than {MAX_ROWS:,}; split it by years")
        groups = (file.metadata.row_group(n) for n in range(file.num_row_groups))
        if (size := sum(group.total_byte_size for group in groups)) > MAX_BYTES:
            raise _too_large(size)
        names = [columns[name].name for name in COLUMNS]
        for batch in file.iter_batches(CHUNK_ROWS, columns=names):
            arrays = {name: batch.column(columns[name].name) for name in COLUMNS}
            yield pd.DataFrame({name: _series(name, array) for name, array in arrays.items()})


def _names(header: list[str]) -> list[str]:
    """Returns the names of the columns in small letters."""
    names = [name.strip().lower() for name in header]
    if missing := [name for name in COLUMNS if name not in names]:
        raise FlowcastError(
            f"has no column {missing[0]}; a table of flow has {', '.join(COLUMNS)}, a row a cell"
        )
    if repeated := [name for name in COLUMNS if names.count(name) > 1]:
        raise FlowcastError(f"has the column {repeated[0]} more than once; rename or remove one")
    return names


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _series(name: str, array: Any) -> pd.Series:
    """Returns an Arrow array in pandas, if its type is one of a time or a number."""
    import pyarrow as pa
    from pyarrow import compute

    kind, types = array.type, pa.types
    if _is_text(kind):
        texts = array.dictionary if types.is_dictionary(kind) else array
        if (compute.max(compute.binary_length(texts)).as_py() or 0) > MAX_TEXT_BYTES:
            raise FlowcastError(
                f"has a text of more than {MAX_TEXT_BYTES} bytes in its column {name}"
            )
    elif name == "time":
        if not (types.is_timestamp(kind) or types.is_date(kind)):
            raise FlowcastError(f"has a time of the type {kind}; write timestamps or ISO 8601")
    elif not any(
        (
            types.is_integer(kind),
            types.is_floating(kind),
            types.is_decimal(kind),
            types.is_null(kind),
        )
    ):
        raise FlowcastError(f"has the type {kind} in its column {name}; write numbers there")
    series: pd.Series = array.to_pandas()
    return series


def _too_large(size: int) -> FlowcastError:
    return FlowcastError(
        f"has {size / 2**20:,.0f} MiB, more than {MAX_BYTES / 2**20:,.0f}; split it by years"
    )
