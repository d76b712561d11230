"""The reference of `forecast benchmark speed`: SwinLSTM-B in plain PyTorch, as the paper draws it.

It stands in for the authors' published code, which is not part of this project: the same operations
in the same order, in float32 and eager, with nothing folded, merged or fused by hand, and nothing
slowed down either. It is no network of the package and serves nobody; the figures of a benchmark are
ratios against it, on the same weights. Only grids that divide into patches and windows.

Source: Tang, Li, Zhang, Tang: SwinLSTM, ICCV 2023, arXiv 2308.09891; blocks after Liu et al.: Swin
Transformer, ICCV 2021, arXiv 2103.14030. Sizes at line ends: b batch, c channels, n tokens, d width,
h heads, w tokens of a window, k windows.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from forecasting.networks.layers import stochastic_depth

State = tuple[Tensor, Tensor]


class Sizes(NamedTuple):
    """Size of a SwinLSTM-B of one cell.

    Attributes:
        channels: c.
        side: cells along the side of a frame.
        patch: 2 or 4.
        window: tokens along the side of a window.
        width: d.
        heads: h.
        depth: blocks.
        drop_path: probability of stochastic depth.
    """

    channels: int = 2
    side: int = 32
    patch: int = 2
    window: int = 4
    width: int = 128
    heads: int = 8
    depth: int = 12
    drop_path: float = 0.1

    @property
    def tokens(self) -> int:
        """Tokens along the side of a frame."""
        return self.side // self.patch


class Reference(nn.Module):
    """Patch embedding, one cell, reconstruction by transposed convolution, and the rollout.

    The parameters have the names that they have in the package's SwinLSTM-B, so that one set of
    weights loads into both.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.embed = Embedding(sizes)
        self.cells = nn.ModuleList([Cell(sizes)])
        layers: list[nn.Module] = []
        for _ in range(sizes.patch.bit_length() - 2):
            layers += [
                nn.ConvTranspose2d(sizes.width, sizes.width, 3, 2, 1, output_padding=1),
                nn.GroupNorm(2, sizes.width),
                nn.LeakyReLU(0.2),
            ]
        layers.append(nn.ConvTranspose2d(sizes.width, sizes.channels, 3, 2, 1, output_padding=1))
        self.reconstruct = nn.Sequential(*layers)

    def forward(self, frames: Tensor, horizon: int) -> Tensor:
        """Returns all outputs `(b, t - 1 + horizon, c, y, x)` for the past `(b, t, c, y, x)`."""
        state: State | None = None
        outputs: list[Tensor] = []
        for position in range(frames.shape[1] - 1):
            output, state = self.step(frames[:, position], state)
            outputs.append(output)
        fed = frames[:, -1]
        for _ in range(horizon):
            fed, state = self.step(fed, state)
            outputs.append(fed)
        return torch.stack(outputs, dim=1)

    def step(self, frame: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Returns the next frame `(b, c, y, x)` and the new state."""
        hidden, memory = self.cells[0](self.embed(frame), state)
        b, _, d = hidden.shape
        side = self.sizes.tokens
        tokens = hidden.transpose(1, 2).reshape(b, d, side, side)
        return torch.sigmoid(self.reconstruct(tokens)), (hidden, memory)


class Embedding(nn.Module):
    """A frame as tokens: a convolution with kernel and stride of a patch, then LayerNorm."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.project = nn.Conv2d(sizes.channels, sizes.width, sizes.patch, sizes.patch)
        self.norm = nn.LayerNorm(sizes.width)

    def forward(self, frame: Tensor) -> Tensor:
        """Returns `(b, n, d)` for `(b, c, y, x)`."""
        tokens: Tensor = self.norm(self.project(frame).flatten(2).transpose(1, 2))
        return tokens


class Cell(nn.Module):
    """Swin blocks, then the simplified LSTM with its single gate."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(sizes, index) for index in range(sizes.depth))

    def forward(self, x: Tensor, state: State | None) -> State:
        """Returns `h_t` and `c_t`, each `(b, n, d)`."""
        if state is None:
            state = torch.zeros_like(x), torch.zeros_like(x)
        hidden, memory = state
        features = x
        for index, block in enumerate(self.blocks):
            if index == 0:
                features = block(features, hidden)
            elif index % 2 == 0:
                features = block(features, x)
            else:
                features = block(features, None)
        gate = torch.sigmoid(features)
        memory = gate * (memory + torch.tanh(features))
        return gate * torch.tanh(memory), memory


class Block(nn.Module):
    """Attention in windows, shifted in every second block, and an MLP."""

    mask: Tensor | None

    def __init__(self, sizes: Sizes, index: int) -> None:
        super().__init__()
        d, self.side = sizes.width, sizes.tokens
        self.window = min(sizes.window, self.side)
        self.shift = self.window // 2 if index % 2 and self.side > self.window else 0
        self.drop_path = sizes.drop_path
        self.norm1 = nn.LayerNorm(d)
        self.reduce = nn.Linear(2 * d, d) if index % 2 == 0 else None
        self.attention = Attention(d, sizes.heads, self.window)
        self.norm2 = nn.LayerNorm(d)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))
        mask = shift_mask(self.side, self.window, self.shift) if self.shift else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor, partner: Tensor | None) -> Tensor:
        """Returns `(b, n, d)` for `(b, n, d)`."""
        b, n, d = x.shape
        z = self.norm1(x)
        if partner is not None and self.reduce is not None:
            z = self.reduce(torch.cat([z, self.norm1(partner)], dim=-1))
        z = z.view(b, self.side, self.side, d)
        if self.shift:
            z = torch.roll(z, shifts=(-self.shift, -self.shift), dims=(1, 2))
        z = self.attention(partition(z, self.window), self.mask)
        z = joined(z, self.window, self.side)
        if self.shift:
            z = torch.roll(z, shifts=(self.shift, self.shift), dims=(1, 2))
        x = x + stochastic_depth(z.view(b, n, d), self.drop_path, self.training)
        return x + stochastic_depth(self.mlp(self.norm2(x)), self.drop_path, self.training)


class Attention(nn.Module):
    """Attention among the tokens of a window with a learned bias by relative position."""

    pair: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        place = torch.stack(
            torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        ).flatten(1)  # 2 w
        apart = place[:, :, None] - place[:, None, :] + window - 1  # 2 w w
        self.register_buffer("pair", apart[0] * (2 * window - 1) + apart[1], persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Returns `(b * k, w, d)` for `(b * k, w, d)`; the mask is `(k, w, w)`."""
        bk, w, d = x.shape
        qkv = self.qkv(x).reshape(bk, w, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        q, key, value = qkv[0], qkv[1], qkv[2]  # b*k h w d/h
        scores = (q * self.scale) @ key.transpose(-2, -1)  # b*k h w w
        bias = self.bias[self.pair.view(-1)].view(w, w, self.heads).permute(2, 0, 1).contiguous()
        scores = scores + bias.unsqueeze(0)
        if mask is not None:
            k = len(mask)
            scores = scores.view(bk // k, k, self.heads, w, w) + mask.unsqueeze(1).unsqueeze(0)
            scores = scores.view(-1, self.heads, w, w)
        attended = (scores.softmax(dim=-1) @ value).transpose(1, 2).reshape(bk, w, d)
        output: Tensor = self.project(attended)
        return output


def partition(x: Tensor, window: int) -> Tensor:
    """Returns the windows `(b * k, w, d)` of a grid of tokens `(b, y, x, d)`."""
    b, rows, columns, d = x.shape
    x = x.view(b, rows // window, window, columns // window, window, d)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, window * window, d)


def joined(windows: Tensor, window: int, side: int) -> Tensor:
    """Returns the square grid of tokens `(b, y, x, d)` of its windows `(b * k, w, d)`."""
    along = side // window
    x = windows.view(-1, along, along, window, window, windows.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(len(x), side, side, -1)


def shift_mask(side: int, window: int, shift: int) -> Tensor:
    """Returns `(k, w, w)`: -100 for tokens that meet in a shifted window and are no neighbours."""
    region = torch.zeros(1, side, side, 1)
    parts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for number, (rows, columns) in enumerate((one, other) for one in parts for other in parts):
        region[:, rows, columns, :] = number
    regions = partition(region, window).squeeze(-1)  # k w
    apart = regions.unsqueeze(1) - regions.unsqueeze(2)
    return apart.masked_fill(apart != 0, -100.0)
