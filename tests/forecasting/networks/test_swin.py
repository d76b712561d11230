import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from forecasting.networks.swin import (
    AttentionWindows,
    SwinBlock,
    WindowAttention,
    normalize,
    token_grid,
)

# Windows


@pytest.mark.parametrize("tokens", [(4, 4), (3, 2), (1, 1)])
def test_a_window_shrinks_to_a_smaller_grid_and_is_not_shifted(tokens: tuple[int, int]) -> None:
    windows = AttentionWindows(tokens, 4, shifted=True)
    assert windows.size == tokens[0] * tokens[1]
    assert windows.order.tolist() == list(range(windows.size))
    assert not windows.mask.any()


@given(
    grid=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    patch=st.sampled_from([1, 2, 4, 8]),
    window=st.integers(1, 9),
    levels=st.integers(0, 3),
)
def test_tokens_cover_the_grid_and_hold_whole_windows_at_every_level(
    grid: tuple[int, int], patch: int, window: int, levels: int
) -> None:
    for cells, tokens in zip(grid, token_grid(grid, patch, window, levels), strict=True):
        assert tokens * patch >= cells
        assert tokens % 2**levels == 0
        for level in range(levels + 1):
            side = tokens // 2**level
            assert side < window or side % window == 0


@pytest.mark.parametrize(
    ("cells", "patch", "window", "levels", "tokens"),
    [
        (64, 2, 4, 2, 32),  # 32, 16, 8: Moving MNIST
        (32, 4, 8, 0, 8),  # one window: TaxiBJ
        (20, 2, 4, 0, 12),
        (20, 2, 4, 1, 16),  # 12 are three windows, but 6 of the next level are none
        (24, 2, 4, 2, 16),
        (5, 2, 4, 1, 4),
        (3, 1, 4, 0, 3),
    ],
)
def test_no_more_tokens_than_are_needed(
    cells: int, patch: int, window: int, levels: int, tokens: int
) -> None:
    assert token_grid((cells, 1), patch, window, levels) == (tokens, 2**levels)


# Attention


def attention_of(tokens: tuple[int, int], window: int, shifted: bool) -> WindowAttention:
    """Attention of width 8 and two heads whose biases are large enough to be seen."""
    torch.manual_seed(0)
    attention = WindowAttention(8, 2, AttentionWindows(tokens, window, shifted))
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
def test_attention_and_its_gradients_agree_with_their_definition(
    tokens: tuple[int, int], window: int, shifted: bool
) -> None:
    attention = attention_of(tokens, window, shifted)
    x = torch.randn(2, tokens[0] * tokens[1], 8, requires_grad=True)
    weight = torch.randn(x.shape)
    parts = [x, *attention.parameters()]
    ours = attend_in_rows(attention, x)
    expected = torch.stack(
        [by_definition(attention, sample, tokens, window, shifted) for sample in x]
    )
    assert torch.allclose(ours, expected, atol=1e-5)
    back = torch.autograd.grad((ours * weight).sum(), parts)
    for got, wanted in zip(
        back, torch.autograd.grad((expected * weight).sum(), parts), strict=True
    ):
        assert torch.allclose(got, wanted, atol=1e-4)


def attend_in_rows(attention: WindowAttention, x: Tensor) -> Tensor:
    """Attention on tokens row by row."""
    standing = attention.windows.standing
    return attention(x[:, standing], attention.scores())[:, standing.argsort()]


def test_content_moved_by_a_window_moves_the_output_with_it() -> None:
    attention = attention_of((6, 6), 3, shifted=False)
    x = torch.randn(1, 6, 6, 8)
    with torch.inference_mode():
        output = attend_in_rows(attention, x.flatten(1, 2)).view(x.shape)
        moved = attend_in_rows(attention, x.roll((3, -3), (1, 2)).flatten(1, 2)).view(x.shape)
    assert torch.allclose(moved, output.roll((3, -3), (1, 2)), atol=1e-6)


def test_every_token_is_in_one_window_and_comes_back_to_its_place() -> None:
    attention = attention_of((6, 4), 2, shifted=True)
    x = torch.randn(2, 24, 8)
    assert torch.equal(x[:, attention.order][:, attention.inverse], x)


# Blocks


def test_the_partner_passes_the_same_norm() -> None:
    torch.manual_seed(0)
    block = SwinBlock(attention_of((2, 2), 2, shifted=False), 0.0, partnered=True)
    nn.init.normal_(block.norm1.weight)
    nn.init.normal_(block.norm1.bias)
    x, partner = torch.randn(2, 1, 4, 8)
    reduce, join = block.reduce, block.join()
    assert reduce is not None
    assert join is not None
    expected = reduce(torch.cat([block.norm1(x), block.norm1(partner)], -1))
    joint = normalize(x) @ join.own.T + normalize(partner) @ join.partner.T + join.bias
    assert torch.allclose(joint, expected, atol=1e-5)


def test_the_residual_starts_from_x_alone() -> None:
    block = SwinBlock(attention_of((2, 2), 2, shifted=False), 0.0, partnered=True)
    x, joint = torch.randn(2, 1, 4, 8)
    scores = block.attention.scores()
    middle = x + block.attention(joint, scores)
    expected = middle + block.mlp(block.norm2(middle))
    assert torch.allclose(block(x, scores, joint), expected, atol=1e-6)


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
        scores = block.attention.scores()
        branch = block.eval()(x, scores) - x
        torch.manual_seed(1)
        added = block.train()(x.expand(10_000, 4, 8), scores) - x
    dropped = (added.abs() < 1e-6).all(dim=(1, 2))
    # Four standard deviations of 10,000 draws at a quarter are 0.017.
    assert dropped.float().mean().item() == pytest.approx(0.25, abs=0.018)
    assert torch.allclose(added[~dropped], branch / 0.75, atol=1e-5)
