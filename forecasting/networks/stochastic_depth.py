"""Stochastic depth: residual branches that are left out at random while training (arXiv 1603.09382)."""

import torch
from torch import Tensor


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
