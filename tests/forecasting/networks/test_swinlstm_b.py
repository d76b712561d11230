import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forecasting.networks.base import Frames
from forecasting.networks.swin import SwinBlock
from forecasting.networks.swinlstm_b import CellState, SwinLSTM, SwinLSTMCell, SwinLSTMConfig
from forecasting.networks.swinlstm_parts import GATES, RECONSTRUCTIONS

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


# Cells


def test_odd_blocks_have_no_partner_and_only_they_are_shifted() -> None:
    cell = SwinLSTMCell(8, 2, (4, 4), 2, [0.0] * 4)
    blocks = [block for block in cell.blocks if isinstance(block, SwinBlock)]
    assert [block.reduce is not None for block in blocks] == [True, False, True, False]
    assert [bool(block.attention.mask.any()) for block in blocks] == [False, True, False, True]


def plain_features(cell: SwinLSTMCell, x: Tensor, hidden: Tensor) -> Tensor:
    """What the blocks make of x_t and h_{t-1}, as published, each joined by its own linear map."""
    features = x
    for index, block in enumerate(cell.blocks):
        z = block.norm1(features)
        if index % 2 == 0:
            partner = x if index else hidden
            z = block.reduce(torch.cat([z, block.norm1(partner)], dim=-1))
        features = features + block.attention(z, block.attention.scores())
        features = features + block.mlp(block.norm2(features))
    return features


def test_block_0_meets_the_last_output_and_block_2_the_input_again() -> None:
    torch.manual_seed(0)
    cell = SwinLSTMCell(8, 2, (4, 2), 2, [0.0] * 5)
    for block in cell.blocks:
        nn.init.normal_(block.norm1.weight)
        nn.init.normal_(block.norm1.bias)
    x, hidden, memory = torch.randn(3, 2, 8, 8)
    f = plain_features(cell, x, hidden)
    gate = torch.sigmoid(f)
    remembered = gate * (memory + torch.tanh(f))
    ours = cell(x, CellState(hidden, memory, cell.constants()))
    assert torch.allclose(ours.hidden, gate * torch.tanh(remembered), atol=1e-5)
    assert torch.allclose(ours.memory, remembered, atol=1e-5)


def test_constants_of_a_rollout_hand_all_gradients_back() -> None:
    torch.manual_seed(0)
    cell = SwinLSTMCell(8, 2, (4, 4), 2, [0.0] * 3)
    first, second = torch.randn(2, 2, 16, 8)
    state = cell(second, cell(first, None))
    ours = torch.autograd.grad(state.hidden.square().sum(), list(cell.parameters()))
    hidden = memory = torch.zeros_like(first)
    for x in (first, second):
        f = plain_features(cell, x, hidden)
        gate = torch.sigmoid(f)
        memory = gate * (memory + torch.tanh(f))
        hidden = gate * torch.tanh(memory)
    plain = torch.autograd.grad(hidden.square().sum(), list(cell.parameters()))
    for got, wanted in zip(ours, plain, strict=True):
        assert wanted.any()
        assert torch.allclose(got, wanted, atol=1e-4)


def test_a_cell_whose_blocks_add_nothing_is_the_simplified_lstm_alone() -> None:
    cell = SwinLSTMCell(1, 1, (1, 1), 1, [0.0, 0.0])
    for block in cell.blocks:
        for last in (block.attention.project, block.mlp[2]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
    memory, state = 0.0, None
    for f in (0.5, -1.0, 2.0):
        state = cell(torch.tensor([[[f]]]), state)
        gate = torch.sigmoid(torch.tensor(f)).item()
        memory = gate * (memory + torch.tanh(torch.tensor(f)).item())
        expected = gate * torch.tanh(torch.tensor(memory)).item()
        assert state.memory.item() == pytest.approx(memory, abs=1e-6)
        assert state.hidden.item() == pytest.approx(expected, abs=1e-6)


def test_the_first_state_is_zero() -> None:
    cell = SwinLSTMCell(8, 2, (4, 4), 2, [0.0] * 3)
    x = torch.randn(2, 16, 8)
    ours = cell(x, None)
    zero = cell(x, CellState(torch.zeros_like(x), torch.zeros_like(x), ours.constants))
    assert torch.allclose(ours.hidden, zero.hidden, atol=1e-6)
    assert torch.allclose(ours.memory, zero.memory, atol=1e-6)


def test_the_output_depends_on_frames_long_past() -> None:
    torch.manual_seed(0)
    network = SwinLSTM(SMALL)
    frames = torch.rand(1, 4, 2, 8, 8)
    other = frames.clone()
    other[:, 0] += 1
    assert not torch.allclose(run(network, frames, 1)[:, -1], run(network, other, 1)[:, -1])


# Ways to compute it


def gradients(network: SwinLSTM, frames: Tensor) -> dict[str, Tensor]:
    """Gradients of a training step whose chance follows a seed."""
    torch.manual_seed(1)
    network.zero_grad()
    F.mse_loss(network.train()(frames[:, :3], 3), frames[:, 1:]).backward()
    return {
        name: value.grad for name, value in network.named_parameters() if value.grad is not None
    }


def test_gradients_are_the_same_where_steps_are_computed_again() -> None:
    network = SwinLSTM(dataclasses.replace(SMALL, depths=(3,), drop_path=0.5))
    frames = torch.rand(4, 6, 2, 8, 8)
    kept = gradients(network, frames)
    network.recompute = True
    again = gradients(network, frames)
    assert kept.keys() == again.keys() == dict(network.named_parameters()).keys()
    for name, gradient in kept.items():
        assert torch.equal(gradient, again[name])


def test_a_step_is_one_graph_to_the_compiler_and_gives_the_same() -> None:
    network = SwinLSTM(dataclasses.replace(SMALL, depths=(3,))).eval()
    frames = torch.rand(2, 2, 2, 8, 8)
    expected = network(frames, 2)
    # As traced for forward and backward, but run by torch and not by a C++ compiler.
    network.step = torch.compile(network.step, backend="aot_eager", fullgraph=True)  # type: ignore[method-assign]
    ours = network(frames, 2)
    assert torch.allclose(ours, expected, atol=1e-5)
    assert all(
        part.any() for part in torch.autograd.grad(ours.square().sum(), list(network.parameters()))
    )


def test_bfloat16_keeps_the_memory_in_float32_and_agrees_to_its_precision() -> None:
    torch.manual_seed(0)
    network = SwinLSTM(SMALL).eval()
    frames = torch.rand(2, 3, 2, 8, 8)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        rough = network(frames, 2)
        _, states = network.step(frames[:, 0], None)
    assert {state.memory.dtype for state in states} == {torch.float32}
    # Eight bits of mantissa: 0.4 % of each value, through some twenty operations of either step.
    assert torch.allclose(rough.float(), run(network, frames, 2), atol=0.02)


# Parameters


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
