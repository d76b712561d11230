"""Scores of many windows, against all of them scored at once."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from forecasting.benchmarks.frame_metrics import METRICS, frame_scores
from forecasting.benchmarks.scoring import batches, persistence, predictor, score, squared_error
from forecasting.training.batches import FrameWindows

CPU = torch.device("cpu")
HISTORY, HORIZON = 3, 2


def windows(count: int, side: int = 8) -> FrameWindows:
    """Windows of noise in [0, 1]; 16 go into a batch, so that 37 fill two and a part."""
    frames = torch.rand(count + 4, 2, side, side, generator=torch.Generator().manual_seed(0))
    start = torch.arange(count)[:, None]
    past, future = torch.arange(HISTORY), torch.arange(HISTORY, HISTORY + HORIZON)
    return FrameWindows(frames, start + past, start + future, CPU)


def faded(past: Tensor, horizon: int) -> Tensor:
    """Forecasts that leave [0, 1]."""
    return 1.5 * past[:, -1:].expand(-1, horizon, -1, -1, -1) - 0.2


@pytest.mark.parametrize("count", [1, 16, 37])
def test_the_figures_are_means_over_all_windows_whatever_the_batches(count: int) -> None:
    past, future = windows(count).take(torch.arange(count))
    expected = frame_scores(faded(past, HORIZON), future)
    scores = score(faded, windows(count))
    assert scores.keys() == expected.keys() == METRICS.keys()
    for name, values in expected.items():
        assert scores[name]["by_frame"] == pytest.approx(values.mean(0).tolist(), rel=1e-9)
        assert scores[name]["all"] == pytest.approx(values.mean().item(), rel=1e-9)


def test_the_mse_is_the_sum_over_cells_by_hand() -> None:
    # Every cell of 2 x 4 x 4 is off by 0.5 in the first frame and by 0.1 in the second.
    frames = torch.zeros(5, 2, 4, 4)
    frames[3], frames[4] = 0.5, 0.1
    one = FrameWindows(frames, torch.tensor([[0, 1, 2]]), torch.tensor([[3, 4]]), CPU)
    scores = score(persistence, one)
    assert scores["mse"]["by_frame"] == pytest.approx([32 * 0.25, 32 * 0.01])
    assert scores["mae"]["by_frame"] == pytest.approx([32 * 0.5, 32 * 0.1])
    assert scores["psnr"]["by_frame"] == pytest.approx([6.0206, 20.0], abs=1e-4)
    assert squared_error(persistence, one) == pytest.approx(16 * 0.26)


@pytest.mark.parametrize("count", [1, 37])
@pytest.mark.parametrize("predict", [faded, persistence])
def test_epochs_are_chosen_by_the_mse_that_is_reported(count: int, predict: object) -> None:
    assert callable(predict)
    mse = score(predict, windows(count))["mse"]["all"]
    assert squared_error(predict, windows(count)) == pytest.approx(mse, rel=1e-6)


def test_persistence_is_the_newest_frame_again_and_again() -> None:
    past, _ = windows(5).take(torch.arange(5))
    forecast = persistence(past, 4)
    assert forecast.shape == (5, 4, 2, 8, 8)
    assert all(torch.equal(forecast[:, lead], past[:, -1]) for lead in range(4))


def test_batches_go_through_all_windows_in_their_order() -> None:
    parts = list(batches(windows(37)))
    assert [len(past) for past, _ in parts] == [16, 16, 5]
    past, future = windows(37).take(torch.arange(37))
    assert torch.equal(torch.cat([part[0] for part in parts]), past)
    assert torch.equal(torch.cat([part[1] for part in parts]), future)


class Recurring(nn.Module):
    """Puts out all frames that it saw but the first, then zeros; spoilt while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, frames: Tensor, horizon: int) -> Tensor:
        zeros = torch.zeros_like(frames[:, :1]).expand(-1, horizon, -1, -1, -1)
        return torch.cat([frames[:, 1:], zeros], dim=1) * self.weight + self.training


def parameters_of(network: nn.Module) -> Iterator[Tensor]:
    return (value.clone() for value in network.parameters())


def test_a_network_predicts_by_its_last_outputs_in_evaluation_mode() -> None:
    network = Recurring().train()
    before = list(parameters_of(network))
    past, _ = windows(2).take(torch.arange(2))
    for horizon in (1, 5):
        forecast = predictor(network)(past, horizon)
        assert forecast.shape == (2, horizon, 2, 8, 8)
        assert not forecast.any()
        assert not forecast.requires_grad
    assert all(map(torch.equal, parameters_of(network), before))


def test_frames_too_small_for_ssim_have_none() -> None:
    scores = score(persistence, windows(3, side=4))
    assert scores["ssim"]["all"] != scores["ssim"]["all"]
    assert scores["mse"]["all"] > 0
