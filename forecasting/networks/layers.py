"""Operators with a backward of their own, which saves time and memory.

Sizes at line ends: b batch, n tokens, d width, h heads, e width of a head, w tokens of a window,
k windows of a frame.
"""

from typing import Any

import torch
from torch import Tensor


def reorder(x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """Returns the tokens of each sample in another order: first the one at `order[0]`.

    Args:
        x: `(b, n, d)`.
        order: `(n,)`, every token once.
        inverse: `(n,)`, the order that undoes it.
    """
    ordered: Tensor = Reorder.apply(x, order, inverse)  # type: ignore[no-untyped-call]
    return ordered


def attend(qkv: Tensor, scores: Tensor, heads: int) -> Tensor:
    """Returns attention within windows, `softmax(q k^T / sqrt(e) + scores) v`, of width d.

    Args:
        qkv: `(b * k, w, 3 * d)` queries, keys and values, each with its heads side by side.
        scores: `(k, h, w, w)` what is added to the scores of each window of a frame; k may be 1
            for all windows alike.
        heads: h.
    """
    attended: Tensor = Attention.apply(qkv, scores, heads)  # type: ignore[no-untyped-call]
    return attended


class Reorder(torch.autograd.Function):
    """Tokens in another order; the way back is a reading as well, where autograd would add up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        """Returns `(b, n, d)`."""
        ctx.save_for_backward(order, inverse)
        return x.index_select(1, order)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Returns the gradient of x."""
        order, inverse = ctx.saved_tensors
        return reorder(gradient, inverse, order), None, None


class Attention(torch.autograd.Function):
    """Attention that keeps queries, keys, values and the softmax for the way back, nothing else.

    Torch's own memory-saving kernels give no gradient to what is added to the scores, and its other
    one keeps four times as much and is slower on small windows.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, scores: Tensor, heads: int) -> Tensor:
        """Returns `(b * k, w, d)`."""
        windows, w, width = qkv.shape
        size = width // 3 // heads
        parts = qkv.view(windows, w, 3, heads, size).permute(2, 0, 3, 1, 4)
        q, k, v = parts.reshape(3, windows * heads, w, size)  # b*k*h w e
        products = torch.bmm(q, k.transpose(1, 2)).view(-1, *scores.shape)  # b k h w w
        added = scores.to(products.dtype)
        # In bfloat16 the softmax of rows of 16 takes 3 times as long, and its way back 50 times.
        exact = torch.add(added, products, alpha=size**-0.5).softmax(-1, dtype=torch.float32)
        weights = exact.view(-1, w, w).to(v.dtype)
        ctx.save_for_backward(q, k, v, weights)
        ctx.sizes = scores.shape
        attended = torch.bmm(weights, v).view(windows, heads, w, size)
        return attended.transpose(1, 2).reshape(windows, w, -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """Returns the gradients of qkv and of the scores."""
        q, k, v, weights = ctx.saved_tensors
        (windows, w, width), size = gradient.shape, q.shape[-1]
        by_head = gradient.view(windows, w, -1, size).transpose(1, 2).reshape(-1, w, size)
        to_weights = torch.bmm(by_head, v.transpose(1, 2))
        exact = torch.ops.aten._softmax_backward_data(
            to_weights.float(), weights.float(), -1, torch.float32
        )
        added, to_scores = exact.view(-1, *ctx.sizes).sum(0), exact.to(q.dtype)
        nothing, scale = q.new_zeros(()), size**-0.5
        to_q = torch.baddbmm(nothing, to_scores, k, beta=0, alpha=scale)
        to_k = torch.baddbmm(nothing, to_scores.transpose(1, 2), q, beta=0, alpha=scale)
        to_v = torch.bmm(weights.transpose(1, 2), by_head)
        parts = [part.view(windows, -1, w, size).transpose(1, 2) for part in (to_q, to_k, to_v)]
        return torch.stack(parts, dim=2).view(windows, w, 3 * width), added, None


def stochastic_depth(branch: Tensor, probability: float, training: bool) -> Tensor:
    """Returns `branch`, or while training 0 for some entries of its first dim and more for the rest.

    Args:
        branch: what is to be added to the residual, `(b, ...)`.
        probability: of leaving an entry out, below 1.
        training: whether anything is left out at all.
    """
    if not training or probability == 0:
        return branch
    return branch * _kept(branch, probability) / (1 - probability)


def add_branch(x: Tensor, branch: Tensor, probability: float, training: bool) -> Tensor:
    """Returns `x` plus what `stochastic_depth` leaves of the branch, in one pass over both."""
    if not training or probability == 0:
        return x + branch
    return torch.addcmul(x, branch, _kept(branch, probability), value=1 / (1 - probability))


def _kept(branch: Tensor, probability: float) -> Tensor:
    """Returns 0 or 1 for each entry of the first dim."""
    kept = branch.new_empty(branch.shape[0], *[1] * (branch.dim() - 1))
    return kept.bernoulli_(1 - probability)
