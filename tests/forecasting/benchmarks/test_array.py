"""Frames of one's own: which files are read, how they are split, what is refused."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from data.errors import FlowcastError
from data.video.frame_array import open_frame_array
from forecasting.benchmarks.array import ArrayConfig, open_array

CPU = torch.device("cpu")
FILM = np.random.default_rng(0).random((36, 2, 6, 5), dtype=np.float32)
WINDOW = ArrayConfig(history=2, horizon=1)


def write(path: Path, **arrays: Any) -> Path:
    """Writes arrays to a file of the kind that its suffix says."""
    if path.suffix == ".npy":
        np.save(path, *arrays.values())
    elif path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    return path


@pytest.mark.parametrize("suffix", ["npy", "npz", "h5", "hdf5"])
@pytest.mark.parametrize("shape", [(36, 2, 6, 5), (9, 4, 2, 6, 5)])
def test_every_kind_of_file_gives_the_same_frames(
    tmp_path: Path, suffix: str, shape: tuple[int, ...]
) -> None:
    frames = open_frame_array(write(tmp_path / f"own.{suffix}", frames=FILM.reshape(shape)))
    assert frames.dtype == np.float32
    np.testing.assert_array_equal(frames, FILM.reshape(-1, *shape[-4:]))


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_of_several_arrays_the_one_named_data_is_read(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"own.{suffix}", time=np.arange(36), data=FILM)
    np.testing.assert_array_equal(open_frame_array(path)[0], FILM)


def test_a_film_is_split_by_time_before_it_is_scaled(tmp_path: Path) -> None:
    film = FILM.copy()
    film[30:] *= 50  # what only the test knows
    task = open_array(WINDOW, write(tmp_path / "own.npy", data=film), CPU)
    assert (len(task.train), len(task.validation), len(task.test)) == (18, 5, 4)
    low, high = film[:30].min(), film[:30].max()
    past, future, *_ = task.test.take(torch.arange(4))
    expected = (film - low) / (high - low)
    np.testing.assert_allclose(past[0], expected[30:32], rtol=1e-6)
    np.testing.assert_allclose(future[-1], expected[35:36], rtol=1e-6)
    newest_trained = task.train.take(torch.tensor([17]))[1]
    oldest_validated = task.validation.take(torch.tensor([0]))[0]
    assert not any(np.array_equal(newest_trained[0, -1], frame) for frame in oldest_validated[0])


def test_sequences_are_split_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "own.npz", data=FILM.reshape(12, 3, 2, 6, 5))
    task = open_array(WINDOW, path, CPU)
    assert (len(task.train), len(task.validation), len(task.test)) == (9, 1, 2)
    assert task.frames.grid == (6, 5) and task.frames.channels == 2


def gap() -> np.ndarray:
    film = FILM.copy()
    film[7, 1, 2, 3] = np.nan
    return film


@pytest.mark.parametrize(
    ("suffix", "arrays", "sentence"),
    [
        ("npy", {"data": FILM[:, 0]}, r"shape \(36, 6, 5\); reorder it to \(frame, channel"),
        ("npy", {"data": FILM.transpose(0, 2, 3, 1)}, r"\(36, 6, 5, 2\).* channels were last"),
        ("npy", {"data": FILM[:0]}, r"shape \(0, 2, 6, 5\)"),
        (
            "npy",
            {"data": gap()},
            r"1 values that are not finite, the first \(nan\) at \[7, 1, 2, 3\]",
        ),
        ("npy", {"data": FILM.astype("S4")}, "dtype .S4; convert it to numbers"),
        ("npy", {"data": np.ones_like(FILM)}, "the value 1 in all frames before the test"),
        ("npy", {"data": FILM[:2]}, r"2 frames in a sequence, fewer than the 2 \+ 1 of a window"),
        ("npy", {"data": FILM[:6]}, "there are 0 windows of 2"),
        ("npz", {"a": FILM, "b": FILM}, "holds a, b; name the array of frames 'data'"),
        ("h5", {"a": FILM, "b": FILM}, "holds a, b; name the array of frames 'data'"),
        ("h5", {"data": FILM[:, 0]}, r"shape \(36, 6, 5\) and dtype float32"),
    ],
)
def test_what_cannot_be_trained_on_is_one_sentence(
    tmp_path: Path, suffix: str, arrays: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(FlowcastError, match=sentence) as refusal:
        open_array(WINDOW, write(tmp_path / f"own.{suffix}", **arrays), CPU)
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["own.npy", "own.npz", "own.h5", "own.txt"])
def test_files_that_are_none_or_damaged_are_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(FlowcastError, match="is no file"):
        open_frame_array(path)
    path.write_bytes(b"no array")
    with pytest.raises(FlowcastError, match=r"cannot be read|could not be read|does not end in"):
        open_frame_array(path)
