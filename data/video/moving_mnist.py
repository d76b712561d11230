"""Moving MNIST: the digits that it is made of, and the authors' test sequences.

Digits are MNIST's own files: `train-images-idx3-ubyte` and `t10k-images-idx3-ubyte`, with or without
`.gz`, some copies with a dot before `idx3`: four big-endian numbers (2051, digits, 28, 28), then a
byte a pixel; 60,000 and 10,000 digits. Their labels are not needed.

`mnist_test_seq.npy` (Srivastava, Mansimov, Salakhutdinov: Unsupervised Learning of Video
Representations using LSTMs, 2015) has uint8 `(20, 10000, 64, 64)`: frame first, then sequence.
"""

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np

from data.errors import FlowcastError

SIDE = 28
MAGIC = 2051  # unsigned bytes, three dims
MOST_DIGITS = 1_000_000
FRAMES = 20
PLACE = 64
DIGITS_AT = "https://ossci-datasets.s3.amazonaws.com/mnist/"
SEQUENCES_AT = "http://www.cs.toronto.edu/~nitish/unsupervised_video/mnist_test_seq.npy"


@dataclass(frozen=True)
class Digits:
    """Handwritten digits, uint8 `(digit, y, x)`, 28 x 28, white on black.

    Attributes:
        train: 60,000 in the published file.
        test: 10,000, by other writers.
    """

    train: np.ndarray
    test: np.ndarray


def open_digits(folder: Path) -> Digits:
    """Returns the digits of MNIST's two files of images.

    Raises:
        FlowcastError: a file is missing, is another one, or is not whole.
    """
    return Digits(_digits(_file(folder, "train")), _digits(_file(folder, "t10k")))


def open_test_sequences(path: Path) -> np.ndarray:
    """Returns the authors' test sequences, uint8 `(sequence, frame, channel, y, x)`.

    They are mapped from the file, read-only; 10,000 of 20 frames in the published one.

    Raises:
        FlowcastError: the file is missing, is another one, or is not whole.
    """
    if not path.is_file():
        raise FlowcastError(
            f"{path} is no file; get mnist_test_seq.npy, uint8 (20, 10000, 64, 64), from "
            f"{SEQUENCES_AT} and put it there"
        )
    try:
        frames = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError, OverflowError) as error:
        raise FlowcastError(
            f"{path} is no .npy, or not whole ({error}); get it anew from {SEQUENCES_AT}"
        ) from error
    shape = frames.shape
    right = len(shape) == 4 and (shape[0], *shape[2:]) == (FRAMES, PLACE, PLACE) and shape[1] > 0
    if frames.dtype != np.uint8 or not right:
        raise FlowcastError(
            f"{path} has {frames.dtype} {shape} in place of uint8 ({FRAMES}, sequences, {PLACE}, "
            f"{PLACE}); get mnist_test_seq.npy from {SEQUENCES_AT}"
        )
    return frames.transpose(1, 0, 2, 3)[:, :, np.newaxis]


def _file(folder: Path, part: str) -> Path:
    names = [f"{part}-images{dot}idx3-ubyte{end}" for dot in "-." for end in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FlowcastError(
        f"{folder} has no {part}-images-idx3-ubyte.gz; get MNIST's train-images-idx3-ubyte.gz and "
        f"t10k-images-idx3-ubyte.gz from {DIGITS_AT} and put both into that folder, packed or not"
    )


def _digits(path: Path) -> np.ndarray:
    try:
        with cast(
            "IO[bytes]", gzip.open(path) if path.suffix == ".gz" else path.open("rb")
        ) as file:
            return _images(file, path)
    except (OSError, EOFError, zlib.error) as error:
        raise FlowcastError(
            f"{path} is damaged or not whole ({error}); get it anew from {DIGITS_AT}"
        ) from error


def _images(file: IO[bytes], path: Path) -> np.ndarray:
    """Returns the images of an idx file; reads no more than its header declares."""
    header = file.read(16)
    if len(header) < 16:
        raise EOFError(f"{len(header)} bytes")
    magic, digits, *grid = struct.unpack(">4I", header)
    if magic != MAGIC or grid != [SIDE, SIDE] or not 0 < digits <= MOST_DIGITS:
        raise FlowcastError(
            f"{path} begins with {magic}, {digits}, {grid[0]}, {grid[1]} in place of {MAGIC}, the "
            f"number of digits, {SIDE}, {SIDE}; get MNIST's images from {DIGITS_AT}"
        )
    size = digits * SIDE * SIDE
    pixels = file.read(size)
    if len(pixels) < size:
        raise EOFError(f"{len(pixels):,} of the {size:,} bytes of {digits:,} digits")
    if file.read(1):
        raise EOFError(f"more than the {size:,} bytes of {digits:,} digits")
    return np.frombuffer(bytearray(pixels), dtype=np.uint8).reshape(digits, SIDE, SIDE)
