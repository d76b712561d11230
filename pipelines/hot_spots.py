"""Hot spots: cells whose forecast calls for attention, the most unusual first, and why."""

import numpy as np
import pandas as pd
import xarray as xr

from data.band import band
from data.clock import local
from pipelines.usual import SHARE

FLOOR = 1.0
"""Vehicles per step below which no cell is a hot spot."""
SHOWN = 0.8
"""Coverage of the band that stands beside a flow."""
COLUMNS = ("y", "x", "lead", "valid_time", "flow", "lower", "upper", "usual", "limit", "reason")


def hot_spots(
    forecast: xr.DataArray, usual: xr.Dataset, channel: str, threshold: float = 0.0
) -> pd.DataFrame:
    """Returns the cells that pass a limit, each at the lead at which it passes it by most.

    A limit is the operator's threshold, where there is one, and what 95 % of the same weekday's
    slots stayed below. Cells whose whole band passes it come first, then those by
    the vehicles above the limit.

    Args:
        forecast: dims `(init_time, lead_time, channel, y, x)`, one init_time, vehicles per step.
        usual: of its valid times, as `usual.usual` returns it.
        channel: `inflow` or `outflow`.
        threshold: vehicles per step; 0 for none.

    Returns:
        columns `COLUMNS`: place, `lead` from 1, `valid_time` (UTC), the forecast `flow` with its
        80 % band (NaN without), the `usual` mean (NaN where unknown), the `limit` it passes and the
        `reason` for people.
    """
    frames = forecast.isel(init_time=0).sel(channel=channel)
    flow = frames.values
    high = usual["high"].sel(channel=channel).values
    limits = [high] + ([np.full_like(flow, threshold)] if threshold > 0 else [])
    # A limit that is not known, or not passed, is infinitely far away.
    above = np.stack([np.where(flow > limit, flow - limit, -np.inf) for limit in limits])
    above = np.where(flow >= FLOOR, above, -np.inf)
    which, excess = above.argmax(axis=0), above.max(axis=0)
    lead, most = excess.argmax(axis=0), excess.max(axis=0)
    rows, columns = np.nonzero(np.isfinite(most))
    around = band(frames)
    place = (lead[rows, columns], rows, columns)
    lower, upper = (
        np.full(len(rows), np.nan)
        if around is None
        else around.sel(coverage=SHOWN, edge=edge).values[place]
        for edge in ("lower", "upper")
    )
    limit = np.stack(limits)[(which[place], *place)]
    order = np.lexsort((-most[rows, columns], ~(lower > limit)))
    lower, upper, limit = lower[order], upper[order], limit[order]
    rows, columns = rows[order], columns[order]
    place = (place[0][order], rows, columns)
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
    asked = which[place]
    reasons = [
        _reason(float(table["flow"][row]), float(limit[row]), bool(asked[row]), weeks[row], at)
        for row, at in enumerate(shown.to_list())
    ]
    return table.assign(reason=pd.Series(reasons, dtype=object))[list(COLUMNS)]


def _reason(flow: float, limit: float, asked: bool, weeks: int, at: pd.Timestamp) -> str:
    """Returns why a cell is a hot spot; `asked` for the operator's own threshold."""
    if asked:
        return f"{flow - limit:,.0f} above the threshold of {limit:g}"
    return (
        f"{flow - limit:,.1f} above {limit:,.1f}, more than on {100 * SHARE:.0f} % of {weeks} {at:%A}s at "
        f"{at:%H:%M}"
    )
