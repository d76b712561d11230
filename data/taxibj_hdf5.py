"""The child process that opens an HDF5 file in the TaxiBJ layout; see `sandbox.py`.

It looks at the structure before it reads a byte of data, then streams to stdout a line of JSON, the
values and the dates in NumPy's own format. It imports no more than it needs, to start quickly.
"""

import contextlib
import json
import math
import sys
from collections.abc import Iterator
from typing import IO, Any

import h5py
import numpy as np

GIB = 2**30
REFUSED = 3
BLOCK_BYTES = 2**27
CHUNK_BYTES = 2**28
MOST_SLOTS = 10_000_000
LABEL_BYTES = 32
# deflate, shuffle, fletcher32, szip, nbit, scaleoffset of HDF5 itself, lzf of h5py
FILTERS = (1, 2, 3, 4, 5, 6, 32000)


class Refused(Exception):
    """What is wrong with a file, as the end of a sentence that begins with its name."""


def main(arguments: list[str]) -> int:
    """Streams the file that the arguments name to stdout; returns the exit code."""
    path, (rows, columns, declared, memory, seconds) = arguments[0], map(int, arguments[1:])
    _confine(memory, seconds)
    try:
        with h5py.File(path, "r") as file:
            data, date = _dataset(file, "data"), _dataset(file, "date")
            _check_data(data, (rows, columns), declared)
            _check_date(date, len(data))
            _stream(sys.stdout.buffer, data, _labels(date), _content(file))
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


def _dataset(file: Any, name: str) -> Any:
    """Returns the dataset that lies in the file itself under `name`; nothing of it is read yet."""
    if name.encode() not in file.id:
        raise Refused(f"has no dataset {name!r}; the TaxiBJ layout is `data` and `date`")
    if file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise Refused(f"has a link in place of {name!r}; copy the dataset into the file")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise Refused(
            f"has a {type(dataset).__name__.lower()} in place of the dataset {name!r}; replace it"
        )
    if dataset.shape is None:
        raise Refused(f"has nothing in its dataset {name!r}; get it anew from its source")
    _check_storage(dataset, name)
    return dataset


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
    if 4 * data.size > declared or len(data) > MOST_SLOTS:
        raise Refused(
            f"declares {len(data):,} slots of {4 * data.size / GIB:.3g} GiB, more than "
            f"{MOST_SLOTS:,} slots or {declared / GIB:.3g} GiB; split it by years"
        )
    _check_stored(data)


def _check_stored(data: Any) -> None:
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


def _check_date(date: Any, slots: int) -> None:
    """Refuses dates of another count or dtype than one label a slot."""
    if date.shape != (slots,):
        raise Refused(
            f"has dates of shape {date.shape} for {slots:,} slots; each slot of `data` needs one"
        )
    text = h5py.check_string_dtype(date.dtype)
    if text is None and date.dtype.kind not in "iu":
        raise Refused(
            f"has dates of dtype {date.dtype} in place of bytes or integers; convert them"
        )
    if text is not None and (text.length or 0) > LABEL_BYTES:
        raise Refused(f"has dates of {text.length:,} bytes in place of YYYYMMDDSS; shorten them")


def _labels(date: Any) -> np.ndarray:
    """Returns the dates as bytes of fixed length."""
    dates = date[:]
    if dates.dtype.kind in "iu":
        return np.asarray(dates.astype(f"S{LABEL_BYTES}"))
    if dates.dtype.kind == "O" and (longest := max(map(len, dates))) > LABEL_BYTES:
        raise Refused(f"has a date of {longest:,} bytes in place of YYYYMMDDSS; shorten it")
    return np.asarray(dates.astype(f"S{LABEL_BYTES}"))


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
    sys.exit(main(sys.argv[1:]))
