import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from forecasting.networks.base import Frames
from forecasting.networks.swin import AttentionWindows
from forecasting.networks.swinlstm_d import (
    Level,
    PatchExpanding,
    PatchMerging,
    Squares,
    SwinLSTMD,
    SwinLSTMDConfig,
)
from forecasting.networks.swinlstm_parts import GATES, RECONSTRUCTIONS

SMALL = SwinLSTMDConfig(
    channels=2,
    grid=(16, 16),
    patch=2,
    width=8,
    window=2,
    down_depths=(2, 2),
    down_heads=(2, 4),
    up_depths=(2, 2),
    up_heads=(4, 2),
)
LEVELS: dict[int, dict[str, tuple[int, ...]]] = {
    1: {"down_depths": (1,), "down_heads": (2,), "up_depths": (3,), "up_heads": (4,)},
    2: {},
    3: {
        "down_depths": (1, 1, 1),
        "down_heads": (1, 2, 4),
        "up_depths": (1, 1, 1),
        "up_heads": (8, 4, 2),
    },
}
CHANGES: list[dict[str, Any]] = [
    *({"reconstruction": name} for name in RECONSTRUCTIONS),
    *({"gate": name} for name in GATES),
]


def run(network: nn.Module, frames: Tensor, horizon: int) -> Tensor:
    """The outputs in evaluation mode."""
    with torch.inference_mode():
        outputs: Tensor = network.eval()(frames, horizon)
    return outputs


def levels_of(network: SwinLSTMD) -> list[Level]:
    """All levels, in the order in which a frame meets them."""
    return [level for level in [*network.down, *network.up] if isinstance(level, Level)]


# The published size


def test_the_papers_network_has_18_845_409_parameters() -> None:
    config = SwinLSTMDConfig.paper(Frames(1, (64, 64), history=10, horizon=10, data="moving-mnist"))
    count = sum(p.numel() for p in SwinLSTMD(config).parameters())
    # The authors' own has 20,191,969. Never used are the maps from 2d to d of one block in two:
    # one at width 128, three and three at 256, one at 512; and a second patch embedding: a
    # convolution from 2x2x1 to 128 and its norm.
    partners = sum(n * (2 * d * d + d) for n, d in ((1, 128), (3 + 3, 256), (1, 512)))
    embedding = (2 * 2 * 128 + 128) + 2 * 128
    assert count == 18_845_409 == 20_191_969 - partners - embedding


def test_stochastic_depth_rises_to_the_coarsest_tokens_and_falls_again() -> None:
    depths = {"down_depths": (2, 4), "up_depths": (1, 3)}
    network = SwinLSTMD(dataclasses.replace(SMALL, drop_path=0.3, **depths))
    rates = [
        [round(block.drop_path, 6) for block in level.cell.blocks] for level in levels_of(network)
    ]
    assert rates == [[0, 0.06], [0.12, 0.18, 0.24, 0.3], [0.3], [0.2, 0.1, 0]]


def test_widths_double_on_the_way_down_and_halve_on_the_way_up() -> None:
    network = SwinLSTMD(SMALL)
    assert [level.cell.blocks[0].attention.width for level in levels_of(network)] == [8, 16, 32, 16]
    assert [level.cell.blocks[0].attention.heads for level in levels_of(network)] == [2, 4, 4, 2]
    _, states = network.step(torch.rand(3, 2, 16, 16), None)
    shapes = [(3, 64, 8), (3, 16, 16), (3, 4, 32), (3, 16, 16)]
    assert [(*state.hidden.shape, *state.memory.shape) for state in states] == [
        shape * 2 for shape in shapes
    ]


# Merging and expanding


def test_merging_joins_a_square_column_by_column() -> None:
    merging = PatchMerging(1, Squares((4, 8), 2))
    joined: list[Tensor] = []
    merging.norm.register_forward_pre_hook(lambda _, inputs: joined.append(inputs[0]))
    order = AttentionWindows((4, 8), 2, shifted=False).order
    output = merging(torch.arange(32.0)[order].view(1, 32, 1))
    # Squares of a grid of 4x8, then in windows of 2x2: the left half of 2x4 and the right.
    assert joined[0][0].tolist() == [
        *([0, 8, 1, 9], [2, 10, 3, 11], [16, 24, 17, 25], [18, 26, 19, 27]),
        *([4, 12, 5, 13], [6, 14, 7, 15], [20, 28, 21, 29], [22, 30, 23, 31]),
    ]
    assert output.shape == (1, 8, 2)


def test_expanding_lays_a_square_row_by_row() -> None:
    expanding = PatchExpanding(2, Squares((2, 4), 4))
    with torch.no_grad():
        expanding.expand.weight.copy_(torch.tensor([[1.0, 0], [2, 0], [3, 0], [4, 0]]))
    laid: list[Tensor] = []
    expanding.norm.register_forward_pre_hook(lambda _, inputs: laid.append(inputs[0]))
    output = expanding(torch.tensor([[1.0, 0], [10, 0]]).view(1, 2, 2))
    # A single window of 2x4 tokens stands row by row.
    assert laid[0].flatten().tolist() == [1, 2, 10, 20, 3, 4, 30, 40]
    assert output.shape == (1, 8, 1)


# Sizes


@pytest.mark.parametrize("levels", LEVELS)
def test_there_are_as_many_levels_as_depths(levels: int) -> None:
    config = dataclasses.replace(SMALL, grid=(13, 18), **LEVELS[levels])
    network = SwinLSTMD(config)
    assert run(network, torch.rand(2, 3, 2, 13, 18), 2).shape == (2, 4, 2, 13, 18)
    assert len(network.down) == len(network.up) == levels


@pytest.mark.parametrize("side", [6, 16, 32, 64])
def test_the_quick_size_fits_small_frames_and_large_ones(side: int) -> None:
    config = SwinLSTMDConfig.quick(Frames(1, (side, side), history=3, horizon=2, output="identity"))
    assert config.patch == (4 if side > 16 else 2)
    assert (config.width, config.window, config.history, config.output) == (32, 4, 3, "identity")
    assert run(SwinLSTMD(config), torch.rand(1, 3, 1, side, side), 2).shape[1] == 4


# State and gradient


def test_a_change_at_any_level_of_the_state_reaches_the_next_frame() -> None:
    torch.manual_seed(0)
    network = SwinLSTMD(SMALL).eval()
    frame = torch.rand(1, 2, 16, 16)
    with torch.inference_mode():
        _, state = network.step(frame, None)
        expected, _ = network.step(frame, state)
        for cell in range(4):
            was = state[cell]
            changes = (
                was._replace(hidden=was.hidden + torch.randn_like(was.hidden)),
                was._replace(memory=was.memory + torch.randn_like(was.memory)),
            )
            for changed in changes:
                output, _ = network.step(frame, [*state[:cell], changed, *state[cell + 1 :]])
                assert not torch.allclose(output, expected)


def test_nothing_passes_beside_the_coarsest_tokens() -> None:
    torch.manual_seed(0)
    network = SwinLSTMD(SMALL).eval()
    nn.init.zeros_(network.down[-1].resize.reduce.weight)
    with torch.inference_mode():
        first, other = (network.step(torch.rand(1, 2, 16, 16), None)[0] for _ in range(2))
    assert torch.equal(first, other)
