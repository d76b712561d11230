"""Stochastic depth: residual branches that are left out at random while training (arXiv 1603.09382)."""

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
    keep = 1 - probability
    kept = branch.new_empty(branch.shape[0], *[1] * (branch.dim() - 1)).bernoulli_(keep)
    return branch * kept / keep
