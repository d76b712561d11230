"""The TaxiBJ layout -> flow: HDF5 with `data` and `date`, at any grid and step.

`data` is `(slots, 2, rows, columns)`, inflow and outflow in vehicles per step; `date` is
`YYYYMMDDSS`, the slot of the day in the city's wall time (`taxibj_dates.py`). The layout is that of
Zhang, Zheng and Qi (AAAI 2017, arXiv 1610.00081). Files of others are opened in a child process
(`sandbox/`); what can be repaired is repaired and counted, anything else is refused whole.
"""

import io
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import xarray as xr

from data.city import City
from data.errors import FlowcastError
from data.files import atomic_write
from data.flow import label, possible
from data.formats.reading import Reading
from data.formats.sandbox.read_in_child import Contents, read_flow_in_child
from data.formats.taxibj_dates import dates, times

SIGNATURE = b"\x89HDF\r\n\x1a\n"
EXPECTED = "expected flow"
CHUNK_BYTES = 2**20


def is_hdf5(path: Path) -> bool:
    """Returns whether a file is HDF5, by its name or its first bytes."""
    if path.suffix.lower() in (".h5", ".hdf5"):
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(SIGNATURE)) == SIGNATURE
    except OSError:
        return False


def open_taxibj(path: Path, city: City) -> Reading:
    """Returns the flow of a file in the TaxiBJ layout and what was repaired in it.

    Raises:
        OtherFormat: it holds weather.
        FlowcastError: the file is refused; the sentence says why and what to do.
    """
    contents = read_flow_in_child(path, city.grid)
    try:
        flow, repairs, ambiguous = _repaired(contents, city)
    except FlowcastError as error:
        raise FlowcastError(f"{path}: {error}") from error
    series = "expected" if contents.content == EXPECTED else "observed"
    return Reading(flow, series, repairs, ambiguous)


def write_taxibj(
    path: Path, values: np.ndarray, time: np.ndarray, city: City, content: str = ""
) -> None:
    """Writes a flow to a file in the TaxiBJ layout, whole or not at all.

    Values have dims `(time, channel, y, x)` and keep their dtype; `time` is UTC; `content` is "expected
    flow" where they are not observed.

    Raises:
        FlowcastError: a time is not the start of a slot, or the file cannot be written.
    """
    if values.shape != (len(time), 2, *city.grid) or not len(time):
        raise ValueError(f"{len(time)} times and values {values.shape} are no flow of {city.name}")
    slots = min(len(time), max(1, CHUNK_BYTES // values[0].nbytes))
    image = io.BytesIO()  # HDF5 itself dies of a full disk
    with h5py.File(image, "w") as file:
        file.create_dataset(
            "data",
            data=values,
            chunks=(slots, *values.shape[1:]),
            compression="gzip",
            shuffle=True,
        )
        file.create_dataset("date", data=dates(time, city))
        if content:
            file.attrs["content"] = content
    with atomic_write(path) as temporary:
        temporary.write_bytes(image.getbuffer())


class _Unique(NamedTuple):
    """Every slot once, in the order of time."""

    values: np.ndarray
    time: np.ndarray
    equal: int
    merged: int


def _repaired(
    contents: Contents, city: City
) -> tuple[xr.DataArray, dict[str, int], dict[np.datetime64, np.datetime64]]:
    """Returns the flow, its repairs, and its ambiguous slots."""
    time, ambiguous, second = times(contents.dates, city)
    exists = ~np.isnat(time)
    finite = possible(contents.values)
    usable = np.flatnonzero(exists & finite)
    if not len(usable):
        raise FlowcastError(
            f"none of {len(time):,} slots can be used: {(~finite).sum():,} have NaN, infinite or "
            f"impossible values, {(~exists).sum():,} a local time that does not exist; get the file anew"
        )
    unique = _unique(contents.values, time, usable, city)
    empty = np.asarray(~unique.values.any(axis=(1, 2, 3)))
    drop_empty = city.empty == "missing"
    kept = ~empty if drop_empty else np.ones_like(empty)
    if not kept.any():
        raise FlowcastError(
            f'all of {len(empty):,} slots are without a single vehicle; set empty = "kept" in the '
            f"TOML of {city.name} if that is true"
        )
    repairs = {
        "negative": (contents.values < 0)[usable].sum(),
        "not_finite": (~finite).sum(),
        "skipped_hour": (~exists).sum(),
        "repeated_hour": ambiguous.sum(),
        "unsorted": _unsorted(time[usable]),
        "duplicates_equal": unique.equal,
        "duplicates_merged": unique.merged,
        "empty_dropped" if drop_empty else "empty_kept": empty.sum(),
    }
    flow = label(unique.values if kept.all() else unique.values[kept], unique.time[kept], city)
    unresolved = _unresolved(flow["time"].values, time, second, city)
    return flow, {name: int(count) for name, count in repairs.items() if count}, unresolved


def _unresolved(
    stored: np.ndarray, time: np.ndarray, second: np.ndarray, city: City
) -> dict[np.datetime64, np.datetime64]:
    """Returns the second times of ambiguous slots, by the first, where the slot before is missing.

    Where the slot before stands in the file, as in a file of a whole day, they follow it.
    """
    known = ~np.isnat(second)
    second_times = dict(zip(time[known], second[known], strict=True))
    found: dict[np.datetime64, np.datetime64] = {}
    for slot in sorted({*second_times} & {*stored}):
        before = slot - city.step
        if before in found or before not in stored:
            found[slot] = second_times[slot]
    return found


def _unique(values: np.ndarray, time: np.ndarray, usable: np.ndarray, city: City) -> _Unique:
    """Returns the usable slots sorted, without negative values, and copies of a slot made one."""
    order = usable[np.argsort(time[usable], kind="stable")]
    first = np.flatnonzero(np.r_[True, np.diff(time[order]) > np.timedelta64(0, "s")])
    copies = np.diff(np.r_[first, len(order)])
    result = values[order[first]]
    np.maximum(result, 0, out=result)
    differing = {}
    for slot in np.flatnonzero(copies > 1):
        group = np.maximum(values[order[first[slot] : first[slot] + copies[slot]]], 0)
        if (group != group[0]).any():
            differing[slot] = group
    if differing and city.duplicates == "refuse":
        one = dates(time[order[first[min(differing)]]][None], city)[0].decode()
        raise FlowcastError(
            f"{len(differing):,} slots stand more than once with different values, the first "
            f'{one}; set duplicates = "sum", "max" or "last" in the TOML of {city.name}'
        )
    for slot, group in differing.items():
        result[slot] = _merged(group, city)
    equal = int((copies > 1).sum()) - len(differing)
    return _Unique(result, time[order[first]], equal, len(differing))


def _merged(group: np.ndarray, city: City) -> np.ndarray:
    """Returns one slot made of its differing copies by the city's rule; equal copies count unique."""
    match city.duplicates:
        case "sum":
            return np.asarray(np.unique(group, axis=0).sum(axis=0))
        case "max":
            return np.asarray(group.max(axis=0))
    return np.asarray(group[-1])


def _unsorted(time: np.ndarray) -> int:
    """Returns how many slots stand before an earlier one."""
    earliest_after = np.minimum.accumulate(time[::-1])[::-1]
    return int((time[:-1] > earliest_after[1:]).sum())
