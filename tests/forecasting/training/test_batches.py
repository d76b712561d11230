"""Windows cut from frames, against slices of the array that they are cut from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from forecasting.training.batches import FrameWindows, cut_windows

CPU = torch.device("cpu")


def film(frames: int) -> np.ndarray:
    """Frames of 2 channels and 3x2 cells that can all be told apart."""
    return np.arange(frames * 12, dtype=np.float32).reshape(frames, 2, 3, 2)


@given(st.integers(1, 5), st.integers(1, 5), st.data())
def test_windows_are_the_slices_of_the_frames_that_begin_at_their_starts(
    history: int, horizon: int, data: st.DataObject
) -> None:
    length = history + horizon
    frames = film(length + data.draw(st.integers(0, 20)))
    starts = data.draw(st.lists(st.integers(0, len(frames) - length), min_size=1, max_size=8))
    windows = cut_windows(frames, np.array(starts), history, horizon, CPU)
    assert len(windows) == len(starts)
    index = data.draw(st.lists(st.integers(0, len(starts) - 1), min_size=1, max_size=8))
    past, future = windows.take(torch.tensor(index))
    assert past.shape == (len(index), history, 2, 3, 2)
    assert future.shape == (len(index), horizon, 2, 3, 2)
    for row, number in enumerate(index):
        start = starts[number]
        np.testing.assert_array_equal(past[row], frames[start : start + history])
        np.testing.assert_array_equal(future[row], frames[start + history : start + length])


def test_bytes_stand_for_0_to_1() -> None:
    frames = np.array([0, 51, 102, 255], dtype=np.uint8).reshape(4, 1, 1, 1)
    past, future = cut_windows(frames, np.array([0]), 3, 1, CPU).take(torch.tensor([0]))
    assert past.dtype == future.dtype == torch.float32
    assert past.flatten().tolist() == pytest.approx([0, 0.2, 0.4])
    assert future.item() == 1


def test_windows_come_from_a_mapped_file_as_from_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "frames.npy", film(9))
    mapped = np.load(tmp_path / "frames.npy", mmap_mode="c")
    index = torch.tensor([1, 0])
    ours = cut_windows(mapped, np.array([0, 4]), 3, 2, CPU).take(index)
    theirs = cut_windows(film(9), np.array([0, 4]), 3, 2, CPU).take(index)
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1], theirs[1])


def test_the_past_may_lie_anywhere_before_the_future() -> None:
    # A network that sees the same slot yesterday has positions that are not next to one another.
    frames = torch.arange(10.0).view(10, 1, 1, 1)
    windows = FrameWindows(frames, torch.tensor([[0, 6, 7]]), torch.tensor([[8, 9]]), CPU)
    past, future = windows.take(torch.tensor([0]))
    assert past.flatten().tolist() == [0, 6, 7]
    assert future.flatten().tolist() == [8, 9]
