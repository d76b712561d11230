"""Frame metrics against scikit-image, against their definitions in plain numpy, and by hand."""

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from forecasting.benchmarks.frame_metrics import METRICS, frame_scores

SHAPES = [(2, 3, 1, 16, 16), (2, 2, 2, 7, 12), (1, 2, 3, 20, 9)]
SSIM = {"ssim": 2.0, "ssim_range_1": 1.0}


def pair(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Observed frames in [0, 1] and a forecast that resembles them and leaves the range."""
    random = np.random.default_rng(7)
    observed = random.random(shape)
    forecast = observed + random.normal(0, 0.3, shape)
    assert forecast.min() < 0 and forecast.max() > 1
    return forecast.astype(np.float32), observed.astype(np.float32)


def scores(forecast: np.ndarray, observed: np.ndarray) -> dict[str, np.ndarray]:
    found = frame_scores(torch.from_numpy(forecast), torch.from_numpy(observed))
    return {name: values.numpy() for name, values in found.items()}


def frames(value: float, shape: tuple[int, ...] = (1, 1, 1, 8, 8)) -> np.ndarray:
    return np.full(shape, value, np.float32)


def ssim_by_definition(a: np.ndarray, b: np.ndarray, data_range: float) -> float:
    """One channel: mean, sample variance and covariance of every 7x7 window, straight from numpy."""
    values = []
    for left, right in zip(
        sliding_window_view(a, (7, 7)).reshape(-1, 49),
        sliding_window_view(b, (7, 7)).reshape(-1, 49),
        strict=True,
    ):
        c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        (va, vab), (_, vb) = np.cov(left, right)
        ma, mb = left.mean(), right.mean()
        values.append((2 * ma * mb + c1) * (2 * vab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    return float(np.mean(values))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_figure_follows_its_definition(shape: tuple[int, ...]) -> None:
    forecast, observed = pair(shape)
    found = scores(forecast, observed)
    assert set(found) == set(METRICS)
    for b, t in np.ndindex(shape[:2]):
        f, o = forecast[b, t].astype(np.float64), observed[b, t].astype(np.float64)
        clipped = np.clip(f, 0, 1)
        assert found["mse"][b, t] == pytest.approx(((f - o) ** 2).sum(), abs=1e-5)
        assert found["mae"][b, t] == pytest.approx(abs(f - o).sum(), abs=1e-5)
        noise = ((clipped - o) ** 2).mean()
        assert found["psnr"][b, t] == pytest.approx(10 * np.log10(1 / noise), abs=1e-5)
        for name, data_range in SSIM.items():
            by_channel = [
                ssim_by_definition(*both, data_range) for both in zip(clipped, o, strict=True)
            ]
            assert found[name][b, t] == pytest.approx(np.mean(by_channel), abs=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_ssim_and_psnr_are_those_of_scikit_image(shape: tuple[int, ...]) -> None:
    forecast, observed = pair(shape)
    found = scores(forecast, observed)
    for b, t in np.ndindex(shape[:2]):
        f, o = np.clip(forecast[b, t], 0, 1).astype(np.float64), observed[b, t].astype(np.float64)
        for name, data_range in SSIM.items():
            expected = structural_similarity(f, o, channel_axis=0, data_range=data_range)
            assert found[name][b, t] == pytest.approx(expected, abs=1e-5)
        expected = peak_signal_noise_ratio(o, f, data_range=1)
        assert found["psnr"][b, t] == pytest.approx(expected, abs=1e-5)


def test_figures_are_a_value_a_frame_in_double_precision() -> None:
    forecast, observed = pair((2, 3, 1, 16, 16))
    for values in frame_scores(torch.from_numpy(forecast), torch.from_numpy(observed)).values():
        assert values.shape == (2, 3)
        assert values.dtype == torch.float64


def test_errors_are_summed_over_the_cells_and_channels_of_a_frame() -> None:
    found = scores(frames(0.75, (1, 2, 2, 3, 4)), frames(0.25, (1, 2, 2, 3, 4)))
    assert found["mse"].tolist() == [[2 * 3 * 4 * 0.25] * 2]
    assert found["mae"].tolist() == [[2 * 3 * 4 * 0.5] * 2]
    assert found["psnr"] == pytest.approx(np.full((1, 2), 6.0206), abs=1e-4)  # 10 log10(4)


def test_ssim_of_even_frames_is_the_likeness_of_their_brightness() -> None:
    found = scores(frames(0.5), frames(0.25))
    for name, data_range in SSIM.items():
        c1 = (0.01 * data_range) ** 2
        expected = (2 * 0.5 * 0.25 + c1) / (0.5**2 + 0.25**2 + c1)
        assert found[name][0, 0] == pytest.approx(expected, abs=1e-9)


def test_each_frame_is_scored_by_itself() -> None:
    observed = frames(0.5, (1, 2, 1, 8, 8))
    forecast = observed.copy()
    forecast[0, 1] = 1.0
    found = scores(forecast, observed)
    assert found["mse"].tolist() == [[0.0, 16.0]]
    assert found["ssim"][0, 0] == 1 > found["ssim"][0, 1]


def test_identical_frames_are_without_error_and_wholly_alike() -> None:
    _, observed = pair((2, 2, 3, 9, 8))
    found = scores(observed, observed)
    assert (found["mse"] == 0).all() and (found["mae"] == 0).all()
    assert (found["psnr"] == 100).all()
    assert (found["ssim"] == 1).all() and (found["ssim_range_1"] == 1).all()


def test_only_psnr_and_ssim_see_the_clipped_forecast() -> None:
    found = scores(frames(1.5), frames(1))
    assert found["mse"].tolist() == [[64 * 0.25]]
    assert found["mae"].tolist() == [[64 * 0.5]]
    assert found["psnr"].tolist() == [[100]]
    assert found["ssim"].tolist() == found["ssim_range_1"].tolist() == [[1]]


@pytest.mark.parametrize("grid", [(6, 9), (9, 6), (1, 1)])
def test_grids_that_hold_no_window_have_no_ssim_but_all_the_rest(grid: tuple[int, int]) -> None:
    found = scores(frames(0.5, (2, 3, 1, *grid)), frames(0.25, (2, 3, 1, *grid)))
    assert np.isnan(found["ssim"]).all() and np.isnan(found["ssim_range_1"]).all()
    assert found["ssim"].shape == (2, 3)
    assert np.isfinite(found["psnr"]).all() and (found["mse"] > 0).all()


def test_a_forecast_that_is_no_number_is_not_scored_as_a_good_one() -> None:
    found = scores(frames(np.nan), frames(0.5))
    assert all(np.isnan(values).all() for values in found.values())


def test_frames_of_other_shapes_are_not_stretched_to_fit() -> None:
    with pytest.raises(ValueError, match=r"\(1, 1, 1, 8, 8\) and observed \(1, 2, 1, 8, 8\)"):
        scores(frames(0), frames(0, (1, 2, 1, 8, 8)))
    with pytest.raises(ValueError, match="not both"):
        scores(frames(0, (1, 8, 8)), frames(0, (1, 8, 8)))


def test_every_figure_says_which_of_two_values_is_better() -> None:
    better = {name: metric.better for name, metric in METRICS.items()}
    assert better == {
        "mse": "lower",
        "mae": "lower",
        "psnr": "higher",
        "ssim": "higher",
        "ssim_range_1": "higher",
    }
    assert len({metric.label for metric in METRICS.values()}) == len(METRICS)
