"""The benchmark's `dataset.npz` of TaxiBJ: windows without times, for comparing networks only.

Four arrays `(n, 4, 2, 32, 32)` in [-1, 1]: `X_train` and `X_test` are the past, `Y_train` and
`Y_test` the future of each window; 20,461 and 500 windows. No times, and no scale that would turn
them into vehicles. Nothing documents whether the four frames of a window run forwards, so it is
measured: the frame of the past and that of the future that touch each other are the most alike. (A
film that runs backwards as a whole touches at the same frames; that cannot be told.)
"""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.errors import FlowcastError

WINDOW = (4, 2, 32, 32)
NAMES = ("X_train", "Y_train", "X_test", "Y_test")
SOURCE = "https://github.com/chengtan9907/OpenSTL/releases/tag/v0.1.0"
MOST_BYTES = 2 * 2**30
SAMPLE = 2000
CLEARLY = 0.9  # the touching frames must differ by less than this part of any other two


@dataclass(frozen=True)
class Benchmark:
    """The windows of the benchmark: float32 in [0, 1], dims `(window, time, channel, y, x)`.

    Attributes:
        train_past: the four frames before, for training.
        train_future: the four frames that follow them.
        test_past: the four frames before, for testing.
        test_future: the four frames that follow them.
        reversed: whether frames ran backwards in the file and were turned round.
    """

    train_past: np.ndarray
    train_future: np.ndarray
    test_past: np.ndarray
    test_future: np.ndarray
    reversed: bool


def open_taxibj_npz(path: Path, most_bytes: int = MOST_BYTES) -> Benchmark:
    """Returns the windows of the benchmark's file, forwards in time.

    Args:
        path: of `dataset.npz`.
        most_bytes: that all four arrays may have as float32.

    Raises:
        FlowcastError: it is not that file, or its direction of time cannot be told.
    """
    if not path.is_file():
        raise FlowcastError(
            f"{path} is no file and so not the benchmark's dataset.npz; get taxibj_dataset.zip from "
            f"{SOURCE}, unpack it and put its dataset.npz ({', '.join(NAMES)}) there"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            _check(archive, path, most_bytes)
            train_past, train_future, test_past, test_future = (
                _scaled(_array(archive, name), name, path) for name in NAMES
            )
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise FlowcastError(
            f"{path} is not the benchmark's dataset.npz, or not whole ({error}); get it anew"
        ) from error
    turned = _turned(train_past, train_future, path)
    if turned != _turned(test_past, test_future, path):
        raise FlowcastError(f"{path}: training and test run in different directions; get it anew")
    past, future = (slice(None, None, -1 if backwards else 1) for backwards in turned)
    return Benchmark(
        np.ascontiguousarray(train_past[:, past]),
        np.ascontiguousarray(train_future[:, future]),
        np.ascontiguousarray(test_past[:, past]),
        np.ascontiguousarray(test_future[:, future]),
        reversed=any(turned),
    )


def _check(archive: zipfile.ZipFile, path: Path, most_bytes: int) -> None:
    """Refuses other arrays than the benchmark's by their headers, before any values are read."""
    if missing := [name for name in NAMES if f"{name}.npy" not in archive.namelist()]:
        raise FlowcastError(
            f"{path} has no {missing[0]}; the benchmark's file has {', '.join(NAMES)}"
        )
    headers = {name: _header(archive, name) for name in NAMES}
    for name, (shape, dtype) in headers.items():
        if shape[1:] != WINDOW or dtype.kind != "f" or not shape[0]:
            raise FlowcastError(
                f"{path}: {name} is {dtype} {shape} in place of floats (n, "
                f"{', '.join(map(str, WINDOW))}); get the benchmark's own file"
            )
    windows = [headers[name][0][0] for name in NAMES]
    if windows[0] != windows[1] or windows[2] != windows[3]:
        raise FlowcastError(
            f"{path} has {windows} windows in {', '.join(NAMES)}; X and Y must agree"
        )
    declared = 4 * sum(windows) * int(np.prod(WINDOW))
    if declared > most_bytes:
        raise FlowcastError(
            f"{path} declares {declared / 2**30:.3g} GiB, more than the "
            f"{most_bytes / 2**30:.3g} GiB that it may have; the benchmark's own file has 1.3 GiB"
        )


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Returns shape and dtype that an array declares."""
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is packed by method {info.compress_type}")
    with archive.open(info) as file:
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        version = np.lib.format.read_magic(file)
        if version not in read:
            raise ValueError(f"{name} has the unknown version {version}")
        shape, _, dtype = read[version](file)
    return shape, dtype


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(f"{name}.npy") as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _scaled(values: np.ndarray, name: str, path: Path) -> np.ndarray:
    """Returns float32 values of [-1, 1] in [0, 1]."""
    low, high = values.min(), values.max()
    if not (low >= -1 and high <= 1):
        raise FlowcastError(
            f"{path}: {name} has values from {low:g} to {high:g} in place of [-1, 1]; "
            f"get the benchmark's own file"
        )
    scaled = values.astype(np.float32)
    scaled += 1
    scaled /= 2
    return scaled


def _turned(past: np.ndarray, future: np.ndarray, path: Path) -> tuple[bool, bool]:
    """Returns whether the frames of the past and of the future run backwards."""
    sample = slice(None, None, max(1, len(past) // SAMPLE))
    apart = {
        (backwards_past, backwards_future): float(
            np.abs(
                future[sample, -1 if backwards_future else 0]
                - past[sample, 0 if backwards_past else -1]
            ).mean()
        )
        for backwards_past in (False, True)
        for backwards_future in (False, True)
    }
    nearest, next_nearest = sorted(apart, key=apart.__getitem__)[:2]
    if not apart[nearest] < CLEARLY * apart[next_nearest]:
        raise FlowcastError(
            f"{path}: whether its frames run forwards cannot be told, past and future differ by "
            f"{apart[nearest]:.3g} one way and {apart[next_nearest]:.3g} another; "
            f"get the benchmark's own file"
        )
    return nearest
