import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from data.errors import FlowcastError
from forecasting.models.authors_weights import load_authors_weights
from forecasting.models.reconstruction import RECONSTRUCTIONS
from forecasting.models.swinlstm import (
    SwinBlock,
    SwinLSTM,
    SwinLSTMCell,
    SwinLSTMConfig,
    WindowAttention,
    Windows,
)

SMALL = SwinLSTMConfig(channels=2, grid=(8, 8), patch=2, width=8, window=2, depths=(2,), heads=(2,))
RED = "weights.ST.layers.0.Swin.layers.0.red.weight"


@pytest.fixture(scope="session")
def golden(real_data: Path) -> Path:
    """The file of weights, input and output of the authors' network, or a skip that names it."""
    path = real_data.parent / "golden" / "b_small.safetensors"
    if not path.is_file():
        pytest.skip(f"no outputs of the authors' network in {path}")
    return path


@pytest.fixture(scope="session")
def authors(golden: Path) -> dict[str, Tensor]:
    with safe_open(golden, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.fixture(scope="session")
def config(golden: Path) -> SwinLSTMConfig:
    with safe_open(golden, "pt") as file:
        published = json.loads(file.metadata()["config"])
    return SwinLSTMConfig(
        channels=published["ch"],
        grid=(published["img"], published["img"]),
        patch=published["patch"],
        width=published["embed"],
        window=published["window"],
        depths=tuple(published["depths"]),
        heads=tuple(published["heads"]),
    )


def run(network: nn.Module, frames: Tensor, horizon: int) -> Tensor:
    """The outputs in evaluation mode."""
    with torch.inference_mode():
        outputs: Tensor = network.eval()(frames, horizon)
    return outputs


# The authors' network


def test_the_outputs_are_those_of_the_authors(
    golden: Path, authors: dict[str, Tensor], config: SwinLSTMConfig
) -> None:
    outputs = run(load_authors_weights(golden, config), authors["input"], 4)
    assert (outputs - authors["output"]).abs().max() < 1e-5


def test_a_batch_of_one_and_another_horizon_agree_with_the_authors(
    authors: dict[str, Tensor], config: SwinLSTMConfig
) -> None:
    network = load_authors_weights(authors, config)
    for sample, horizon in ((0, 4), (1, 2), (1, 9)):
        outputs = run(network, authors["input"][sample : sample + 1], horizon)
        assert outputs.shape[1] == 3 + horizon
        shared = min(7, 3 + horizon)
        expected = authors["output"][sample, :shared]
        assert (outputs[0, :shared] - expected).abs().max() < 1e-5


def test_the_authors_names_may_stand_without_prefix(
    authors: dict[str, Tensor], config: SwinLSTMConfig
) -> None:
    bare = {
        name.removeprefix("weights."): value
        for name, value in authors.items()
        if name.startswith("weights.")
    }
    outputs = run(load_authors_weights(bare, config), authors["input"], 4)
    assert (outputs - authors["output"]).abs().max() < 1e-5


def test_the_authors_unused_parameters_are_ignored(
    authors: dict[str, Tensor], config: SwinLSTMConfig
) -> None:
    unused = {RED.replace("layers.0.red", "layers.1.red"): torch.full((32, 64), torch.nan)}
    outputs = run(load_authors_weights(authors | unused, config), authors["input"], 4)
    assert (outputs - authors["output"]).abs().max() < 1e-5


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({RED: None}, id="missing"),
        pytest.param({"weights.ST.layers.0.gate.weight": torch.zeros(2)}, id="unknown"),
        pytest.param({RED: torch.zeros(32, 32)}, id="of another shape"),
        pytest.param(
            {RED.replace("Swin.layers.0", "Swin.layers.8"): torch.zeros(1)}, id="too many"
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    authors: dict[str, Tensor], config: SwinLSTMConfig, change: dict[str, Tensor | None]
) -> None:
    weights = {name: value for name, value in (authors | change).items() if value is not None}
    with pytest.raises(FlowcastError, match="do not fit the configuration") as error:
        load_authors_weights(weights, config)
    assert "\n" not in str(error.value)


def test_the_weights_of_the_encoder_decoder_are_refused(
    golden: Path, config: SwinLSTMConfig
) -> None:
    with pytest.raises(FlowcastError, match="do not fit the configuration"):
        load_authors_weights(golden.with_name("d_small.safetensors"), config)


def test_a_weights_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    garbled = tmp_path / "weights.safetensors"
    garbled.write_bytes(b"not safetensors at all")
    for path in (garbled, tmp_path / "none.safetensors"):
        with pytest.raises(FlowcastError, match="cannot be read"):
            load_authors_weights(path, SMALL)


def test_weights_in_a_file_and_in_a_mapping_are_the_same(
    golden: Path, authors: dict[str, Tensor], config: SwinLSTMConfig, tmp_path: Path
) -> None:
    save_file(authors, copy := tmp_path / "copy.safetensors")
    ours = load_authors_weights(copy, config).state_dict()
    theirs = load_authors_weights(authors, config).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs | ours)


