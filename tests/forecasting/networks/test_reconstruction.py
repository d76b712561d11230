import pytest
import torch
from torch import nn

from forecasting.networks.swinlstm_parts import RECONSTRUCTIONS, bilinear, linear, transposed

PATCHES = [1, 2, 4, 8]


@pytest.fixture(params=RECONSTRUCTIONS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("patch", PATCHES)
def test_every_token_becomes_a_patch_of_cells(name: str, patch: int) -> None:
    head = RECONSTRUCTIONS[name](8, 3, patch)
    assert head(torch.randn(2, 8, 5, 3)).shape == (2, 3, 5 * patch, 3 * patch)


@pytest.mark.parametrize("patch", PATCHES)
def test_cells_are_not_bounded(name: str, patch: int) -> None:
    torch.manual_seed(0)
    cells = RECONSTRUCTIONS[name](8, 2, patch)(100 * torch.randn(4, 8, 4, 4))
    assert cells.min() < -1
    assert cells.max() > 1


@pytest.mark.parametrize("patch", PATCHES)
def test_every_parameter_of_a_head_is_used(name: str, patch: int) -> None:
    torch.manual_seed(0)
    head = RECONSTRUCTIONS[name](8, 2, patch)
    (head(torch.randn(2, 8, 4, 4)) ** 2).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


def test_the_papers_head_at_patch_2_is_one_transposed_convolution() -> None:
    head = transposed(3, 1, 2)
    (layer,) = head
    assert isinstance(layer, nn.ConvTranspose2d)
    features = torch.randn(1, 3, 4, 4)
    # By the definition: cell 2i + k - 1 receives token i through weight k of a kernel of 3.
    cells = torch.full((9, 9), layer.bias.item())
    for i, j, ky, kx in torch.cartesian_prod(*[torch.arange(n) for n in (4, 4, 3, 3)]).tolist():
        y, x = 2 * i + ky - 1, 2 * j + kx - 1
        if y >= 0 and x >= 0:
            cells[y, x] += (features[0, :, i, j] * layer.weight[:, 0, ky, kx]).sum().item()
    assert torch.allclose(head(features)[0, 0], cells[:8, :8], atol=1e-5)


def test_a_larger_patch_doubles_once_for_each_power_of_two() -> None:
    doublings = [
        sum(isinstance(layer, nn.ConvTranspose2d) for layer in transposed(8, 2, patch))
        for patch in (2, 4, 8, 16)
    ]
    assert doublings == [1, 2, 3, 4]


def test_bilinear_cells_lie_between_the_centres_of_their_tokens() -> None:
    head = bilinear(1, 1, 2)
    convolution = head[-1]
    assert isinstance(convolution, nn.Conv2d)
    nn.init.zeros_(convolution.weight)
    nn.init.zeros_(convolution.bias)
    convolution.weight.data[0, 0, 1, 1] = 1
    # Centers of cells lie a quarter of a token beside the center of their own token.
    assert head(torch.tensor([[[[0.0, 4.0]]]]))[0, 0, 0].tolist() == [0, 1, 3, 4]


def test_a_linear_head_projects_each_token_to_its_own_cells_alone() -> None:
    head = linear(4, 2, 2)
    features = torch.randn(1, 4, 3, 3)
    changed = features.clone()
    changed[0, :, 1, 2] += 1
    touched = (head(features) != head(changed)).any(dim=1)[0]
    expected = torch.zeros(6, 6, dtype=torch.bool)
    expected[2:4, 4:6] = True
    assert torch.equal(touched, expected)
