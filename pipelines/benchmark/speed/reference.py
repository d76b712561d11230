"""The reference of `forecast benchmark speed`: SwinLSTM-B in plain PyTorch, as the paper draws it.

One cell, the fused gate and the head of transposed convolutions; only grids that divide into patches and
windows. Its parameters have the names of the package's SwinLSTM-B, so that weights load into both.

Source: Tang, Li, Zhang, Tang: SwinLSTM, ICCV 2023, arXiv 2308.09891; blocks after Liu et al.: Swin
Transformer, ICCV 2021, arXiv 2103.14030. Sizes at line ends: b batch, c channels, n tokens, d width,
h heads, w tokens of a window, k windows.
"""

import torch
from torch import Tensor, nn

from forecasting.networks.layers import stochastic_depth
from forecasting.networks.swin import PatchEmbedding
from forecasting.networks.swinlstm_b import SwinLSTMConfig
from forecasting.networks.swinlstm_parts import transposed

State = tuple[Tensor, Tensor]


class Reference(nn.Module):
    """Patch embedding, one cell, reconstruction, and the rollout."""

    def __init__(self, config: SwinLSTMConfig) -> None:
        super().__init__()
        self.side = config.grid[0] // config.patch
        tokens = (self.side, self.side)
        self.embed = PatchEmbedding(config.channels, config.patch, config.width, tokens)
        self.cells = nn.ModuleList([Cell(config, self.side)])
        self.reconstruct = transposed(config.width, config.channels, config.patch)

    def forward(self, frames: Tensor, horizon: int) -> Tensor:
        """Returns all outputs `(b, t - 1 + horizon, c, y, x)` for the past `(b, t, c, y, x)`."""
        state: State | None = None
        outputs: list[Tensor] = []
        for position in range(frames.shape[1] - 1 + horizon):
            frame = frames[:, position] if position < frames.shape[1] else outputs[-1]
            state = self.cells[0](self.embed(frame), state)
            hidden = state[0]
            tokens = hidden.transpose(1, 2).unflatten(2, (self.side, self.side))
            outputs.append(torch.sigmoid(self.reconstruct(tokens)))
        return torch.stack(outputs, dim=1)


class Cell(nn.Module):
    """Swin blocks, then the simplified LSTM with its single gate."""

    def __init__(self, config: SwinLSTMConfig, side: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config, side, index) for index in range(config.depths[0]))

    def forward(self, x: Tensor, state: State | None) -> State:
        """Returns `h_t` and `c_t`, each `(b, n, d)`."""
        hidden, memory = state or (torch.zeros_like(x), torch.zeros_like(x))
        features = x
        for index, block in enumerate(self.blocks):
            features = block(features, hidden if index == 0 else x)
        gate = torch.sigmoid(features)
        memory = gate * (memory + torch.tanh(features))
        return gate * torch.tanh(memory), memory


class Block(nn.Module):
    """Attention in windows, shifted in every second block, and an MLP."""

    mask: Tensor | None

    def __init__(self, config: SwinLSTMConfig, side: int, index: int) -> None:
        super().__init__()
        d, self.side = config.width, side
        self.window = min(config.window, side)
        self.shift = self.window // 2 if index % 2 and side > self.window else 0
        self.drop_path = config.drop_path
        self.norm1 = nn.LayerNorm(d)
        self.reduce = nn.Linear(2 * d, d) if index % 2 == 0 else None
        self.attention = Attention(d, config.heads[0], self.window)
        self.norm2 = nn.LayerNorm(d)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))
        mask = shift_mask(side, self.window, self.shift) if self.shift else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor, partner: Tensor) -> Tensor:
        """Returns `(b, n, d)` for `(b, n, d)`; every second block takes a partner."""
        b, n, d = x.shape
        z = self.norm1(x)
        if self.reduce is not None:
            z = self.reduce(torch.cat([z, self.norm1(partner)], dim=-1))
        z = z.view(b, self.side, self.side, d)
        if self.shift:
            z = torch.roll(z, shifts=(-self.shift, -self.shift), dims=(1, 2))
        z = joined(self.attention(partition(z, self.window), self.mask), self.window, self.side)
        if self.shift:
            z = torch.roll(z, shifts=(self.shift, self.shift), dims=(1, 2))
        x = x + stochastic_depth(z.view(b, n, d), self.drop_path, self.training)
        return x + stochastic_depth(self.mlp(self.norm2(x)), self.drop_path, self.training)


class Attention(nn.Module):
    """Attention among the tokens of a window with a learned bias by relative position."""

    pair: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        steps = torch.arange(window)
        place = torch.stack(torch.meshgrid(steps, steps, indexing="ij")).flatten(1)  # 2 w
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
    """Returns `(k, w, w)`: -100 for tokens that meet in a shifted window and are no neighbors."""
    region = torch.zeros(1, side, side, 1)
    parts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for number, (rows, columns) in enumerate((one, other) for one in parts for other in parts):
        region[:, rows, columns, :] = number
    regions = partition(region, window).squeeze(-1)  # k w
    apart = regions.unsqueeze(1) - regions.unsqueeze(2)
    return apart.masked_fill(apart != 0, -100.0)
