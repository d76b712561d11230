import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forecasting.models.gates import GATES
from forecasting.models.network import Frames
from forecasting.models.reconstruction import RECONSTRUCTIONS
from forecasting.models.swin import SwinBlock
from forecasting.models.swinlstm import SwinLSTM, SwinLSTMCell, SwinLSTMConfig

SMALL = SwinLSTMConfig(channels=2, grid=(8, 8), patch=2, width=8, window=2, depths=(2,), heads=(2,))
CHANGES: list[dict[str, Any]] = [
    *({"reconstruction": name} for name in RECONSTRUCTIONS),
    *({"gate": name} for name in GATES),
]


def run(network: nn.Module, frames: Tensor, horizon: int) -> Tensor:
    """The outputs in evaluation mode."""
    with torch.inference_mode():
        outputs: Tensor = network.eval()(frames, horizon)
    return outputs


# Sizes


def test_the_papers_network_has_2_581_041_parameters() -> None:
    network = SwinLSTM(
        SwinLSTMConfig(
            channels=1, grid=(64, 64), patch=2, width=128, window=4, depths=(12,), heads=(4,)
        )
    )
    assert sum(p.numel() for p in network.parameters()) == 2_581_041


@pytest.mark.parametrize("grid", [(16, 12), (20, 10), (7, 5), (1, 1)], ids=str)
@pytest.mark.parametrize("patch", [1, 2, 4, 8])
@pytest.mark.parametrize("reconstruction", RECONSTRUCTIONS)
def test_frames_keep_their_size(reconstruction: str, patch: int, grid: tuple[int, int]) -> None:
    config = dataclasses.replace(
        SMALL, grid=grid, patch=patch, window=4, reconstruction=reconstruction
    )
    outputs = run(SwinLSTM(config), torch.rand(1, 2, 2, *grid), 1)
    assert outputs.shape == (1, 2, 2, *grid)
    assert outputs.isfinite().all()


def test_padding_adds_cells_of_nothing_after_the_last_row_and_column() -> None:
    small, large = (SwinLSTM(dataclasses.replace(SMALL, grid=grid)) for grid in ((7, 5), (8, 8)))
    large.load_state_dict(small.state_dict())
    frames = torch.rand(2, 3, 2, 7, 5)
    # 7x5 cells are 4x3 tokens of 2x2, which need 4x4 for windows of 2x2: 8x8 cells.
    outputs = run(large, F.pad(frames[:, :1], (0, 3, 0, 1)), 1)
    assert torch.allclose(run(small, frames[:, :1], 1), outputs[..., :7, :5], atol=1e-6)


