import pytest
import torch
from torch import Tensor, nn

from forecasting.networks.swinlstm_b import CellState, SwinLSTMCell
from forecasting.networks.swinlstm_parts import GATES, Gates

PARTS = {
    "fused": {"input": 0, "forget": 0, "output": 0},
    "separate": {"input": 0, "forget": 1, "output": 2},
    "input+forget": {"input": 0, "forget": 0, "output": 1},
    "forget+output": {"input": 0, "forget": 1, "output": 1},
    "input+output": {"input": 0, "forget": 1, "output": 0},
}


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + (-x).exp())


def cell_of(gate: str) -> SwinLSTMCell:
    """A cell of two blocks on 4x4 tokens of width 8, with weights of its own."""
    torch.manual_seed(0)
    return SwinLSTMCell(8, 2, (4, 4), 2, [0.0, 0.0], gate)


def features_of(cell: SwinLSTMCell, x: Tensor, hidden: Tensor) -> Tensor:
    """What the two blocks make of the input and the last output."""
    first, second = cell.blocks
    joint = first.reduce(torch.cat([first.norm1(x), first.norm1(hidden)], dim=-1))
    middle = first(x, first.attention.scores(), joint)
    features: Tensor = second(middle, second.attention.scores())
    return features


def test_all_ways_to_share_a_gate_are_there() -> None:
    assert GATES.keys() == PARTS.keys()


@pytest.mark.parametrize("gate", GATES)
def test_a_cell_follows_the_equations_of_its_gates(gate: str) -> None:
    cell = cell_of(gate)
    x, hidden, memory = torch.randn(3, 2, 16, 8)
    f = features_of(cell, x, hidden)
    weights = dict(cell.gates.named_parameters())

    def value(part: str) -> Tensor:
        index = PARTS[gate][part]
        if gate == "fused":
            return sigmoid(f)
        return sigmoid(
            f @ weights[f"projections.{index}.weight"].T + weights[f"projections.{index}.bias"]
        )

    c = value("forget") * memory + value("input") * f.tanh()
    h = value("output") * c.tanh()
    ours = cell(x, CellState(hidden, memory, cell.constants()))
    assert torch.allclose(ours[0], h, atol=1e-6)
    assert torch.allclose(ours[1], c, atol=1e-6)


@pytest.mark.parametrize("gate", GATES)
def test_with_projections_that_change_nothing_every_gate_is_the_fused_one(gate: str) -> None:
    cell, fused = cell_of(gate), cell_of("fused")
    for projection in cell.gates.projections:
        if isinstance(projection, nn.Linear):
            nn.init.eye_(projection.weight)
            nn.init.zeros_(projection.bias)
    x, hidden, memory = torch.randn(3, 2, 16, 8)
    ours = cell(x, CellState(hidden, memory, cell.constants()))
    expected = fused(x, CellState(hidden, memory, fused.constants()))
    assert torch.allclose(ours.hidden, expected.hidden, atol=1e-6)
    assert torch.allclose(ours.memory, expected.memory, atol=1e-6)


@pytest.mark.parametrize(
    ("gate", "parameters"),
    [
        ("fused", 0),
        ("separate", 3 * 72),
        ("input+forget", 2 * 72),
        ("forget+output", 2 * 72),
        ("input+output", 2 * 72),
    ],
)
def test_a_gate_apart_costs_one_linear_map(gate: str, parameters: int) -> None:
    # 8 x 8 weights and 8 biases are 72.
    assert sum(parameter.numel() for parameter in Gates(8, gate).parameters()) == parameters


def test_a_closed_input_gate_keeps_the_memory_as_it_was() -> None:
    gates = Gates(1, "separate")
    into, forget, out = gates.projections
    for projection, bias in ((into, -50.0), (forget, 50.0), (out, 50.0)):
        assert isinstance(projection, nn.Linear)
        nn.init.zeros_(projection.weight)
        nn.init.constant_(projection.bias, bias)
    cell = SwinLSTMCell(1, 1, (1, 1), 1, [0.0], "separate")
    cell.gates = gates
    x, memory = torch.ones(1, 1, 1), torch.full((1, 1, 1), 0.25)
    hidden, kept, _ = cell(x, CellState(x, memory, cell.constants()))
    assert kept.item() == pytest.approx(0.25)
    assert hidden.item() == pytest.approx(torch.tensor(0.25).tanh().item())
