"""Residuals: how far what came lay from the forecast, sorted by level of flow and counted in bins.

A residual is measured in the spread that counting alone would give and a tenth of the flow, so that
those of levels near one another can be put together. Levels and bins are fixed: counts of different
days add up.
"""

import numpy as np

LEVELS = 32
LOWEST = 0.25
RATIO = 1.4
"""Level n begins at a flow of LOWEST * (RATIO**n - 1): 0, 0.1, 0.24, 0.44 ... 8,500."""
BINS = 256
FINEST = 0.5
FARTHEST = 60.0
"""Bins are narrow near 0, evenly spaced in asinh(residual / FINEST), and end at FARTHEST."""
SHARE = 0.1
"""What a forecast is off by beside counting, as a share of the flow: roughly, for levels differ."""
WHOLE = 3.0
"""Flow below which the levels are low: vehicles come in whole numbers."""
ENOUGH = 500
"""Scores that quantiles are made of; where a level has fewer, those of the levels next to it help."""

BEGINS = LOWEST * (RATIO ** np.arange(LEVELS) - 1)
"""Flow at which each level begins."""
BIN_EDGES = FINEST * np.sinh(np.linspace(-1, 1, BINS + 1) * np.arcsinh(FARTHEST / FINEST))
"""Residuals between which each bin lies."""


def spread(flow: np.ndarray) -> np.ndarray:
    """Returns about what a forecast of this flow is off by: counting, and a share of it."""
    return np.asarray(np.sqrt(0.5 + flow + (SHARE * flow) ** 2))


def levels(flow: np.ndarray) -> np.ndarray:
    """Returns the level of each flow."""
    found = np.log1p(flow / LOWEST) / np.log(RATIO)
    return np.asarray(np.minimum(found, LEVELS - 1).astype(np.int64))


def bins(residual: np.ndarray) -> np.ndarray:
    """Returns the bin of each residual, that of 0 for NaN."""
    along = np.nan_to_num(np.arcsinh(residual / FINEST)) / np.arcsinh(FARTHEST / FINEST)
    return np.asarray(np.clip((along + 1) / 2 * BINS, 0, BINS - 1).astype(np.int64))


def pooled(counts: np.ndarray) -> np.ndarray:
    """Returns each level's counts with those of as many levels around it as make them enough.

    Args:
        counts: dims `(lead, level, bin)`, as are those of the result.
    """
    together = counts.copy()
    for away in range(1, LEVELS):
        few = together.sum(-1) < ENOUGH
        if not few.any():
            break
        around = np.pad(counts, ((0, 0), (away, away), (0, 0)))
        together[few] += (around[:, :LEVELS] + around[:, 2 * away :])[few]
    return together


def interval(counts: np.ndarray, coverage: float) -> np.ndarray:
    """Returns between which residuals the next one lies with a probability of `coverage`.

    Of the residuals on either side of 0 the same share lies within; where the lower end would lie
    among those of zeros, of which a level has many equal ones, it is minus infinity, and all that
    lies outside lies above. At low levels both ends are those of whole bins: what comes is one of
    few whole numbers there, and a bin cannot be cut.

    Args:
        counts: dims `(lead, level, bin)`.
        coverage: of the residuals counted and one more.

    Returns:
        dims `(edge, lead, level)`: not above, and not below 0.
    """
    total = np.concatenate([np.zeros((*counts.shape[:2], 1)), counts.cumsum(-1)], axis=-1)
    number, below = total[..., -1], total[..., BINS // 2]
    outside = number - np.minimum(np.ceil(coverage * (number + 1)), number)
    under = outside * below / np.maximum(number, 1)
    lower = _quantile(total, under)[0]
    one_sided = lower <= -BEGINS / spread(BEGINS)
    upper = _quantile(total, number - np.where(one_sided, outside, outside - under))[1]
    return np.stack([np.where(one_sided, -np.inf, np.minimum(lower, 0)), np.maximum(upper, 0)])


def _quantile(total: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the residual below which `number` of them lie, dims `(lead, level)`, from both sides.

    At low levels these are the ends of its bin, else they are the same.

    Args:
        total: how many lie below each edge of a bin, dims `(lead, level, edge)`.
        number: dims `(lead, level)`.
    """
    end = (total < number[..., None]).sum(-1).clip(1, BINS)
    before, after = (np.take_along_axis(total, at[..., None], -1)[..., 0] for at in (end - 1, end))
    part = np.clip((number - before) / np.maximum(after - before, 1e-9), 0, 1)
    whole = BEGINS < WHOLE
    lower, upper = np.where(whole, 0, part), np.where(whole, 1, part)
    width = BIN_EDGES[end] - BIN_EDGES[end - 1]
    return BIN_EDGES[end - 1] + lower * width, BIN_EDGES[end - 1] + upper * width
