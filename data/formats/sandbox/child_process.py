"""What every child process that opens an HDF5 file of others does; see `read_in_child.py`.

It looks at the structure before it reads a byte of data, then streams to stdout a line of JSON and
arrays in NumPy's own format. It imports no more than it needs, to start quickly.
"""

import contextlib
import math
import sys
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

GIB = 2**30
REFUSED = 3
"""Exit code of a file that is refused; stderr says why."""
OTHER_FORMAT = 4
"""Exit code of a file that another reader reads."""
CHUNK_BYTES = 2**28
MAX_SLOTS = 10_000_000
LABEL_BYTES = 32
# deflate, shuffle, fletcher32, szip, nbit, scaleoffset of HDF5 itself, lzf of h5py
FILTERS = (1, 2, 3, 4, 5, 6, 32000)


class Refused(Exception):
    """What is wrong with a file, as the end of a sentence that begins with its name."""


class OtherFormat(Exception):
    """The file holds what another reader reads."""


def read_file(arguments: list[str], read: Callable[..., None]) -> int:
    """Opens the file that the first argument names; returns the exit code.

    Args:
        arguments: path, the numbers for `read`, bytes of memory, seconds.
        read: takes the open file and the numbers between, and streams it to stdout.
    """
    path, (*bounds, memory, seconds) = arguments[0], map(int, arguments[1:])
    _confine(memory, seconds)
    try:
        with h5py.File(path, "r") as file:
            read(file, *bounds)
    except OtherFormat:
        return OTHER_FORMAT
    except Refused as refusal:
        sys.stderr.write(str(refusal))
        return REFUSED
    except Exception as error:  # h5py raises whatever a damaged file makes it raise
        sys.stderr.write(
            f"could not be read ({type(error).__name__}: {error}); "
            f"it is no HDF5 file, or not whole: get it anew from its source"
        )
        return REFUSED
    return 0


def _confine(memory: int, seconds: int) -> None:
    """Limits this process where the platform can."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def dataset(file: Any, name: str, layout: str) -> Any:
    """Returns the dataset that lies in the file itself under `name`; nothing of it is read yet.

    Raises:
        Refused: there is none, as `layout` has it, or it lies elsewhere, or needs unknown code.
    """
    if name.encode() not in file.id:
        raise Refused(f"has no dataset {name!r}; {layout}")
    if file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise Refused(f"has a link in place of {name!r}; copy the dataset into the file")
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise Refused(
            f"has a {type(found).__name__.lower()} in place of the dataset {name!r}; replace it"
        )
    if found.shape is None:
        raise Refused(f"has nothing in its dataset {name!r}; get it anew from its source")
    _check_storage(found, name)
    return found


def _check_storage(dataset: Any, name: str) -> None:
    """Refuses a dataset that lies elsewhere, is not whole, or needs code that we do not have."""
    properties = dataset.id.get_create_plist()
    if properties.get_external_count():
        raise Refused(f"keeps {name!r} in another file; copy the dataset into this one")
    if properties.get_layout() == h5py.h5d.VIRTUAL:
        raise Refused(f"makes {name!r} out of other datasets; copy the values into the file")
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    for number in filters:
        if number not in FILTERS or not h5py.h5z.filter_avail(number):
            raise Refused(f"packs {name!r} with the unknown filter {number}; write it with gzip")
    if dataset.chunks and math.prod(dataset.chunks) * dataset.dtype.itemsize > CHUNK_BYTES:
        raise Refused(
            f"packs {name!r} in chunks of {dataset.chunks}, more than {CHUNK_BYTES / GIB:g} GiB; "
            f"write it in smaller ones"
        )


def check_stored(data: Any) -> None:
    """Refuses data that were declared and never written: HDF5 would read them as zeros."""
    if not data.chunks:
        if data.id.get_storage_size() == 0:
            raise Refused("declares data but holds none; get it anew from its source")
        return
    wanted = math.prod(
        -(-size // chunk) for size, chunk in zip(data.shape, data.chunks, strict=True)
    )
    if (stored := data.id.get_num_chunks()) < wanted:
        raise Refused(
            f"holds only {stored:,} of the {wanted:,} chunks of its data; "
            f"get it anew from its source"
        )


def check_date(date: Any, slots: int) -> None:
    """Refuses dates of another count or dtype than one label a slot."""
    if date.shape != (slots,):
        raise Refused(f"has dates of shape {date.shape} for {slots:,} slots; each slot needs one")
    text = h5py.check_string_dtype(date.dtype)
    if text is None and date.dtype.kind not in "iu":
        raise Refused(
            f"has dates of dtype {date.dtype} in place of bytes or integers; convert them"
        )
    if text is not None and (text.length or 0) > LABEL_BYTES:
        raise Refused(f"has dates of {text.length:,} bytes in place of YYYYMMDDSS; shorten them")


def labels_of(date: Any) -> np.ndarray:
    """Returns the dates as bytes of fixed length."""
    dates = date[:]
    if dates.dtype.kind in "iu":
        return np.asarray(dates.astype(f"S{LABEL_BYTES}"))
    if dates.dtype.kind == "O" and (longest := max(map(len, dates))) > LABEL_BYTES:
        raise Refused(f"has a date of {longest:,} bytes in place of YYYYMMDDSS; shorten it")
    return np.asarray(dates.astype(f"S{LABEL_BYTES}"))
