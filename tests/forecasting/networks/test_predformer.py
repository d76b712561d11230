import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from forecasting.networks.base import Frames
from forecasting.networks.predformer import (
    Attention,
    GatedTransformerBlock,
    PredFormer,
    PredFormerConfig,
    sinusoids,
)
from forecasting.profiling.cost import multiply_adds, parameters

SMALL = PredFormerConfig(
    channels=2, grid=(6, 4), history=3, patch=2, width=8, heads=2, layers=1, mlp_ratio=2
)
TAXIBJ = Frames(2, (32, 32), 4, 4, data="taxibj")
MOVING_MNIST = Frames(1, (64, 64), 10, 10, data="moving-mnist")
HUMAN = Frames(3, (256, 256), 4, 4, data="human36m")

# The authors' code: a block of width 256 has qkv without bias, a projection, three LayerNorms, and
# a gated MLP of 1,024 hidden features.
LINEAR = 3 * 256 * 256 + 256 * 256 + 3 * 256 * 1024
BLOCK = LINEAR + 256 + 3 * 2 * 256 + 2 * 1024 + 256


def paper(frames: Frames) -> nn.Module:
    """The network of the paper's size, on a device that stores nothing."""
    with torch.device("meta"):
        return PredFormer(PredFormerConfig.paper(frames))


def run(network: nn.Module, frames: Tensor, horizon: int) -> Tensor:
    with torch.inference_mode():
        outputs: Tensor = network.eval()(frames, horizon)
    return outputs


@pytest.mark.parametrize(
    ("frames", "blocks", "cells", "rounded"),
    [
        (TAXIBJ, 2 * 3, 2 * 4 * 4, 6.3),  # two triplets: space, time, space
        (MOVING_MNIST, 6 * 4, 8 * 8, 25.3),  # six quadruplets: time, space, space, time
        (HUMAN, 3 * 4, 3 * 8 * 8, 12.7),
    ],
    ids=lambda value: value.data if isinstance(value, Frames) else "",
)
def test_the_papers_network_has_the_parameters_of_the_authors_code(
    frames: Frames, blocks: int, cells: int, rounded: float
) -> None:
    outside = (cells * 256 + 256) + 2 * 256 + (256 * cells + cells)
    assert parameters(paper(frames)) == blocks * BLOCK + outside
    assert parameters(paper(frames)) / 1e6 == pytest.approx(rounded, abs=0.05)


@pytest.mark.parametrize(
    ("frames", "along_space", "along_time", "side", "cells"),
    [(TAXIBJ, 4, 2, 8, 32), (MOVING_MNIST, 12, 12, 8, 64), (HUMAN, 6, 6, 32, 192)],
    ids=lambda value: value.data if isinstance(value, Frames) else "",
)
def test_a_sequence_takes_the_multiply_adds_of_the_definition(
    frames: Frames, along_space: int, along_time: int, side: int, cells: int
) -> None:
    t, n = frames.history, side**2
    linear = (along_space + along_time) * t * n * LINEAR + 2 * t * n * cells * 256
    scores_and_sums = 2 * 256 * (along_space * t * n**2 + along_time * n * t**2)
    past = torch.empty(1, t, frames.channels, *frames.grid, device="meta")
    assert multiply_adds(paper(frames), past, frames.horizon) == linear + scores_and_sums


def test_taxibjs_regularisation_is_uniform_and_moving_mnist_has_none() -> None:
    taxibj = PredFormerConfig.paper(TAXIBJ)
    assert (taxibj.dropout, taxibj.drop_path) == (0.1, 0.1)
    network = PredFormer(taxibj)
    assert {block.drop_path for block in network.blocks} == {0.1}
    moving_mnist = PredFormerConfig.paper(MOVING_MNIST)
    assert (moving_mnist.dropout, moving_mnist.drop_path) == (0, 0)


# Parts


def test_positions_are_coded_by_sines_and_cosines() -> None:
    code = sinusoids(5, 6)
    for position in range(5):
        for feature in range(6):
            angle = position / 10_000 ** (2 * (feature // 2) / 6)
            wave = math.cos(angle) if feature % 2 else math.sin(angle)
            assert code[position, feature].item() == pytest.approx(wave, abs=1e-6)


def test_attention_agrees_with_its_definition() -> None:
    torch.manual_seed(0)
    attention = Attention(8, 2)
    x = torch.randn(3, 5, 8)
    with torch.inference_mode():
        q, k, v = (x @ weight.T for weight in attention.qkv.weight.chunk(3))
        heads = []
        for part in (slice(0, 4), slice(4, 8)):
            scores = (q[..., part] @ k[..., part].transpose(1, 2)) / 2
            heads.append(scores.softmax(dim=-1) @ v[..., part])
        project = attention.project
        expected = torch.cat(heads, dim=-1) @ project.weight.T + project.bias
        assert torch.allclose(attention(x), expected, atol=1e-6)


def test_a_block_is_attention_and_gated_mlp_with_a_norm_before_each_and_after_both() -> None:
    torch.manual_seed(0)
    block = GatedTransformerBlock(SMALL).eval()
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(2, 3, 4, 8)
    with torch.inference_mode():
        flat = x.reshape(6, 4, 8)
        middle = flat + block.attention(block.norm1(flat))
        z = block.norm2(middle)
        gate = z @ block.mlp.gate.weight.T + block.mlp.gate.bias
        value = z @ block.mlp.value.weight.T + block.mlp.value.bias
        hidden = gate * gate.sigmoid() * value
        mixed = hidden @ block.mlp.project.weight.T + block.mlp.project.bias
        expected = block.norm(middle + mixed).view(2, 3, 4, 8)
        assert torch.allclose(block(x), expected, atol=1e-4)


@pytest.mark.parametrize("order", ["s", "t"])
def test_a_block_attends_over_the_places_of_a_frame_or_the_frames_of_a_place(order: str) -> None:
    torch.manual_seed(0)
    network = PredFormer(dataclasses.replace(SMALL, order=order, output="identity")).double()
    frames = torch.rand(1, 3, 2, 6, 4, dtype=torch.float64)
    other = frames.clone()
    other[0, 1, 0, 3, 1] += 1  # in frame 1 and the patch of rows 2 and 3, columns 0 and 1
    changed = (run(network, frames, 3) != run(network, other, 3))[0].any(dim=1)  # t y x
    if order == "s":
        assert changed[1].all()
        assert not changed[[0, 2]].any()
    else:
        assert changed[:, 2:4, :2].all()
        assert changed.sum() == 3 * 4


def test_in_turn_they_reach_every_place_of_every_frame() -> None:
    torch.manual_seed(0)
    network = PredFormer(dataclasses.replace(SMALL, order="st", output="identity")).double()
    frames = torch.rand(1, 3, 2, 6, 4, dtype=torch.float64)
    other = frames.clone()
    other[0, 1, 0, 3, 1] += 1
    assert (run(network, frames, 3) != run(network, other, 3)).all()


# Frames
