"""Coverage: how much of what came lay within the bands, and how wide they were."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import xarray as xr

from data.clock import local
from data.intervals import EDGES
from forecasting.intervals.conformal import PredictionIntervals

FLOWS = (0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Forecast flow at which each level that is told begins, vehicles per step."""
HOURS = 24


def covered(band: xr.DataArray, forecast: xr.DataArray, observed: xr.DataArray) -> xr.Dataset:
    """Returns what `shares` needs of a stack of windows; those of several stacks are added by `+`.

    The level is that of the forecast: a band cannot know what will be observed.

    Args:
        band: around the forecast, dims `(coverage, edge, init_time, lead_time, channel, y, x)`.
        forecast: dims `(init_time, lead_time, channel, y, x)`, vehicles per step.
        observed: the same dims; NaN, which is left out, where it is not known.

    Returns:
        float64 sums over windows and cells: `count`, and `zero`, where nothing was observed, dims
        `(lead_time, hour, flow)`; `held` and `width`, vehicles, with the further dim `coverage`.
        `hour` is that of the slot that is forecast, in the city's time.
    """
    came, flow = observed.values, forecast.values
    known = ~np.isnan(came)
    hour = local(forecast["valid_time"].values, forecast.attrs["timezone"]).hour.to_numpy()
    hour = hour.reshape(*flow.shape[:2], 1, 1, 1)
    lead = np.arange(flow.shape[1])[:, None, None, None]
    level = np.searchsorted(FLOWS, flow, side="right") - 1
    place = ((lead * HOURS + hour) * len(FLOWS) + level)[known]
    shape = (flow.shape[1], HOURS, len(FLOWS))

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(place, values[known], minlength=int(np.prod(shape))).reshape(shape)

    dims = ("lead_time", "hour", "flow")
    lowers, uppers = (band.sel(edge=edge).values for edge in EDGES)
    parts = list(zip(lowers, uppers, strict=True))
    held = [total((lower <= came) & (came <= upper)) for lower, upper in parts]
    width = [total(upper - lower) for lower, upper in parts]
    return xr.Dataset(
        {
            "count": (dims, total(known)),
            "zero": (dims, total(came == 0)),
            "held": (("coverage", *dims), np.stack(held)),
            "width": (("coverage", *dims), np.stack(width)),
        },
        {
            "coverage": band["coverage"].values,
            "lead_time": forecast["lead_time"].values,
            "hour": np.arange(HOURS),
            "flow": list(FLOWS),
        },
    )


def shares(total: xr.Dataset, *kept: str) -> xr.Dataset:
    """Returns how good bands were, by the dims `kept` of what `covered` returns.

    Returns:
        `held`, the share of what came that lay within, and `width`, vehicles, dims
        `(coverage, *kept)`; `zero`, the share that was 0, and `share`, that of all scores. NaN where
        there was no score.
    """
    sums = total.sum([dim for dim in ("lead_time", "hour", "flow") if dim not in kept])
    count = sums["count"].where(sums["count"] > 0)
    return xr.Dataset(
        {
            "held": sums["held"] / count,
            "width": sums["width"] / count,
            "zero": sums["zero"] / count,
            "share": sums["count"] / total["count"].sum(),
        }
    )


@dataclass(frozen=True)
class OnlineIntervals:
    """Prediction intervals that learn every night from the scores that have become known, and what they held.

    Attributes:
        bands: as they are now.
        total: sums as `covered` returns them, of all forecasts so far by the bands of their day;
            None before the first.
        waiting: forecasts and what came, of which the bands have not learnt.
        day: that the bands were made for, midnight in the city's time.
    """

    bands: PredictionIntervals
    total: xr.Dataset | None = None
    waiting: tuple[tuple[xr.DataArray, xr.DataArray], ...] = ()
    day: pd.Timestamp | None = None

    def after(self, forecast: xr.DataArray, observed: xr.DataArray) -> "OnlineIntervals":
        """Returns the state after a stack of windows, which follow those before in time.

        It is the same however the windows are cut into stacks; takes what `covered` takes.
        """
        followed = self
        days = local(forecast["init_time"].values, forecast.attrs["timezone"]).normalize()
        for day in days.unique():
            part = {"init_time": np.flatnonzero(days == day)}
            seen, came = forecast.isel(part), observed.isel(part)
            if day != followed.day:
                followed = replace(followed._learnt(seen["init_time"].values[0]), day=day)
            sums = covered(followed.bands.around(seen), seen, came)
            total = sums if followed.total is None else followed.total + sums
            followed = replace(followed, total=total, waiting=(*followed.waiting, (seen, came)))
        return followed

    def _learnt(self, now: np.datetime64) -> "OnlineIntervals":
        """Returns the state with bands that know all scores whose last lead has been observed."""
        if not self.waiting:
            return self
        forecast, observed = (
            xr.concat(parts, "init_time") for parts in zip(*self.waiting, strict=True)
        )
        last = min(self.bands.horizon, forecast.sizes["lead_time"]) - 1
        due = forecast["valid_time"].values[:, last] <= now
        if not due.any():
            return self
        bands = self.bands.updated(forecast[due], observed[due])
        rest = () if due.all() else ((forecast[~due], observed[~due]),)
        return replace(self, bands=bands, waiting=rest)
