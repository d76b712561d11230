"""Significance: whether one forecaster's losses lie below another's by more than chance.

The test of Diebold and Mariano (Comparing Predictive Accuracy, Journal of Business & Economic
Statistics 13, 1995) on losses of the same days, with the correction for few days and Student's t of
Harvey, Leybourne and Newbold (Testing the equality of prediction mean squared errors, International
Journal of Forecasting 13, 1997). The days' autocovariances count with Bartlett's weights (Newey and
West, Econometrica 55, 1987), so that the variance is never negative.
"""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Comparison:
    """How the losses of two forecasters differ.

    Attributes:
        difference: mean loss of the first less that of the second; below 0 the first is better.
        statistic: of the corrected test; NaN where the days do not tell.
        p: probability of a statistic as far from 0, to either side, if both were equally good.
        days: that both were compared on.
        lags: days whose autocovariances count.
    """

    difference: float
    statistic: float
    p: float
    days: int
    lags: int


def compare(first: np.ndarray, second: np.ndarray, lags: int | None = None) -> Comparison:
    """Returns the test of equal mean losses, paired by day.

    Args:
        first: losses `(day,)`, in the order of the days.
        second: those of the other forecaster on the same days.
        lags: days whose autocovariances count; the whole part of the cube root of the number of
            days if None.

    Returns:
        the comparison, with NaN for statistic and p of fewer than 3 days, and of losses that differ by
        the same on every day.
    """
    difference = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    days = len(difference)
    if lags is None:
        lags = int(days ** (1 / 3) + 1e-9)
    mean = float(difference.mean()) if days else math.nan
    variance = _variance_of_mean(difference - mean, lags) if days > 2 else 0.0
    if not variance > 0:
        return Comparison(mean, math.nan, math.nan, days, lags)
    ahead = lags + 1  # an error `ahead` steps ahead is correlated with those of `lags` steps
    correction = (days + 1 - 2 * ahead + ahead * (ahead - 1) / days) / days
    statistic = mean / math.sqrt(variance) * math.sqrt(correction)
    from scipy.stats import t  # takes a second to import; only a comparison of networks needs it

    p = 2 * float(t.sf(abs(statistic), days - 1))
    return Comparison(mean, statistic, p, days, lags)


def _variance_of_mean(residual: np.ndarray, lags: int) -> float:
    """Returns the variance of the mean of a series whose days are correlated up to `lags` days."""
    days = len(residual)
    covariances = [residual[lag:] @ residual[: days - lag] / days for lag in range(lags + 1)]
    weights = [1.0] + [2 * (1 - lag / (lags + 1)) for lag in range(1, lags + 1)]
    return float(np.dot(weights, covariances)) / days
