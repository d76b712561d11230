"""Moving digits, by what is seen in the frames: digits here are bright rectangles."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from forecasting.benchmarks.moving_mnist import MovingDigits, draw


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def block(high: int = 1, wide: int = 1, light: int = 255) -> Tensor:
    """One digit that is bright all over."""
    return torch.full((1, high, wide), light, dtype=torch.uint8)


def corners(frames: Tensor) -> np.ndarray:
    """Upper left corner of what is bright in each frame, dims `(b, t, 2)`."""
    bright = frames[:, :, 0].numpy() > 0
    return np.stack([bright.any(3).argmax(2), bright.any(2).argmax(2)], axis=-1)


@given(
    high=st.integers(1, 6),
    wide=st.integers(1, 6),
    free=st.integers(1, 60),
    seed=st.integers(0, 2**31),
)
def test_a_digit_stays_whole_and_inside_and_moves_by_a_tenth_of_its_way_at_most(
    high: int, wide: int, free: int, seed: int
) -> None:
    side = max(high, wide) + free
    frames = draw(block(high, wide), 2, 15, 1, side, seeded(seed))
    assert frames.shape == (2, 15, 1, side, side)
    assert frames.dtype == torch.uint8
    bright = frames[:, :, 0] == 255
    assert (bright.sum((2, 3)) == high * wide).all()
    assert (bright.any(3).sum(2) == high).all()
    assert (bright.any(2).sum(2) == wide).all()
    assert (frames.sum((2, 3, 4)) == 255 * high * wide).all()
    way = np.array([side - high, side - wide])
    moves = np.abs(np.diff(corners(frames), axis=1))
    assert (moves <= 0.1 * way + 1).all()


def test_the_frame_shows_the_digit_as_it_is() -> None:
    digit = torch.arange(1, 13, dtype=torch.uint8).view(1, 3, 4)
    frames = draw(digit, 3, 4, 1, 9, seeded(0))
    for sequence, places in zip(frames, corners(frames), strict=True):
        for frame, (y, x) in zip(sequence, places, strict=True):
            assert torch.equal(frame[0, y : y + 3, x : x + 4], digit[0])


def straight_parts(places: np.ndarray, way: int) -> list[np.ndarray]:
    """Runs of places strictly between the walls along one axis, three frames or longer."""
    inside = (places > 0) & (places < way)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], inside, [0]])))
    parts = [places[start:stop] for start, stop in edges.reshape(-1, 2)]
    return [part for part in parts if len(part) > 2]


def speed_of(part: np.ndarray) -> float:
    return float(part[-1] - part[0]) / (len(part) - 1)


def test_digits_go_straight_between_walls_and_turn_there_with_the_same_speed() -> None:
    way = 200
    turned = 0
    for sequence in corners(draw(block(), 12, 60, 1, way + 1, seeded(3))):
        speeds = []
        for axis in sequence.T:
            parts = straight_parts(axis, way)
            for part in parts:
                line = part[0] + speed_of(part) * np.arange(len(part))
                # Whole cells are cut off, at the ends of the part and between them.
                assert (np.abs(part - line) < 1).all()
            speeds.append(abs(speed_of(max(parts, key=len))))
            for part in parts:
                assert abs(speed_of(part)) == pytest.approx(speeds[-1], abs=2 / (len(part) - 1))
            signs = [np.sign(speed_of(part)) for part in parts]
            if speeds[-1] * 60 > way:
                turned += 1
                assert len(parts) > 1
                assert all(after == -before for before, after in pairwise(signs))
        assert np.hypot(*speeds) == pytest.approx(0.1 * way, abs=0.3)
    assert turned > 12


def test_a_digit_touches_all_four_walls() -> None:
    places = corners(draw(block(3, 5), 20, 60, 1, 40, seeded(1)))
    assert (places.min((0, 1)) == 0).all()
    assert places.max((0, 1)).tolist() == [37, 35]


def test_where_digits_overlap_the_brighter_one_is_seen() -> None:
    digits = torch.cat([block(4, 4, 90), block(4, 4, 200)])
    frames = draw(digits, 60, 10, 2, 10, seeded(0))[:, :, 0]
    assert set(frames.unique().tolist()) == {0, 90, 200}
    bright, dim = ((frames == light).sum((2, 3)) for light in (200, 90))
    both = ((bright > 0) & (dim > 0)).any(1)
    assert both.sum() > 10
    assert (bright[both] == 16).all(), "never hidden"
    assert dim[both].max() == 16
    assert dim[both].min() < 16, "hidden at times"


@pytest.mark.parametrize("together", [1, 2, 3, 5])
def test_as_many_digits_move_as_are_asked_for(together: int) -> None:
    counts = (draw(block(), 10, 20, together, 50, seeded(2)) > 0).sum((2, 3, 4))
    assert counts.max() == together
    assert (counts == together).float().mean() > 0.9  # one cell hides another now and then


def test_each_digit_is_drawn_about_equally_often() -> None:
    digits = torch.cat([block(light=light) for light in (50, 100, 150, 200)])
    lights = draw(digits, 2000, 1, 1, 9, seeded(0)).amax((1, 2, 3, 4))
    shares = [(lights == light).float().mean().item() for light in (50, 100, 150, 200)]
    assert shares == pytest.approx([0.25] * 4, abs=0.04)


def test_sequences_begin_anywhere_and_go_in_any_direction() -> None:
    places = corners(draw(block(), 3000, 2, 1, 101, seeded(0)))
    for axis in range(2):
        quarters = np.histogram(places[:, 0, axis], bins=[0, 25, 50, 75, 101])[0] / 3000
        assert quarters == pytest.approx([0.25] * 4, abs=0.03)
    middle = ((places[:, 0] > 11) & (places[:, 0] < 88)).all(axis=1)  # no wall within a step
    move = np.diff(places[middle], axis=1)[:, 0]
    eighths = np.histogram(np.arctan2(*move.T), bins=np.linspace(-np.pi, np.pi, 9))[0]
    assert eighths / middle.sum() == pytest.approx([0.125] * 8, abs=0.03)


def test_the_seed_decides_the_sequences() -> None:
    digits = torch.cat([block(3, 3, light) for light in range(1, 200)])
    one, two, other = (draw(digits, 4, 5, 2, 20, seeded(seed)) for seed in (7, 7, 8))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_a_feed_draws_new_sequences_by_torch_s_seed() -> None:
    feed = MovingDigits(torch.cat([block(3, 3, 90), block(3, 3)]), 100, 3, 2, together=2, side=12)
    assert len(feed) == 100
    torch.manual_seed(4)
    past, future = feed.take(torch.arange(6))
    assert past.shape == (6, 3, 1, 12, 12)
    assert future.shape == (6, 2, 1, 12, 12)
    assert past.dtype == future.dtype == torch.float32
    assert (past.min(), past.max()) == (0, 1)
    new = feed.take(torch.arange(6))
    assert not torch.equal(new[0], past)
    torch.manual_seed(4)
    again = feed.take(torch.arange(6))
    assert torch.equal(again[0], past)
    assert torch.equal(again[1], future)


def test_the_future_goes_on_where_the_past_ends() -> None:
    feed = MovingDigits(block(2, 2), 10, 4, 3, together=1, side=82)
    places = corners((torch.cat(feed.take(torch.arange(10)), dim=1) * 255).byte())
    assert places.shape == (10, 7, 2)
    assert (np.abs(np.diff(places, axis=1)) <= 8 + 1).all()