def test_the_papers_network_has_2_581_041_parameters() -> None:
    network = SwinLSTM(
        SwinLSTMConfig(
            channels=1, grid=(64, 64), patch=2, width=128, window=4, depths=(12,), heads=(4,)
        )
    )
    assert sum(p.numel() for p in network.parameters()) == 2_581_041


# Sizes


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


@pytest.mark.parametrize("tokens", [(4, 4), (3, 2), (1, 1)])
def test_a_window_shrinks_to_a_smaller_grid_and_is_not_shifted(tokens: tuple[int, int]) -> None:
    windows = Windows(tokens, 4, shifted=True)
    assert windows.size == tokens[0] * tokens[1]
    assert windows.order.tolist() == list(range(windows.size))
    assert not windows.mask.any()


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
        ({"output": "tanh"}, "'tanh' is none of sigmoid, identity"),
    ],
)
def test_a_configuration_that_cannot_be_built_is_refused(
    wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **wrong)


# Attention


def attention_of(tokens: tuple[int, int], window: int, shifted: bool) -> WindowAttention:
    """Attention of width 8 and two heads whose biases are large enough to be seen."""
    torch.manual_seed(0)
    attention = WindowAttention(8, 2, Windows(tokens, window, shifted))
    nn.init.normal_(attention.bias)
    return attention


