"""The child process that opens an HDF5 file of weather in the TaxiBJ layout; see `read_in_child.py`."""

import json
import sys
from typing import Any

import numpy as np

from data.formats.sandbox.child_process import (
    GIB,
    MAX_SLOTS,
    Refused,
    check_date,
    check_stored,
    dataset,
    labels_of,
    read_file,
)

TYPES = 17
LAYOUT = "weather is `date`, `Temperature`, `WindSpeed` and `Weather`"


def read(file: Any, declared: int) -> None:
    """Streams an open file to stdout: temperature, wind speed and types side by side, and dates.

    Args:
        file: the HDF5 file.
        declared: bytes that its values may have as float32.
    """
    date = dataset(file, "date", LAYOUT)
    columns = {name: dataset(file, name, LAYOUT) for name in ("Temperature", "WindSpeed")}
    types = dataset(file, "Weather", LAYOUT)
    slots = len(date) if date.shape else 0
    if not slots or slots > MAX_SLOTS or 4 * (TYPES + 2) * slots > declared:
        raise Refused(
            f"declares {slots:,} slots; from 1 to {MAX_SLOTS:,} and {declared / GIB:.3g} GiB of "
            f"values can be read"
        )
    check_date(date, slots)
    for name, found, shape in (
        *((name, column, (slots,)) for name, column in columns.items()),
        ("Weather", types, (slots, TYPES)),
    ):
        if found.shape != shape or found.dtype.kind not in "iufb" or found.dtype.itemsize > 8:
            raise Refused(
                f"has {name} of shape {found.shape} and dtype {found.dtype} in place of numbers of "
                f"shape {shape}; mend it"
            )
        check_stored(found)
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite and so missing
        values = np.concatenate(
            [
                *(column[:].astype("<f4")[:, None] for column in columns.values()),
                types[:].astype("<f4"),
            ],
            axis=1,
        )
    output = sys.stdout.buffer
    output.write(json.dumps({"content": "weather"}).encode() + b"\n")
    for array in (values, labels_of(date)):
        np.save(output, array, allow_pickle=False)
    output.flush()


if __name__ == "__main__":
    sys.exit(read_file(sys.argv[1:], read))
