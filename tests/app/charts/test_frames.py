"""Frames of benchmarks: what is drawn is what the arrays and results hold."""

import io

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from app.charts.frames import animation, strips


def samples(
    n: int = 1, t: int = 3, h: int = 2, c: int = 1, y: int = 5, x: int = 4
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    past = random.random((n, t, c, y, x), np.float32)
    observed = random.random((n, h, c, y, x), np.float32)
    return past, observed, observed + np.float32(0.25) * (random.random(observed.shape) < 0.5)


def drawn(figure: Figure) -> list[Axes]:
    """The axes with a frame, row by row, without the scales."""
    return [ax for ax in figure.axes if len(ax.get_images()) and ax.get_aspect() == 1]


def pictures(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(ax.get_images()[0].get_array()) for ax in drawn(figure)]


def test_a_sample_has_a_row_each_of_input_truth_forecast_and_error() -> None:
    past, observed, forecast = samples()
    figure = strips(past, observed, forecast, ["one"])
    found = pictures(figure)
    expected = [*past[0, :, 0], *observed[0, :, 0], *forecast[0, :, 0]]
    expected += list(forecast[0, :, 0] - observed[0, :, 0])
    assert len(found) == 3 + 2 + 2 + 2
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)
    labels = [ax.get_ylabel() for ax in drawn(figure)]
    assert [label for label in labels if label] == ["input", "truth", "forecast", "error"]
    titles = [ax.get_title() for ax in drawn(figure)]
    assert titles[:5] == ["-2", "-1", "0", "+1", "+2"]


def test_gray_frames_are_drawn_from_0_to_1_and_errors_alike_to_both_sides_of_0() -> None:
    past, observed, forecast = samples(n=2)
    forecast[1, 1, 0, 0, 0] = observed[1, 1, 0, 0, 0] - 0.75
    limits = [ax.get_images()[0].get_clim() for ax in drawn(strips(past, observed, forecast, "ab"))]
    for sample in (limits[:9], limits[9:]):
        assert set(sample[:7]) == {(0.0, 1.0)}
        assert np.allclose(sample[7:], [(-0.75, 0.75)] * 2), "one scale for all samples"


def test_the_channels_of_flow_are_drawn_one_by_one_each_to_its_largest_value() -> None:
    past, observed, forecast = samples(c=2)
    past, observed, forecast = past * 0.5, observed * 0.5, forecast * 0.5
    past[0, 0, 1, 0, 0] = 0.9
    figure = strips(past, observed, forecast, ["one"], ["inflow", "outflow"])
    found, axes = pictures(figure), drawn(figure)
    assert len(found) == 2 * 9
    np.testing.assert_array_equal(found[0], past[0, 0, 0])
    np.testing.assert_array_equal(found[9], past[0, 0, 1])
    assert axes[9].get_images()[0].get_clim() == pytest.approx((0, 0.9))
    assert axes[0].get_images()[0].get_clim() == pytest.approx(
        (0, max(past[0, :, 0].max(), observed[0, :, 0].max()))
    )
    titles = [panel.get_suptitle() for panel in figure.subfigs]
    assert titles == ["one, inflow", "one, outflow"]


def test_three_channels_are_a_colored_picture_with_the_mean_error() -> None:
    past, observed, forecast = samples(c=3)
    found = pictures(strips(past, observed, forecast, ["one"]))
    assert len(found) == 9
    np.testing.assert_array_equal(found[0], past[0, 0].transpose(1, 2, 0))
    np.testing.assert_array_equal(found[5], forecast[0, 0].transpose(1, 2, 0).clip(0, 1))
    np.testing.assert_allclose(found[7], (forecast - observed)[0, 0].mean(0), atol=1e-6)


def test_of_a_long_horizon_ten_frames_from_the_first_to_the_last_are_drawn() -> None:
    past, observed, forecast = samples(t=10, h=40)
    figure = strips(past, observed, forecast, ["one"])
    found = pictures(figure)
    assert len(found) == 40
    np.testing.assert_array_equal(found[10], observed[0, 0, 0])
    np.testing.assert_array_equal(found[19], observed[0, 39, 0])
    assert drawn(figure)[19].get_title() == "+40"


def test_a_perfect_forecast_and_one_that_is_no_number_can_be_drawn() -> None:
    past, observed, _ = samples()
    limits = drawn(strips(past, observed, observed, ["one"]))[-1].get_images()[0].get_clim()
    assert limits == (-1.0, 1.0)
    nothing = np.full_like(observed, np.nan)
    assert np.isnan(np.ma.filled(pictures(strips(past, observed, nothing, "a"))[-1], np.nan)).all()
    assert animation(past[0], observed[0], nothing[0])


def frames_of(gif: bytes) -> list[Image.Image]:
    with Image.open(io.BytesIO(gif)) as image:
        found = []
        for at in range(getattr(image, "n_frames", 1)):
            image.seek(at)
            found.append(image.convert("RGB"))
    return found


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_an_animation_shows_every_frame_of_input_and_horizon(channels: int) -> None:
    past, observed, forecast = samples(t=3, h=4, c=channels)
    assert len(frames_of(animation(past[0], observed[0], forecast[0]))) == 7


def test_frames_that_do_not_change_are_shown_all_the_same() -> None:
    still = np.zeros((4, 1, 5, 4), np.float32)
    gif = animation(still, still, still)
    assert len(frames_of(gif)) == 8
    with Image.open(io.BytesIO(gif)) as image:
        assert image.info["loop"] == 0
        assert image.info["duration"] == 300


def test_an_animation_has_truth_forecast_and_error_beside_one_another_enlarged() -> None:
    past = np.zeros((1, 1, 4, 4), np.float32)
    observed, forecast = past + 1, past.copy()
    forecast[0, 0, 0, 0] = 1
    before, after = frames_of(animation(past, observed, forecast))
    width, height = before.size
    assert width > 3 * 200 and height > 200
    middle = [(width * (2 * at + 1) // 6, height // 2) for at in range(3)]
    assert [before.getpixel(at) for at in middle[:2]] == [(0, 0, 0)] * 2
    assert after.getpixel(middle[0]) == (255, 255, 255)
    assert after.getpixel(middle[1]) == (0, 0, 0)
    red, _, blue = np.asarray(after.getpixel(middle[2]))
    assert blue > red, "the forecast is too low there"


def test_a_large_frame_is_not_shrunk() -> None:
    past = np.zeros((1, 1, 300, 20), np.float32)
    assert frames_of(animation(past, past, past))[0].size[1] > 300
