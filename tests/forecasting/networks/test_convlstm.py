import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from forecasting.networks.base import Frames
from forecasting.networks.convlstm import ConvLSTM, ConvLSTMCell, ConvLSTMConfig
from forecasting.profiling.cost import multiply_adds, parameters

SMALL = ConvLSTMConfig(channels=2, grid=(6, 4), patch=2, widths=(3, 5), kernel=3)
TAXIBJ = Frames(2, (32, 32), 4, 4, data="taxibj")
MOVING_MNIST = Frames(1, (64, 64), 10, 10, data="moving-mnist")
KTH = Frames(1, (128, 128), 10, 20, data="kth")
HUMAN = Frames(3, (256, 256), 4, 4, data="human36m")
UNUSED = 4 * (25 * 256 * 128 + 256 * 128)
"""Parameters of OpenSTL's four cells that take part in nothing: `conv_o` and `conv_last`."""


def paper(frames: Frames) -> nn.Module:
    """The network of the paper's size, on a device that stores nothing."""
    with torch.device("meta"):
        return ConvLSTM(ConvLSTMConfig.paper(frames))


def run(network: nn.Module, frames: Tensor, horizon: int) -> Tensor:
    with torch.inference_mode():
        outputs: Tensor = network.eval()(frames, horizon)
    return outputs


# OpenSTL's figures: docs/en/model_zoos/traffic_benchmarks.md and video_benchmarks.md, ConvLSTM-S


@pytest.mark.parametrize(
    ("frames", "millions", "tolerance"),
    [(TAXIBJ, 14.98, 0.005), (MOVING_MNIST, 15.0, 0.1), (KTH, 14.9, 0.05), (HUMAN, 15.5, 0.05)],
    ids=lambda value: value.data if isinstance(value, Frames) else "",
)
def test_the_papers_network_has_openstls_parameters_but_for_the_unused(
    frames: Frames, millions: float, tolerance: float
) -> None:
    assert (parameters(paper(frames)) + UNUSED) / 1e6 == pytest.approx(millions, abs=tolerance)


@pytest.mark.parametrize(
    ("frames", "billions"),
    [(TAXIBJ, 20.74), (MOVING_MNIST, 56.8), (KTH, 1368.0), (HUMAN, 347.0)],
    ids=lambda value: value.data if isinstance(value, Frames) else "",
)
def test_a_sequence_takes_openstls_multiply_adds(frames: Frames, billions: float) -> None:
    past = torch.empty(1, frames.history, frames.channels, *frames.grid, device="meta")
    counted = multiply_adds(paper(frames), past, frames.horizon)
    assert counted / 1e9 == pytest.approx(billions, rel=2e-3)


def test_for_taxibj_the_parameters_are_those_of_four_convolutions_and_a_map() -> None:
    # 5x5 filters on 2*2*2 + 128 features, then on 128 + 128, for four gates of 128; 128 -> 8.
    cells = 25 * (8 + 128) * 4 * 128 + 3 * 25 * (128 + 128) * 4 * 128
    assert cells == 11_571_200
    assert parameters(paper(TAXIBJ)) == cells + 128 * 8 == 14_980_096 - 3_407_872


# The cell


def convolved(weight: Tensor, image: Tensor) -> Tensor:
    """`(o, y, x)` for `(i, y, x)` by the definition of a convolution with zeros beyond the border."""
    outputs, side = weight.shape[0], weight.shape[2]
    rows, columns = image.shape[1:]
    result = torch.zeros(outputs, rows, columns)
    for y in range(rows):
        for x in range(columns):
            for dy in range(side):
                for dx in range(side):
                    from_y, from_x = y + dy - side // 2, x + dx - side // 2
                    if 0 <= from_y < rows and 0 <= from_x < columns:
                        result[:, y, x] += weight[:, :, dy, dx] @ image[:, from_y, from_x]
    return result


def test_the_cell_follows_its_equations() -> None:
    # i, f, o = sigmoid(W_x * x + W_h * h), g = tanh(W_x * x + W_h * h) without biases;
    # c' = f c + i g, h' = o tanh(c'): equation 3 of arXiv 1506.04214 without the peepholes.
    torch.manual_seed(0)
    cell = ConvLSTMCell(2, 3, 3)
    x, hidden, memory = torch.randn(2, 4, 3), torch.randn(3, 4, 3), torch.randn(3, 4, 3)
    with torch.inference_mode():
        into, forget, candidate, out = (
            convolved(weight[:, :2], x) + convolved(weight[:, 2:], hidden)
            for weight in cell.gates.weight.chunk(4)
        )
        remembered = forget.sigmoid() * memory + into.sigmoid() * candidate.tanh()
        ours = cell(x[None], (hidden[None], memory[None]))
    assert torch.allclose(ours[1][0], remembered, atol=1e-6)
    assert torch.allclose(ours[0][0], out.sigmoid() * remembered.tanh(), atol=1e-6)


def test_a_cell_of_one_place_is_an_lstm() -> None:
    cell = ConvLSTMCell(1, 1, 1)
    weights = torch.tensor([[0.5, -1.0], [1.5, 0.25], [-0.75, 2.0], [1.0, 1.0]])
    cell.gates.weight.data = weights.view(4, 2, 1, 1)
    hidden, memory, state = 0.0, 0.0, None
    for x in (0.3, -1.2, 2.0):
        into, forget, candidate, out = (a * x + b * hidden for a, b in weights.tolist())
        memory = memory / (1 + math.exp(-forget)) + math.tanh(candidate) / (1 + math.exp(-into))
        hidden = math.tanh(memory) / (1 + math.exp(-out))
        state = cell(torch.full((1, 1, 1, 1), x), state)
        assert state[0].item() == pytest.approx(hidden, abs=1e-6)
        assert state[1].item() == pytest.approx(memory, abs=1e-6)


# Patches


def test_a_patch_comes_back_to_its_place() -> None:
    torch.manual_seed(0)
    network = ConvLSTM(dataclasses.replace(SMALL, kernel=1, output="identity"))
    frames = torch.rand(1, 3, 2, 6, 4)
    other = frames.clone()
    other[0, -1, 1, 3, 1] += 1  # in the patch of rows 2 and 3, columns 0 and 1
    changed = (run(network, frames, 1) != run(network, other, 1))[0, -1].any(dim=0)
    assert changed[2:4, :2].all()
    assert changed.sum() == 4