def by_definition(
    attention: WindowAttention, x: Tensor, tokens: tuple[int, int], window: int, shifted: bool
) -> Tensor:
    """Attention among tokens of one cell of the window lattice, moved down and right by the shift.

    Swin Transformer, arXiv 2103.14030, section 3.2: the lattice moves by half a window, windows at
    the border are cut off; the bias belongs to the pair's difference in place.
    """
    n, d = x.shape
    sides = [min(window, length) for length in tokens]
    shift = [
        side // 2 if shifted and length > side else 0
        for length, side in zip(tokens, sides, strict=True)
    ]
    q, k, v = (x @ attention.qkv.weight.T + attention.qkv.bias).view(n, 3, 2, d // 2).unbind(1)
    place = [divmod(token, tokens[1]) for token in range(n)]
    cell = [tuple((p - s) // w for p, s, w in zip(at, shift, sides, strict=True)) for at in place]
    output = torch.zeros(n, 2, d // 2)
    for i in range(n):
        seen = [j for j in range(n) if cell[j] == cell[i]]
        dy = torch.tensor([place[i][0] - place[j][0] + sides[0] - 1 for j in seen])
        dx = torch.tensor([place[i][1] - place[j][1] + sides[1] - 1 for j in seen])
        bias = attention.bias[dy * (2 * sides[1] - 1) + dx]
        for head in range(2):
            score = (k[seen, head] @ q[i, head]) / (d // 2) ** 0.5 + bias[:, head]
            output[i, head] = score.softmax(0) @ v[seen, head]
    return output.flatten(1) @ attention.project.weight.T + attention.project.bias


@pytest.mark.parametrize("shifted", [False, True], ids=["regular", "shifted"])
@pytest.mark.parametrize(
    ("tokens", "window"), [((6, 4), 2), ((6, 9), 3), ((8, 4), 4), ((4, 8), 4), ((3, 2), 4)], ids=str
)
def test_attention_agrees_with_its_definition(
    tokens: tuple[int, int], window: int, shifted: bool
) -> None:
    attention = attention_of(tokens, window, shifted)
    x = torch.randn(3, tokens[0] * tokens[1], 8)
    with torch.inference_mode():
        expected = torch.stack(
            [by_definition(attention, sample, tokens, window, shifted) for sample in x]
        )
        assert torch.allclose(attention(x), expected, atol=1e-5)


def test_content_moved_by_a_window_moves_the_output_with_it() -> None:
    attention = attention_of((6, 6), 3, shifted=False)
    x = torch.randn(1, 6, 6, 8)
    with torch.inference_mode():
        output = attention(x.flatten(1, 2)).view(x.shape)
        moved = attention(x.roll((3, -3), (1, 2)).flatten(1, 2)).view(x.shape)
    assert torch.allclose(moved, output.roll((3, -3), (1, 2)), atol=1e-6)


def test_every_token_is_in_one_window_and_comes_back_to_its_place() -> None:
    attention = attention_of((6, 4), 2, shifted=True)
    x = torch.randn(2, 24, 8)
    assert torch.equal(x[:, attention.order][:, attention.inverse], x)


# Blocks and cells


def test_the_partner_passes_the_same_norm_and_the_residual_starts_from_x_alone() -> None:
    torch.manual_seed(0)
    block = SwinBlock(attention_of((2, 2), 2, shifted=False), 0.0, partnered=True).eval()
    nn.init.normal_(block.norm1.weight)
    nn.init.normal_(block.norm1.bias)
    x, partner = torch.randn(2, 1, 4, 8)
    reduce = block.reduce
    assert reduce is not None
    z = reduce(torch.cat([block.norm1(x), block.norm1(partner)], -1))
    middle = x + block.attention(z)
    expected = middle + block.mlp(block.norm2(middle))
    assert torch.allclose(block(x, partner), expected, atol=1e-6)


def test_odd_blocks_have_no_partner_and_only_they_are_shifted() -> None:
    cell = SwinLSTMCell(8, 4, 2, (4, 4), 2, 0.0)
    blocks = [block for block in cell.blocks if isinstance(block, SwinBlock)]
    assert [block.reduce is not None for block in blocks] == [True, False, True, False]
    assert [bool(block.attention.mask.any()) for block in blocks] == [False, True, False, True]


def test_block_0_meets_the_last_output_and_block_2_the_input_again() -> None:
    torch.manual_seed(0)
    cell = SwinLSTMCell(8, 3, 2, (2, 2), 2, 0.0)
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
    cell = SwinLSTMCell(1, 0, 1, (1, 1), 1, 0.0)
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
    cell = SwinLSTMCell(8, 3, 2, (4, 4), 2, 0.0)
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


# Stochastic depth


def attention_alone(drop_path: float) -> SwinBlock:
    """A block whose MLP adds nothing."""
    block = SwinBlock(attention_of((2, 2), 2, shifted=False), drop_path, partnered=False)
    nn.init.zeros_(block.mlp[2].weight)
    nn.init.zeros_(block.mlp[2].bias)
    return block


def test_stochastic_depth_drops_whole_samples_and_keeps_the_expectation() -> None:
    block = attention_alone(0.25)
    x = torch.randn(1, 4, 8)
    with torch.inference_mode():
        branch = block.eval()(x, x) - x
        torch.manual_seed(1)
        added = block.train()(x.expand(10_000, 4, 8), x) - x
    dropped = (added.abs() < 1e-6).all(dim=(1, 2))
    # Four standard deviations of 10,000 draws at a quarter are 0.017.
    assert dropped.float().mean().item() == pytest.approx(0.25, abs=0.018)
    assert torch.allclose(added[~dropped], branch / 0.75, atol=1e-5)


def test_stochastic_depth_is_off_in_evaluation() -> None:
    network = SwinLSTM(dataclasses.replace(SMALL, drop_path=0.9))
    never = SwinLSTM(dataclasses.replace(SMALL, drop_path=0.0))
    never.load_state_dict(network.state_dict())
    frames = torch.rand(4, 3, 2, 8, 8)
    assert torch.equal(run(network, frames, 2), run(never, frames, 2))
    assert not torch.equal(network.train()(frames, 2), network(frames, 2))


# Parameters


@pytest.mark.parametrize("reconstruction", RECONSTRUCTIONS)
def test_one_backward_reaches_every_parameter(reconstruction: str) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(
        SMALL, grid=(7, 9), depths=(4, 3), heads=(2, 4), reconstruction=reconstruction
    )
    network = SwinLSTM(config).train()
    frames = torch.rand(4, 6, 2, 7, 9)
    F.mse_loss(network(frames[:, :3], 3), frames[:, 1:]).backward()
    dead = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert dead == []