def test_frames_lie_in_0_to_1_with_a_sigmoid_and_anywhere_without() -> None:
    torch.manual_seed(0)
    frames = 50 * torch.randn(4, 3, 2, 8, 8)
    outputs = run(SwinLSTM(SMALL), frames, 2)
    assert outputs.min() >= 0
    assert outputs.max() <= 1
    unbounded = run(SwinLSTM(dataclasses.replace(SMALL, output="identity")), frames, 2)
    assert unbounded.min() < 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"patch": 3}, "patch 3 is not a power of two"),
        ({"patch": 0}, "patch 0 is not a power of two"),
        ({"depths": (2, 2)}, "2 depths but 1 heads"),
        ({"depths": (), "heads": ()}, "0 depths but 0 heads"),
        ({"heads": (3,)}, "width 8 does not divide into"),
        ({"reconstruction": "magic"}, "'magic' is none of transposed, bilinear, linear"),
        ({"gate": "open"}, "'open' is none of fused, separate"),
        ({"window": 0}, "a window of 0 tokens"),
        ({"depths": (0,)}, "not all at least 1"),
        ({"drop_path": 1.0}, "no probability below 1"),
        ({"output": "tanh"}, "'tanh' is none of sigmoid, identity"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused(
    wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **wrong)


# Cells


def test_odd_blocks_have_no_partner_and_only_they_are_shifted() -> None:
    cell = SwinLSTMCell(8, 2, (4, 4), 2, [0.0] * 4)
    blocks = [block for block in cell.blocks if isinstance(block, SwinBlock)]
    assert [block.reduce is not None for block in blocks] == [True, False, True, False]
    assert [bool(block.attention.mask.any()) for block in blocks] == [False, True, False, True]


def test_block_0_meets_the_last_output_and_block_2_the_input_again() -> None:
    torch.manual_seed(0)
    cell = SwinLSTMCell(8, 2, (2, 2), 2, [0.0] * 3)
    x, hidden, memory = torch.randn(3, 1, 4, 8)
    nobody = torch.full_like(x, torch.nan)
    first, second, third = cell.blocks
    f = third(second(first(x, hidden), nobody), x)
    gate = torch.sigmoid(f)
    remembered = gate * (memory + torch.tanh(f))
    ours = cell(x, (hidden, memory))
    assert torch.allclose(ours[0], gate * torch.tanh(remembered), atol=1e-6)
    assert torch.allclose(ours[1], remembered, atol=1e-6)


def test_a_cell_without_blocks_is_the_simplified_lstm_alone() -> None:
    cell = SwinLSTMCell(1, 1, (1, 1), 1, [])
    memory, state = 0.0, None
    for f in (0.5, -1.0, 2.0):
        frame = torch.tensor([[[f]]])
        hidden, remembered = cell(frame, state)
        gate = torch.sigmoid(torch.tensor(f)).item()
        memory = gate * (memory + torch.tanh(torch.tensor(f)).item())
        expected = gate * torch.tanh(torch.tensor(memory)).item()
        assert remembered.item() == pytest.approx(memory, abs=1e-6)
        assert hidden.item() == pytest.approx(expected, abs=1e-6)
        state = (hidden, remembered)


def test_the_first_state_is_zero() -> None:
    cell = SwinLSTMCell(8, 2, (4, 4), 2, [0.0] * 3)
    x = torch.randn(2, 16, 8)
    zero = (torch.zeros_like(x), torch.zeros_like(x))
    for ours, expected in zip(cell(x, None), cell(x, zero), strict=True):
        assert torch.equal(ours, expected)


def test_the_output_depends_on_frames_long_past() -> None:
    torch.manual_seed(0)
    network = SwinLSTM(SMALL)
    frames = torch.rand(1, 4, 2, 8, 8)
    other = frames.clone()
    other[:, 0] += 1
    assert not torch.allclose(run(network, frames, 1)[:, -1], run(network, other, 1)[:, -1])


def test_stochastic_depth_is_off_in_evaluation() -> None:
    network = SwinLSTM(dataclasses.replace(SMALL, drop_path=0.9))
    never = SwinLSTM(dataclasses.replace(SMALL, drop_path=0.0))
    never.load_state_dict(network.state_dict())
    frames = torch.rand(4, 3, 2, 8, 8)
    assert torch.equal(run(network, frames, 2), run(never, frames, 2))
    assert not torch.equal(network.train()(frames, 2), network(frames, 2))


# Parameters


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_one_backward_reaches_every_parameter(change: dict[str, Any]) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL, grid=(7, 9), depths=(4, 3), heads=(2, 4), **change)
    network = SwinLSTM(config).train()
    frames = torch.rand(4, 6, 2, 7, 9)
    F.mse_loss(network(frames[:, :3], 3), frames[:, 1:]).backward()
    dead = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert dead == []


@pytest.mark.parametrize("gate", GATES)
def test_only_gates_apart_add_parameters_to_those_of_the_first_release(gate: str) -> None:
    names = {name.partition(".")[0] for name in SwinLSTM(SMALL).state_dict()}
    assert names == {"embed", "cells", "reconstruct"}
    network = SwinLSTM(dataclasses.replace(SMALL, gate=gate))
    more = network.state_dict().keys() - SwinLSTM(SMALL).state_dict().keys()
    apart = {"fused": 0, "separate": 3}.get(gate, 2)
    assert more == {
        f"cells.0.gates.projections.{index}.{kind}"
        for index in range(apart)
        for kind in ("weight", "bias")
    }


# Published and quick sizes


@pytest.mark.parametrize(("side", "size"), [(32, (4, 8, (8,))), (128, (2, 4, (4,)))])
def test_the_papers_size_is_by_the_side_of_the_frames(
    side: int, size: tuple[int, int, tuple[int, ...]]
) -> None:
    config = SwinLSTMConfig.paper(Frames(3, (side, side), history=4, horizon=4))
    assert (config.patch, config.window, config.heads) == size
    assert (config.width, config.depths, config.gate) == (128, (12,), "fused")
    assert (config.channels, config.grid, config.history) == (3, (side, side), 4)
