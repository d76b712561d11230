"""Frames of one's own: an array in a `.npy`, `.npz` or HDF5 file, in the order of time.

The array has dims `(frame, channel, y, x)`, one film, or `(sequence, frame, channel, y, x)`. Of several
arrays in a `.npz` or HDF5 file the one named `data` is read. HDF5 is read by a child process with limits.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from data.errors import FlowcastError
from data.formats.sandbox.read_in_child import read_array_in_child

LAYOUTS = "(frame, channel, y, x) or (sequence, frame, channel, y, x)"
MAX_CHANNELS_LAST = 4
"""An array whose last dim is no larger, and smaller than its channels, has its channels last."""


def open_frame_array(path: Path) -> np.ndarray:
    """Returns the frames of a file, float32 `(sequence, frame, channel, y, x)`; a film is one sequence.

    Raises:
        FlowcastError: the file is missing, of another kind or layout, or holds values that are not finite.
    """
    if not path.is_file():
        raise FlowcastError(f"{path} is no file; name a .npz, .npy or .h5 file by --data")
    frames = _read(path)
    shape = frames.shape
    if frames.ndim not in (4, 5) or 0 in shape:
        raise FlowcastError(f"{path} has an array of shape {shape}; reorder it to {LAYOUTS}")
    if shape[-1] <= MAX_CHANNELS_LAST and shape[-1] < shape[-3]:
        raise FlowcastError(
            f"{path} has an array of shape {shape} with {shape[-3]} channels of {shape[-2]}x{shape[-1]} "
            f"cells, as if its channels were last; reorder it to {LAYOUTS}"
        )
    if frames.dtype.kind not in "iufb":
        raise FlowcastError(f"{path} has an array of dtype {frames.dtype}; convert it to numbers")
    with np.errstate(over="ignore"):
        frames = frames.astype(np.float32)
    unknown = ~np.isfinite(frames)
    if unknown.any():
        first = tuple(int(at) for at in np.argwhere(unknown)[0])
        raise FlowcastError(
            f"{path} has {int(unknown.sum()):,} values that are not finite, the first "
            f"({frames[first]}) at {list(first)}; fill them in or leave these frames out"
        )
    return frames if frames.ndim == 5 else frames[None]


def _read(path: Path) -> np.ndarray:
    suffix = path.suffix.lower()
    if suffix in (".h5", ".hdf5"):
        return read_array_in_child(path)
    if suffix not in (".npy", ".npz"):
        raise FlowcastError(f"{path} does not end in .npz, .npy or .h5; name an array by --data")
    try:
        if suffix == ".npy":
            return np.asarray(np.load(path, allow_pickle=False))
        with np.load(path, allow_pickle=False) as arrays:
            names = list(arrays)
            if "data" not in names and len(names) != 1:
                held = ", ".join(names[:8]) or "nothing"
                raise FlowcastError(f"{path} holds {held}; name the array of frames 'data'")
            return np.asarray(arrays["data" if "data" in names else names[0]])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise FlowcastError(
            f"{path} cannot be read ({error}); write it with NumPy again"
        ) from error
