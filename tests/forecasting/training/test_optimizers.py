"""Muon against singular value decompositions and steps by hand; all optimisers under one contract."""

import copy

import pytest
import torch
from torch import nn

from forecasting.training.optimizers import OPTIMIZERS, Muon, orthogonal

RATE, DECAY = 0.01, 0.1


class Small(nn.Module):
    """A wide and a tall matrix, one too narrow to be turned, biases and a kernel."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wide = nn.Linear(64, 32)
        self.tall = nn.Linear(32, 96)
        self.narrow = nn.Linear(96, 8)
        self.kernel = nn.Conv2d(2, 2, kernel_size=3)


def with_gradients(network: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for value in network.parameters():
        value.grad = torch.randn(value.shape, generator=generator)
    return network


def copies(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters()}


@pytest.mark.parametrize("shape", [(3, 64, 64), (2, 32, 96), (2, 192, 64)])
def test_singular_vectors_stay_and_singular_values_are_about_one(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 7
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    inside = u.mT @ orthogonal(matrices) @ v.mT
    values = inside.diagonal(dim1=-2, dim2=-1)
    assert (inside - torch.diag_embed(values)).abs().max() < 1e-3
    # Jordan's coefficients take all but the smallest singular values to between 0.68 and 1.2.
    assert values.max() < 1.25
    assert values.median() > 0.68


def test_a_first_step_of_a_matrix_is_that_of_the_papers() -> None:
    network = Small()
    before = copies(network)
    Muon(with_gradients(network, 2), torch.tensor(RATE), DECAY).step()
    for name, larger in (("wide.weight", 64), ("tall.weight", 96)):
        gradient = dict(network.named_parameters())[name].grad
        assert gradient is not None
        # The first momentum is 0.05 of the gradient; scaling does not change what is orthogonal.
        step = orthogonal(gradient[None])[0] * 0.2 * larger**0.5
        expected = before[name] * (1 - RATE * DECAY) - RATE * step
        torch.testing.assert_close(copies(network)[name], expected)


def test_what_is_no_matrix_is_changed_as_by_adamw() -> None:
    ours, usual = Small(), Small()
    one = Muon(ours, torch.tensor(RATE), DECAY)
    other = torch.optim.AdamW(usual.parameters(), lr=RATE, weight_decay=DECAY)
    for seed in range(3):
        with_gradients(ours, seed)
        with_gradients(usual, seed)
        one.step()
        other.step()
    changed, expected = copies(ours), copies(usual)
    for name in changed.keys() - {"wide.weight", "tall.weight"}:
        torch.testing.assert_close(changed[name], expected[name])
    assert (changed["wide.weight"] - expected["wide.weight"]).abs().max() > RATE / 10


@pytest.mark.parametrize("name", [*OPTIMIZERS])
def test_no_step_is_made_while_something_is_not_finite(name: str) -> None:
    network = Small()
    optimizer = OPTIMIZERS[name](network, torch.tensor(RATE), DECAY)
    optimizer.found_inf = torch.zeros(())  # type: ignore[attr-defined]
    with_gradients(network, 0)
    optimizer.step()
    before = copies(network)
    for value in network.parameters():
        value.grad = torch.full_like(value, torch.nan)
    optimizer.found_inf.fill_(1)  # type: ignore[attr-defined]
    optimizer.step()
    for key, value in copies(network).items():
        assert torch.equal(value, before[key])
    moments = [one for kept in optimizer.state.values() for one in kept.values()]
    assert all(torch.isfinite(one).all() for one in moments)


@pytest.mark.parametrize("name", [*OPTIMIZERS])
def test_the_rate_may_change_in_place_and_the_state_goes_on_elsewhere(name: str) -> None:
    def made() -> tuple[nn.Module, torch.optim.AdamW]:
        network = Small()
        return network, OPTIMIZERS[name](network, torch.tensor(RATE), DECAY)

    network, optimizer = made()
    with_gradients(network, 0)
    optimizer.step()
    other, again = made()
    other.load_state_dict(network.state_dict())
    moments = copy.deepcopy(optimizer.state_dict()["state"])
    again.load_state_dict({**again.state_dict(), "state": moments})
    for each, by in ((network, optimizer), (other, again)):
        by.param_groups[0]["lr"].fill_(RATE / 2)
        with_gradients(each, 1)
        by.step()
    for key, value in copies(network).items():
        assert torch.equal(value, copies(other)[key])
    before = copies(network)
    optimizer.param_groups[0]["lr"].zero_()
    optimizer.step()
    for key, value in copies(network).items():
        assert torch.equal(value, before[key])
