import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from data.errors import FlowcastError
from data.video.moving_mnist import open_digits, open_test_sequences

TRAIN = "train-images-idx3-ubyte"
TEST = "t10k-images-idx3-ubyte"


def idx(digits: int, magic: int = 2051, rows: int = 28, columns: int = 28) -> bytes:
    pixels = bytes(number % 251 for number in range(digits * rows * columns))
    return struct.pack(">4I", magic, digits, rows, columns) + pixels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / TRAIN).write_bytes(idx(5))
    (tmp_path / TEST).write_bytes(idx(3))
    return tmp_path


def test_the_published_files_hold_the_digits_that_all_know(real_data: Path) -> None:
    digits = open_digits(real_data / "mnist")
    assert (digits.train.shape, digits.test.shape) == ((60_000, 28, 28), (10_000, 28, 28))
    assert digits.train.mean() / 255 == pytest.approx(0.1307, abs=5e-5)  # as everyone scales it
    assert digits.train.std() / 255 == pytest.approx(0.3081, abs=5e-5)
    seven = digits.test[0] > 127  # the first one for testing is a 7: a bar above a stroke
    assert seven[8:10, 6:21].sum() > 15
    assert not seven[14:, 20:].any()
    assert not seven[:7].any()
    assert int(digits.train[0].sum()) == 27_525  # the 5 that begins the training file


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dot", ["-", "."])
def test_files_are_read_packed_or_not_and_by_either_name(
    tmp_path: Path, packed: bool, dot: str
) -> None:
    for part, digits in (("train", 5), ("t10k", 3)):
        name = f"{part}-images{dot}idx3-ubyte"
        if packed:
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(digits)))
        else:
            (tmp_path / name).write_bytes(idx(digits))
    digits = open_digits(tmp_path)
    assert (digits.train.shape, digits.test.shape) == ((5, 28, 28), (3, 28, 28))
    assert digits.train.dtype == np.uint8
    assert digits.train.flags.writeable
    assert digits.train[1, 2, 3] == (784 + 2 * 28 + 3) % 251


def test_a_missing_folder_or_file_says_what_to_get_and_where_to_put_it(folder: Path) -> None:
    sentence = r"has no train-images-idx3-ubyte\.gz; get MNIST's .* from https://"
    with pytest.raises(FlowcastError, match=sentence) as refusal:
        open_digits(folder / "nowhere")
    assert str(folder / "nowhere") in str(refusal.value)
    (folder / TEST).unlink()
    with pytest.raises(FlowcastError, match=r"has no t10k-images-idx3-ubyte\.gz"):
        open_digits(folder)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "not whole .0 bytes"),
        (idx(5)[:15], "not whole .15 bytes"),
        (idx(5)[:-1], "3,919 of the 3,920 bytes of 5 digits"),
        (idx(5) + b"x", "more than the 3,920 bytes"),
        (idx(5, magic=2049), "begins with 2049, 5, 28, 28 in place of 2051"),
        (idx(5, rows=27), "begins with 2051, 5, 27, 28"),
        (idx(0), "begins with 2051, 0, 28, 28"),
        (struct.pack(">4I", 2051, 2**31, 28, 28), "begins with 2051, 2147483648"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_other_files_and_broken_ones_are_refused(
    folder: Path, content: bytes, sentence: str, packed: bool
) -> None:
    (folder / TRAIN).unlink()
    path = folder / (f"{TRAIN}.gz" if packed else TRAIN)
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(FlowcastError, match=sentence) as refusal:
        open_digits(folder)
    assert str(path) in str(refusal.value)


def test_a_packed_file_that_is_broken_is_refused(folder: Path) -> None:
    (folder / TRAIN).unlink()
    whole = gzip.compress(idx(5))
    for content in (b"", b"nothing packed", whole[:-20], whole[:40] + b"????" + whole[44:]):
        (folder / f"{TRAIN}.gz").write_bytes(content)
        with pytest.raises(FlowcastError, match="damaged or not whole"):
            open_digits(folder)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mnist_test_seq.npy"


def test_the_authors_sequences_come_with_the_sequence_first(path: Path) -> None:
    given = np.random.default_rng(0).integers(0, 256, (20, 6, 64, 64), dtype=np.uint8)
    np.save(path, given)
    sequences = open_test_sequences(path)
    assert sequences.shape == (6, 20, 1, 64, 64)
    assert sequences.dtype == np.uint8
    assert not sequences.flags.writeable
    assert isinstance(sequences, np.memmap)
    np.testing.assert_array_equal(sequences[4, 17, 0], given[17, 4])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (np.zeros((20, 6, 64, 64)), r"float64 \(20, 6, 64, 64\) in place of uint8"),
        (np.zeros((6, 20, 64, 64), np.uint8), r"uint8 \(6, 20, 64, 64\) in place"),
        (np.zeros((20, 0, 64, 64), np.uint8), r"uint8 \(20, 0, 64, 64\) in place"),
        (np.zeros((20, 6, 32, 64), np.uint8), r"uint8 \(20, 6, 32, 64\) in place"),
        (np.zeros((20, 6), np.uint8), r"uint8 \(20, 6\) in place"),
        (np.array(5, np.uint8), r"uint8 \(\) in place"),
    ],
)
def test_other_arrays_than_the_authors_are_refused(
    path: Path, given: np.ndarray, sentence: str
) -> None:
    np.save(path, given)
    with pytest.raises(FlowcastError, match=sentence):
        open_test_sequences(path)


def test_a_file_that_is_no_npy_or_not_whole_is_refused(path: Path) -> None:
    with pytest.raises(FlowcastError, match=r"is no file; get mnist_test_seq\.npy"):
        open_test_sequences(path)
    np.save(path, np.zeros((20, 6, 64, 64), np.uint8))
    whole = path.read_bytes()
    for content in (b"", b"no array", whole[:100], whole[:-1], b"\x93NUMPY\x09\x00" + whole[8:]):
        path.write_bytes(content)
        with pytest.raises(FlowcastError, match=r"is no \.npy, or not whole"):
            open_test_sequences(path)
    np.save(path, np.full((20, 6, 64, 64), None), allow_pickle=True)
    with pytest.raises(FlowcastError, match=r"is no \.npy, or not whole"):
        open_test_sequences(path)
