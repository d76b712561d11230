"""Losses, by hand."""

import pytest
import torch
from torch import Tensor

from forecasting.training.losses import DELTA, LOSSES, huber, loss_of, squared


def of(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1, 1)


def test_the_squared_loss_is_the_mean_square() -> None:
    assert squared(of(1, 2, 3), of(1, 0, 6)).item() == pytest.approx((0 + 4 + 9) / 3)


def test_hubers_loss_is_a_square_up_to_delta_and_then_a_line() -> None:
    assert DELTA == 0.3
    # Divided by delta: 0.1^2 / 2 / 0.3, then at 0.3 half of 0.3, and beyond it the error less that.
    for error, loss in ((0, 0), (0.1, 0.005 / 0.3), (0.3, 0.15), (1, 0.85), (-10, 9.85)):
        assert huber(of(error), of(0)).item() == pytest.approx(loss, rel=1e-6)
    assert huber(of(1, 0.1), of(0, 0)).item() == pytest.approx((0.85 + 0.005 / 0.3) / 2)


@pytest.mark.parametrize("error", [0.5, 2.0, 100.0])
def test_no_large_error_pulls_more_than_another(error: float) -> None:
    output = of(error).requires_grad_()
    huber(output, of(0)).backward()
    assert output.grad is not None
    assert output.grad.item() == pytest.approx(1)


def test_errors_are_weighted_before_the_loss() -> None:
    # Two cells of which one counts twice: errors 1 and 2 count 1 and 4.
    outputs, targets = torch.tensor([1.0, 2]).view(1, 1, 1, 1, 2), torch.zeros(1, 1, 1, 1, 2)
    weight = torch.tensor([1.0, 2]).view(1, 1, 2)
    assert loss_of("squared", weight)(outputs, targets).item() == pytest.approx((1 + 16) / 2)
    assert loss_of("huber", weight)(outputs, targets).item() == pytest.approx((0.85 + 3.85) / 2)
    assert loss_of("squared", None)(outputs, targets).item() == pytest.approx((1 + 4) / 2)


@pytest.mark.parametrize("name", LOSSES)
def test_a_weight_of_one_changes_nothing(name: str) -> None:
    torch.manual_seed(0)
    outputs, targets = torch.randn(2, 2, 3, 2, 4, 5)
    plain = LOSSES[name](outputs, targets)
    assert torch.equal(plain, LOSSES[name](outputs, targets, torch.ones(2, 4, 5)))
    assert plain > 0
