"""The figures of the benchmark tables, frame by frame: MSE, MAE, PSNR and SSIM of frames in [0, 1].

SSIM is that of scikit-image's `structural_similarity` (Wang, Bovik, Sheikh and Simoncelli 2004) with
its defaults: a uniform window of 7x7, sample covariances, K1 0.01, K2 0.03, each channel by itself,
no windows that leave the frame. The published tables were made with float frames and the range that
scikit-image then took for those by default, 2; of frames in [0, 1] it is 1.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

WINDOW = 7
K1, K2 = 0.01, 0.03
FLOOR = 1e-10  # of the mean squared error under the logarithm: no PSNR lies above 100 dB


@dataclass(frozen=True)
class Metric:
    """What is to be known of a figure to print it.

    Attributes:
        label: for people.
        better: which of two values is the better one.
        unit: of the value; empty where it has none.
    """

    label: str
    better: Literal["lower", "higher"]
    unit: str = ""


METRICS: dict[str, Metric] = {
    "mse": Metric("MSE", "lower", "per frame, summed over cells"),
    "mae": Metric("MAE", "lower", "per frame, summed over cells"),
    "ssim": Metric("SSIM (data_range 2)", "higher"),
    "ssim_range_1": Metric("SSIM (data_range 1)", "higher"),
    "psnr": Metric("PSNR", "higher", "dB"),
}


def frame_scores(forecast: Tensor, observed: Tensor) -> dict[str, Tensor]:
    """Returns every figure of `METRICS` for each frame, `(b, t)` in float64.

    The squared and absolute errors are summed over channel, y and x of the forecast as it is; PSNR
    and SSIM are of the forecast clipped to [0, 1]. The mean over b and t is what tables print.

    Args:
        forecast: `(b, t, c, y, x)`, not yet clipped, on any device that knows float64.
        observed: the same, in [0, 1].

    Returns:
        `mse`, `mae`; `psnr` in dB, 100 for a frame without an error; `ssim` for a range of 2 as in
        the published tables and `ssim_range_1`, both NaN for frames of fewer than 7 cells a side.

    Raises:
        ValueError: the two differ in shape, or are no stacks of frames.
    """
    if forecast.ndim != 5 or forecast.shape != observed.shape:
        raise ValueError(
            f"forecast {tuple(forecast.shape)} and observed {tuple(observed.shape)} are not both "
            f"the same (b, t, c, y, x)"
        )
    forecast, observed = forecast.double(), observed.double()
    error = forecast - observed
    cells = (2, 3, 4)
    clipped = forecast.clamp(0, 1)
    noise = ((clipped - observed) ** 2).mean(cells).clamp(min=FLOOR)
    return {
        "mse": (error**2).sum(cells),
        "mae": error.abs().sum(cells),
        "psnr": -10 * noise.log10(),
        **_ssim(clipped, observed),
    }


def _ssim(forecast: Tensor, observed: Tensor) -> dict[str, Tensor]:
    """Returns SSIM for a range of 2 and of 1, which share all but two constants."""
    b, t, _, y, x = forecast.shape
    if min(y, x) < WINDOW:
        nothing = torch.full((b, t), torch.nan, dtype=torch.float64, device=forecast.device)
        return {"ssim": nothing, "ssim_range_1": nothing.clone()}
    f, o = forecast.flatten(0, 1), observed.flatten(0, 1)  # n c y x
    mean_f, mean_o = _windows(f), _windows(o)
    products, squares = mean_f * mean_o, mean_f**2 + mean_o**2
    sample = WINDOW**2 / (WINDOW**2 - 1)
    variances = sample * (_windows(f**2 + o**2) - squares)
    covariance = sample * (_windows(f * o) - products)

    def similarity(data_range: float) -> Tensor:
        c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
        luminance = (2 * products + c1) / (squares + c1)
        structure = (2 * covariance + c2) / (variances + c2)
        return (luminance * structure).mean((1, 2, 3)).reshape(b, t)

    return {"ssim": similarity(2), "ssim_range_1": similarity(1)}


def _windows(frames: Tensor) -> Tensor:
    """Returns the mean of every window that lies within the frame, rows first and then columns."""
    return avg_pool2d(avg_pool2d(frames, (WINDOW, 1), stride=1), (1, WINDOW), stride=1)
