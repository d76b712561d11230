import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forecasting.networks.base import Frames
from forecasting.networks.simvp import GatedAttention, GatedBlock, SimVP, SimVPConfig
from forecasting.profiling.cost import multiply_adds, parameters

SMALL = SimVPConfig(
    channels=2, grid=(8, 8), history=3, features=4, layers=2, width=8, blocks=3, mlp_ratio=2
)
TAXIBJ = Frames(2, (32, 32), 4, 4, data="taxibj")
MOVING_MNIST = Frames(1, (64, 64), 10, 10, data="moving-mnist")
KTH = Frames(1, (128, 128), 10, 20, data="kth")
HUMAN = Frames(3, (256, 256), 4, 4, data="human36m")


def paper(frames: Frames) -> nn.Module:
    """The network of the paper's size, on a device that stores nothing."""
    with torch.device("meta"):
        return SimVP(SimVPConfig.paper(frames))


def run(network: nn.Module, frames: Tensor, horizon: int) -> Tensor:
    with torch.inference_mode():
        outputs: Tensor = network.eval()(frames, horizon)
    return outputs


# OpenSTL's figures: docs/en/model_zoos/traffic_benchmarks.md and video_benchmarks.md, SimVP+gSTA-S


@pytest.mark.parametrize(
    ("frames", "millions", "tolerance"),
    [(TAXIBJ, 9.96, 0.005), (MOVING_MNIST, 46.8, 0.05), (KTH, 15.6, 0.05), (HUMAN, 11.3, 0.05)],
    ids=lambda value: value.data if isinstance(value, Frames) else "",
)
def test_the_papers_network_has_openstls_parameters(
    frames: Frames, millions: float, tolerance: float
) -> None:
    assert parameters(paper(frames)) / 1e6 == pytest.approx(millions, abs=tolerance)


@pytest.mark.parametrize(
    ("frames", "billions"),
    [(TAXIBJ, 2.62), (MOVING_MNIST, 16.5), (KTH, 76.8), (HUMAN, 74.6)],
    ids=lambda value: value.data if isinstance(value, Frames) else "",
)
def test_a_sequence_takes_openstls_multiply_adds(frames: Frames, billions: float) -> None:
    # Theirs count a single pass, as many frames as are seen, and the normalizations as well.
    past = torch.empty(1, frames.history, frames.channels, *frames.grid, device="meta")
    counted = multiply_adds(paper(frames), past, frames.history)
    assert counted / 1e9 == pytest.approx(billions, rel=6e-3)
    assert counted / 1e9 < billions


def test_for_taxibj_the_parameters_are_those_of_the_published_layers() -> None:
    def block(d: int) -> int:
        norms_and_scales = 2 * 2 * d + 2 * d
        attention = (d * d + d) + (25 * d + d) + (49 * d + d) + (2 * d * d + 2 * d) + (d * d + d)
        mlp = (8 * d * d + 8 * d) + (9 * 8 * d + 8 * d) + (8 * d * d + d)
        return norms_and_scales + attention + mlp

    def convolution(inputs: int, outputs: int) -> int:
        return 9 * inputs * outputs + outputs

    translator = block(4 * 32) + 7 * block(256) + (128 * 256 + 256) + (256 * 128 + 128)
    norm = 2 * 32
    encoder = convolution(2, 32) + norm + convolution(32, 32) + norm
    decoder = convolution(32, 4 * 32) + norm + convolution(32, 32) + norm + (32 * 2 + 2)
    assert parameters(paper(TAXIBJ)) == translator + encoder + decoder == 9_961_058


# Blocks


def test_a_block_agrees_with_its_definition() -> None:
    torch.manual_seed(0)
    block = GatedBlock(3, mlp_ratio=2, drop_path=0.5).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    for norm in (block.norm1, block.norm2):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 3, 5, 4)

    def linear(layer: nn.Conv2d, x: Tensor) -> Tensor:
        weight = layer.weight[:, :, 0, 0]
        return torch.einsum("oi,biyx->boyx", weight, x) + layer.bias[:, None, None]

    def normalized(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
        centered = (x - norm.running_mean[:, None, None]) / (norm.running_var + 1e-5)[
            :, None, None
        ].sqrt()
        return centered * norm.weight[:, None, None] + norm.bias[:, None, None]

    def depthwise(layer: nn.Conv2d, x: Tensor, spread: int) -> Tensor:
        side = layer.weight.shape[-1]
        reach = spread * (side // 2)
        padded, (rows, columns) = F.pad(x, (reach,) * 4), x.shape[-2:]
        moved = sum(
            layer.weight[:, 0, dy, dx, None, None]
            * padded[..., spread * dy :, spread * dx :][..., :rows, :columns]
            for dy in range(side)
            for dx in range(side)
        )
        return moved + layer.bias[:, None, None]

    with torch.inference_mode():
        attention = block.attention
        near, far, both = attention.look
        z = normalized(block.norm1, x)
        looked = linear(
            both, depthwise(far, depthwise(near, F.gelu(linear(attention.enter, z)), 1), 3)
        )
        gated = looked[:, 3:].sigmoid() * looked[:, :3]
        middle = x + block.scale1 * (z + linear(attention.leave, gated))
        wide, mix, _, narrow = block.mlp
        hidden = F.gelu(depthwise(mix, linear(wide, normalized(block.norm2, middle)), 1))
        expected = middle + block.scale2 * linear(narrow, hidden)
        assert torch.allclose(block(x), expected, rtol=1e-4, atol=1e-4)


def test_attention_reaches_eleven_places_in_each_direction() -> None:
    # 2 for the 5x5 filter and 3 * 3 for the 7x7 one of every third place.
    x = torch.randn(1, 2, 31, 31, requires_grad=True)
    GatedAttention(2)(x)[0, :, 15, 15].sum().backward()
    assert x.grad is not None
    reached = x.grad[0].abs().sum(dim=0).nonzero()
    assert reached.min(dim=0).values.tolist() == [4, 4]
    assert reached.max(dim=0).values.tolist() == [26, 26]


def rates(config: SimVPConfig) -> list[float]:
    network = SimVP(config)
    return [layer.drop_path for layer in network.translate if isinstance(layer, GatedBlock)]


def test_stochastic_depth_rises_from_a_hundredth_to_its_rate() -> None:
    config = dataclasses.replace(SMALL, blocks=4, drop_path=0.1)
    assert rates(config) == pytest.approx([0.01, 0.04, 0.07, 0.1])
    assert rates(dataclasses.replace(config, drop_path=0.0)) == [0, 0, 0, 0]


# Frames
