"""The child process that opens an HDF5 file of flow, weather or frames; see `read_in_child.py`.

It checks the structure before it reads a byte of data, then streams to stdout a line of JSON and
arrays in NumPy's own format. It imports no more than it needs, to start quickly.
"""

import contextlib
import json
import math
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import h5py
import numpy as np

from data.formats.sandbox.exit_codes import GIB, OTHER_FORMAT, REFUSED

CHUNK_BYTES = 2**28
MAX_SLOTS = 10_000_000
LABEL_BYTES = 32
BLOCK_BYTES = 2**27
WEATHER_TYPES = 17
FLOW_LAYOUT = "the TaxiBJ layout is `data` and `date`"
WEATHER_LAYOUT = "weather is `date`, `Temperature`, `WindSpeed` and `Weather`"
# deflate, shuffle, fletcher32, szip, nbit, scaleoffset of HDF5 itself, lzf of h5py
FILTERS = (1, 2, 3, 4, 5, 6, 32000)


class Refused(Exception):
    """What is wrong with a file, as the end of a sentence that begins with its name."""


class OtherFormat(Exception):
    """The file holds what another reader reads."""


def main(arguments: list[str]) -> int:
    """Opens a file and streams what it holds; returns the exit code.

    Args:
        arguments: `flow`, `weather` or `array`, the path, bytes of memory, seconds, the bytes that the values
            may have as float32, and for flow the rows and columns of the grid.
    """
    content, path, *numbers = arguments
    memory, seconds, declared, *grid = map(int, numbers)
    _confine(memory, seconds)
    try:
        with h5py.File(path, "r") as file:
            if content == "flow":
                _read_flow(file, declared, (grid[0], grid[1]))
            elif content == "array":
                _read_array(file, declared)
            else:
                _read_weather(file, declared)
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


def _read_flow(file: Any, declared: int, grid: tuple[int, int]) -> None:
    if b"data" not in file.id and b"Temperature" in file.id:
        raise OtherFormat
    data, date = _dataset(file, "data", FLOW_LAYOUT), _dataset(file, "date", FLOW_LAYOUT)
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
    _check_stored(data)
    _check_date(date, len(data))
    _stream(data.shape, _blocks(data), _labels(date), _content(file))


def _read_weather(file: Any, declared: int) -> None:
    """Streams temperature, wind speed and types side by side."""
    date = _dataset(file, "date", WEATHER_LAYOUT)
    columns = {name: _dataset(file, name, WEATHER_LAYOUT) for name in ("Temperature", "WindSpeed")}
    types = _dataset(file, "Weather", WEATHER_LAYOUT)
    slots = len(date) if date.shape else 0
    if not slots or slots > MAX_SLOTS or 4 * (WEATHER_TYPES + 2) * slots > declared:
        raise Refused(
            f"declares {slots:,} slots; from 1 to {MAX_SLOTS:,} and {declared / GIB:.3g} GiB of "
            f"values can be read"
        )
    _check_date(date, slots)
    shapes = {**dict.fromkeys(columns, (slots,)), "Weather": (slots, WEATHER_TYPES)}
    for name, found in {**columns, "Weather": types}.items():
        wrong_type = found.dtype.kind not in "iufb" or found.dtype.itemsize > 8
        if found.shape != shapes[name] or wrong_type:
            raise Refused(
                f"has {name} of shape {found.shape} and dtype {found.dtype} in place of numbers of "
                f"shape {shapes[name]}; mend it"
            )
        _check_stored(found)
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite and so missing
        parts = [column[:].astype("<f4")[:, None] for column in columns.values()]
        values = np.concatenate([*parts, types[:].astype("<f4")], axis=1)
    _stream(values.shape, [values], _labels(date), "weather")


def _read_array(file: Any, declared: int) -> None:
    """Streams the dataset `data`, or the only one, of 4 or 5 dims."""
    names = list(file)
    if "data" not in names and len(names) != 1:
        held = ", ".join(names[:8]) or "nothing"
        raise Refused(f"holds {held}; name the array of frames 'data'")
    data = _dataset(file, "data" if "data" in names else names[0], "put the frames into 'data'")
    if data.ndim not in (4, 5) or data.dtype.kind not in "iufb" or data.dtype.itemsize > 8:
        raise Refused(
            f"has an array of shape {data.shape} and dtype {data.dtype} in place of numbers "
            f"(frame, channel, y, x) or (sequence, frame, channel, y, x); reorder them"
        )
    if not data.size or 4 * data.size > declared:
        raise Refused(
            f"declares an array of shape {data.shape}; it must hold values, of at most "
            f"{declared / GIB:.3g} GiB as float32"
        )
    _check_stored(data)
    _stream(data.shape, _blocks(data), np.zeros(0, "S1"), "array")


def _stream(
    shape: tuple[int, ...], blocks: Iterable[np.ndarray], labels: np.ndarray, content: str
) -> None:
    """Writes the header, the values block by block, and the dates."""
    output = sys.stdout.buffer
    output.write(json.dumps({"content": content}).encode() + b"\n")
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(output, header)
    for block in blocks:
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


def _content(file: Any) -> str:
    """Returns the root's attribute `content` where it is a short text."""
    if "content" not in file.attrs or file.attrs.get_id("content").get_storage_size() > 1024:
        return ""
    content = file.attrs["content"]
    return content.decode("utf-8", "replace") if isinstance(content, bytes) else str(content)


def _confine(memory: int, seconds: int) -> None:
    """Limits this process where the platform can."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _dataset(file: Any, name: str, layout: str) -> Any:
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
        raise Refused(f"has dates of shape {date.shape} for {slots:,} slots; each slot needs one")
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
