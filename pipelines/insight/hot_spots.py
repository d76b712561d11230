"""Hot spots: cells whose forecast calls for attention, the most unusual first, and why."""

import numpy as np
import pandas as pd
import xarray as xr

from data.clock import local
from data.intervals import intervals_of
from pipelines.insight.typical import HIGH

MIN_FLOW = 1.0
"""Vehicles per step below which no cell is a hot spot."""
COVERAGE = 0.8
"""Of the prediction interval of a hot spot."""
COLUMNS = ("y", "x", "lead", "valid_time", "flow", "lower", "upper", "usual", "limit", "reason")


def hot_spots(
    forecast: xr.DataArray, usual: xr.Dataset, channel: str, threshold: float = 0.0
) -> pd.DataFrame:
    """Returns the cells that pass a limit, each at the lead at which it passes it by most.

    A limit is the operator's threshold, where there is one, and what 95 % of the same weekday's
    slots stayed below. Cells are sorted by how many limits their whole prediction interval exceeds, then by
    how many their flow does, so that a low threshold hides no unusual cell; then by the vehicles above
    the limit.

    Args:
        forecast: dims `(init_time, lead_time, channel, y, x)`, one init_time, vehicles per step.
        usual: of its valid times, as `typical.typical` returns it.
        channel: `inflow` or `outflow`.
        threshold: vehicles per step; 0 for none.

    Returns:
        columns `COLUMNS`: place, `lead` from 1, `valid_time` (UTC), the forecast `flow` with its
        80 % prediction interval (NaN without), the `usual` mean (NaN where unknown), the `limit` it
        passes and the `reason` for people.
    """
    frames = forecast.isel(init_time=0).sel(channel=channel)
    flow = frames.values
    high = usual["high"].sel(channel=channel).values
    limits = np.stack([high, np.full_like(flow, threshold or np.inf)])
    # A limit that is not known, or not passed, is infinitely far away.
    above = np.where(flow > limits, flow - limits, -np.inf)
    above = np.where(flow >= MIN_FLOW, above, -np.inf)
    which, excess = above.argmax(axis=0), above.max(axis=0)
    passed = np.isfinite(above).sum(axis=0)
    lead = np.where(passed == passed.max(axis=0), excess, -np.inf).argmax(axis=0)
    rows, columns = np.nonzero(passed.max(axis=0))
    around = intervals_of(frames)
    place = (lead[rows, columns], rows, columns)
    lower, upper = (
        np.full(len(rows), np.nan)
        if around is None
        else around.sel(coverage=COVERAGE, edge=edge).values[place]
        for edge in ("lower", "upper")
    )
    sure = (lower > limits[:, *place]).sum(axis=0)
    order = np.lexsort((-excess[place], -passed[place], -sure))
    lower, upper, rows, columns = lower[order], upper[order], rows[order], columns[order]
    place = (place[0][order], rows, columns)
    limit = limits[which[place], *place]
    times = frames["valid_time"].values[place[0]]
    weeks = usual["weeks"].values[place[0]]
    table = pd.DataFrame(
        {
            **{"y": rows, "x": columns, "lead": place[0] + 1, "valid_time": times},
            **{"flow": flow[place], "lower": lower, "upper": upper},
            **{"usual": usual["mean"].sel(channel=channel).values[place], "limit": limit},
        }
    )
    shown = local(times, str(forecast.attrs["timezone"]))
    reasons = [
        _reason(over, asked, weeks[row], at)
        for row, (over, asked, at) in enumerate(
            zip(above[:, *place].T, limits[:, *place].T, shown.to_list(), strict=True)
        )
    ]
    return table.assign(reason=pd.Series(reasons, dtype=object))[list(COLUMNS)]


def _reason(above: np.ndarray, limits: np.ndarray, weeks: int, at: pd.Timestamp) -> str:
    """Returns why a cell is a hot spot.

    Args:
        above: vehicles above the typical limit and above the threshold; -inf where it is not.
        limits: the typical limit and the threshold.
        weeks: that the typical limit is computed from.
        at: the slot.
    """
    percentile = f"the {100 * HIGH:.0f}th percentile"
    if np.isfinite(above).all():
        return f"{above[0]:,.1f} above {percentile}, {above[1]:,.0f} above the threshold"
    if np.isfinite(above[1]):
        return f"{above[1]:,.0f} above the threshold of {limits[1]:g}"
    return f"{above[0]:,.1f} above {limits[0]:,.1f}, {percentile} of {weeks} {at:%A}s"
