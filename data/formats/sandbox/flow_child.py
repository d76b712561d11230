"""The child process that opens an HDF5 file in the TaxiBJ layout; see `read_in_child.py`."""

import json
import math
import sys
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from data.formats.sandbox.child_process import (
    GIB,
    MAX_SLOTS,
    OtherFormat,
    Refused,
    check_date,
    check_stored,
    dataset,
    labels_of,
    read_file,
)

BLOCK_BYTES = 2**27
LAYOUT = "the TaxiBJ layout is `data` and `date`"


def read(file: Any, rows: int, columns: int, declared: int) -> None:
    """Streams an open file to stdout.

    Args:
        file: the HDF5 file.
        rows: of the grid that it must have.
        columns: of the grid that it must have.
        declared: bytes that its values may have as float32.
    """
    if b"data" not in file.id and b"Temperature" in file.id:
        raise OtherFormat
    data, date = dataset(file, "data", LAYOUT), dataset(file, "date", LAYOUT)
    _check_data(data, (rows, columns), declared)
    check_date(date, len(data))
    _stream(sys.stdout.buffer, data, labels_of(date), _content(file))


def _check_data(data: Any, grid: tuple[int, int], declared: int) -> None:
    """Refuses values of another shape or dtype, none, or too many."""
    if data.ndim != 4 or data.shape[1] != 2:
        raise Refused(
            f"has data of shape {data.shape} in place of (slots, 2, rows, columns); reorder them"
        )
    if data.shape[2:] != grid:
        raise Refused(
            f"has the grid {list(data.shape[2:])}, the city {list(grid)}; "
            f"set grid = {list(data.shape[2:])} in the city's TOML, or name another city"
        )
    if data.dtype.kind not in "iuf" or data.dtype.itemsize > 8:
        raise Refused(
            f"has data of dtype {data.dtype} in place of integers or floats; convert them"
        )
    if len(data) == 0:
        raise Refused("has no slot at all; get it anew from its source")
    if 4 * data.size > declared or len(data) > MAX_SLOTS:
        raise Refused(
            f"declares {len(data):,} slots of {4 * data.size / GIB:.3g} GiB, more than "
            f"{MAX_SLOTS:,} slots or {declared / GIB:.3g} GiB; split it by years"
        )
    check_stored(data)


def _content(file: Any) -> str:
    """Returns the root's attribute `content` where it is a short text."""
    if "content" not in file.attrs or file.attrs.get_id("content").get_storage_size() > 1024:
        return ""
    content = file.attrs["content"]
    return content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)


def _stream(output: IO[bytes], data: Any, labels: np.ndarray, content: str) -> None:
    """Writes the header, the values block by block, and the dates."""
    output.write(json.dumps({"content": content}).encode() + b"\n")
    header = {"descr": "<f4", "fortran_order": False, "shape": data.shape}
    np.lib.format.write_array_header_1_0(output, header)
    for block in _blocks(data):
        output.write(block.data)
    np.save(output, labels, allow_pickle=False)
    output.flush()


def _blocks(data: Any) -> Iterator[np.ndarray]:
    """Yields the values as float32, some whole chunks at a time where they are not too long."""
    slots = max(1, BLOCK_BYTES // (math.prod(data.shape[1:]) * data.dtype.itemsize))
    along = data.chunks[0] if data.chunks else 1
    if slots > along:
        slots -= slots % along
    for start in range(0, len(data), slots):
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite and so missing
            yield data[start : start + slots].astype("<f4")


if __name__ == "__main__":
    sys.exit(read_file(sys.argv[1:], read))
