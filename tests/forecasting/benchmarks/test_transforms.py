"""What a camera does to pictures: nothing at strength 0, and by hand what it does beyond."""

import math

import pytest
import torch
from torch import Tensor

from forecasting.benchmarks.transforms import (
    STRENGTHS,
    TRANSFORMS,
    Transformed,
    camera_motion,
    changing_light,
    occlusion,
)
from forecasting.training.batches import FrameWindows

HISTORY, HORIZON = 4, 3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int = 3, rows: int = 16, columns: int = 12) -> tuple[Tensor, Tensor]:
    frames = torch.rand(count, HISTORY + HORIZON, 2, rows, columns, generator=seeded(99))
    return frames[:, :HISTORY], frames[:, HISTORY:]


@pytest.mark.parametrize("name", TRANSFORMS)
def test_strength_0_changes_nothing(name: str) -> None:
    past, future = noise()
    changed = TRANSFORMS[name](past, future, 0.0, seeded())
    torch.testing.assert_close(changed[0], past, atol=1e-6, rtol=0)
    torch.testing.assert_close(changed[1], future, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_frames_stay_in_0_to_1_and_keep_their_shape_and_what_was_given(name: str) -> None:
    past, future = noise()
    before = past.clone(), future.clone()
    for strength in STRENGTHS[name]:
        changed = TRANSFORMS[name](past, future, strength, seeded())
        for now, given in zip(changed, before, strict=True):
            assert now.shape == given.shape
            assert now.min() >= 0
            assert now.max() <= 1 + 1e-6
    assert torch.equal(past, before[0])
    assert torch.equal(future, before[1])


@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_generator_decides_and_nothing_else(name: str) -> None:
    strength = STRENGTHS[name][2]
    past, future = noise(8)
    torch.manual_seed(1)
    one = TRANSFORMS[name](past, future, strength, seeded(5))
    torch.manual_seed(2)
    two = TRANSFORMS[name](past, future, strength, seeded(5))
    other = TRANSFORMS[name](past, future, strength, seeded(6))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    assert not torch.equal(one[0], other[0])
    assert not torch.equal(one[0][0] - past[0], one[0][1] - past[1]), "each window has its own"


def test_measured_strengths_begin_with_none_and_rise() -> None:
    assert STRENGTHS.keys() == TRANSFORMS.keys()
    for strengths in STRENGTHS.values():
        assert strengths[0] == 0
        assert list(strengths) == sorted(set(strengths))


# Camera motion


def seed_along_an_axis(quarter: int) -> int:
    """A seed whose first random number is so near to 0, 1, 2 or 3 quarters of a turn."""
    for seed in range(1_000_000):
        turn = 4 * float(torch.rand(1, generator=seeded(seed)))
        if abs(turn - quarter) < 1e-3:
            return seed
    raise AssertionError("no such seed")


def moved(frame: Tensor, down: int, right: int) -> Tensor:
    """A frame `(c, y, x)` whose content went some cells; dark came in."""
    result = torch.zeros_like(frame)
    rows, columns = frame.shape[-2:]
    for y in range(rows):
        for x in range(columns):
            if 0 <= y - down < rows and 0 <= x - right < columns:
                result[:, y, x] = frame[:, y - down, x - right]
    return result


@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
@pytest.mark.parametrize("strength", [1.0, 2.0])
def test_a_motion_of_whole_cells_moves_by_those_cells_and_dark_comes_in(
    quarter: int, strength: float
) -> None:
    past, future = noise(1)
    made = torch.cat(camera_motion(past, future, strength, seeded(seed_along_an_axis(quarter))), 1)
    frames = torch.cat([past, future], dim=1)[0]
    ways = [(1, 0), (-1, 0), (0, 1), (0, -1)]

    def expected(way: tuple[int, int]) -> Tensor:
        steps = [int(strength) * (number - (HISTORY - 1)) for number in range(len(frames))]
        return torch.stack(
            [
                moved(frame, way[0] * step, way[1] * step)
                for frame, step in zip(frames, steps, strict=True)
            ]
        )

    # The angle is not quite along the axis: 1e-3 of a quarter turn, over 6 cells at most.
    fits = [bool((made[0] - expected(way)).abs().max() < 0.03) for way in ways]
    assert sum(fits) == 1


def test_the_newest_frame_of_the_past_stays_in_its_place() -> None:
    past, future = noise(5)
    for strength in (0.5, 3.0):
        made, _ = camera_motion(past, future, strength, seeded())
        torch.testing.assert_close(made[:, -1], past[:, -1], atol=2e-6, rtol=0)
        assert not torch.allclose(made[:, -2], past[:, -2], atol=0.1)


def test_the_camera_moves_steadily_by_the_strength_in_every_direction() -> None:
    # A spot in a wide dark frame: bilinear sampling moves its center of light exactly.
    count, rows, columns, strength = 200, 25, 31, 1.3
    still = torch.zeros(count, HISTORY + HORIZON, 1, rows, columns)
    still[..., 12, 15] = 1
    made = torch.cat(
        camera_motion(still[:, :HISTORY], still[:, HISTORY:], strength, seeded()), dim=1
    )[:, :, 0]
    assert made.sum((2, 3)) == pytest.approx(torch.ones(made.shape[:2]), abs=1e-4)
    down = (made.sum(3) * torch.arange(rows)).sum(2)
    right = (made.sum(2) * torch.arange(columns)).sum(2)
    steps = torch.stack([down, right], dim=2).diff(dim=1)
    torch.testing.assert_close(steps, steps[:, :1].expand_as(steps), atol=1e-3, rtol=0)
    lengths = steps[:, 0].norm(dim=1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, strength), atol=1e-3, rtol=0)
    angles = torch.atan2(*steps[:, 0].T)
    quarters = torch.histc(angles, 4, -math.pi, math.pi) / count
    assert quarters.tolist() == pytest.approx([0.25] * 4, abs=0.1)


