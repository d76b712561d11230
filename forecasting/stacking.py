"""Stacking: the weight of one forecast beside another."""

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr

Outcome = tuple[Sequence[xr.DataArray], xr.DataArray]


def least_squares_weight(outcomes: Iterable[Outcome]) -> float:
    """Returns the weight of the second of two forecasts with which their mean errs least, 0 to 1.

    It is that of least squares: with the forecasts f and s and what was observed y, the weight p minimizes
    the sum of (f + p (s - f) - y)^2 over all cells and leads. What is NaN does not count.

    Args:
        outcomes: both forecasts and what was observed, of any number of stacks of windows.
    """
    above = below = 0.0
    for (first, second), observed in outcomes:
        difference = (second - first).values.astype(np.float64)
        above += float(np.nansum((observed - first).values * difference))
        below += float(np.nansum(np.square(difference)))
    return min(max(above / below, 0.0), 1.0) if below else 0.0
