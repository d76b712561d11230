"""Holding back validation windows, against sets of the frames that windows hold."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.errors import FlowcastError
from forecasting.benchmarks.task import Task, held_back, thinned
from forecasting.networks.base import Frames
from forecasting.training.batches import FrameWindows, cut_windows

CPU = torch.device("cpu")
rising = st.sets(st.integers(0, 500), max_size=120).map(lambda numbers: np.array(sorted(numbers)))


def frames_of(starts: np.ndarray, length: int) -> set[int]:
    return {int(start) + step for start in starts for step in range(length)}


@given(rising, st.integers(1, 20), st.floats(0.01, 0.99))
def test_validation_shares_no_frame_with_training_and_a_window_lies_between(
    starts: np.ndarray, length: int, part: float
) -> None:
    train, validation = held_back(starts, length, part)
    seen, held = frames_of(train, length), frames_of(validation, length)
    assert not seen & held
    if seen and held:
        assert min(held) - max(seen) - 1 >= length
    # Nothing is lost but the gap, which is two windows long at most.
    assert set(starts) >= {*train, *validation}
    lost = set(starts) - {*train, *validation}
    assert all(start > validation[0] - 2 * length for start in lost)


@given(rising.filter(len), st.floats(0.01, 0.99))
def test_the_part_that_validates_is_what_was_asked_for_from_the_end(
    starts: np.ndarray, part: float
) -> None:
    _, validation = held_back(starts, 3, part)
    assert len(validation) == pytest.approx(len(starts) * part, abs=1)
    assert validation.tolist() == starts[-len(validation) :].tolist()


def test_a_hundred_windows_of_eight_frames_by_hand() -> None:
    # The last ten begin at 90 .. 99; frames 82 .. 89 are the gap; the last that fits begins at 74.
    train, validation = held_back(np.arange(100), 8)
    assert train.tolist() == list(range(75))
    assert validation.tolist() == list(range(90, 100))


@given(rising, st.integers(1, 200))
def test_thinning_keeps_some_of_them_evenly_spread_from_the_first(
    starts: np.ndarray, most: int
) -> None:
    kept = thinned(starts, most)
    assert len(kept) == min(most, len(starts))
    assert set(kept) <= set(starts)
    if len(kept):
        assert kept[0] == starts[0]
    # From each to the next, and from the last to the end, it is as far as it can be.
    apart = np.diff([*np.searchsorted(starts, kept), len(starts)])
    if len(kept):
        assert len(starts) // len(kept) <= apart.min() <= apart.max() <= apart.min() + 1


def windows(count: int) -> FrameWindows:
    return cut_windows(np.zeros((9, 1, 2, 2), np.float32), np.arange(count), 3, 2, CPU)


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_a_task_without_windows_says_how_many_there_are_and_what_to_do(empty: int) -> None:
    counts = [4, 3, 2]
    counts[empty] = 0
    sentence = (
        rf"there are {counts[0]} windows of 3 \+ 2 frames to train on, {counts[1]} to validate on "
        rf"and {counts[2]} to test on; .*--set data\.history=N"
    )
    with pytest.raises(FlowcastError, match=sentence):
        Task(Frames(1, (2, 2), 3, 2), *map(windows, counts), "digest")