# Occlusion


@pytest.mark.parametrize("strength", [0.125, 0.5, 1.0])
def test_a_square_of_the_past_is_hidden_and_nothing_else(strength: float) -> None:
    rows, columns = 16, 24
    past = torch.full((40, HISTORY, 2, rows, columns), 0.7)
    future = torch.full((40, HORIZON, 2, rows, columns), 0.7)
    hid, seen = occlusion(past, future, strength, seeded())
    assert torch.equal(seen, future)
    dark = hid == 0
    assert (hid[~dark] == 0.7).all()
    high, wide = int(rows * strength), int(columns * strength)
    assert (dark == dark[:, :1, :1]).all(), "the same cells in every frame and channel"
    dark = dark[:, 0, 0]
    assert (dark.sum((1, 2)) == high * wide).all()
    assert (dark.any(2).sum(1) == high).all()
    assert (dark.any(1).sum(1) == wide).all()
    tops = dark.any(2).float().argmax(1)
    assert (tops.min(), tops.max()) == (0, rows - high), "anywhere, from wall to wall"


# Light


def test_light_grows_or_falls_steadily_by_the_strength() -> None:
    past = torch.full((50, HISTORY, 1, 2, 2), 0.5)
    future = torch.full((50, HORIZON, 1, 2, 2), 0.5)
    lit = torch.cat(changing_light(past, future, 0.6, seeded()), dim=1)
    # Seven frames: the part of the light that has changed grows by a sixth from frame to frame.
    brighter = [0.5 * (1 + 0.6 * number / 6) for number in range(7)]
    dimmer = [0.5 * (1 - 0.6 * number / 6) for number in range(7)]
    kinds = [window[:, 0, 0, 0].tolist() for window in lit]
    assert (lit == lit[..., :1, :1]).all()
    ups = sum(kind == pytest.approx(brighter) for kind in kinds)
    downs = sum(kind == pytest.approx(dimmer) for kind in kinds)
    assert ups + downs == 50
    assert 10 < ups < 40


def test_light_ends_at_white() -> None:
    bright = torch.full((20, HISTORY, 1, 2, 2), 0.9)
    lit = torch.cat(changing_light(bright, bright[:, :HORIZON], 0.8, seeded()), dim=1)
    assert lit.max() == 1


# Feeds that are transformed


def windows(count: int) -> FrameWindows:
    frames = torch.rand(count + 6, 1, 8, 8, generator=seeded(1))
    start = torch.arange(count)[:, None]
    past, future = torch.arange(HISTORY), torch.arange(HISTORY, HISTORY + HORIZON)
    return FrameWindows(frames, start + past, start + future, torch.device("cpu"))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transformed_feed_is_the_same_each_time_it_is_gone_through(name: str) -> None:
    strength = STRENGTHS[name][2]
    feed = Transformed(windows(20), name, strength)
    assert len(feed) == 20
    for index in torch.arange(20).split(8):
        one, two = feed.take(index), Transformed(windows(20), name, strength).take(index)
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[1], two[1])
        other = Transformed(windows(20), name, strength, seed=1).take(index)
        assert not torch.equal(one[0], other[0])


def test_every_batch_has_a_chance_of_its_own() -> None:
    still = FrameWindows(
        torch.ones(7, 1, 8, 8),
        torch.arange(HISTORY).expand(16, -1),
        torch.arange(HISTORY, HISTORY + HORIZON).expand(16, -1),
        torch.device("cpu"),
    )
    feed = Transformed(still, "occlusion", 0.25)
    one, two = (feed.take(index)[0] for index in torch.arange(16).split(8))
    assert not torch.equal(one, two)
