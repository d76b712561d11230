"""Metrics by dim name, in vehicles; the root is taken after the mean over all windows."""

from collections.abc import Sequence

import numpy as np
import xarray as xr


def rmse(
    forecast: xr.DataArray, observed: xr.DataArray, dims: Sequence[str] | None = None
) -> xr.DataArray:
    """Returns the root mean squared error over `dims` (all if None), missing cells left out."""
    squared = (forecast.astype(np.float64) - observed) ** 2
    return squared.mean(dims) ** 0.5


def mae(
    forecast: xr.DataArray, observed: xr.DataArray, dims: Sequence[str] | None = None
) -> xr.DataArray:
    """Returns the mean absolute error over `dims` (all if None), missing cells left out."""
    return abs(forecast.astype(np.float64) - observed).mean(dims)


def mape(
    forecast: xr.DataArray, observed: xr.DataArray, dims: Sequence[str] | None = None
) -> xr.DataArray:
    """Returns the mean absolute error in percent of the observed flow, which must not be 0."""
    return (abs(forecast.astype(np.float64) - observed) / observed).mean(dims) * 100


def errors(forecast: xr.DataArray, observed: xr.DataArray, above: float = 10) -> xr.Dataset:
    """Returns the operator protocol's errors by lead time and channel.

    Args:
        forecast: dims `(init_time, lead_time, channel, y, x)`, vehicles per step.
        observed: the same dims.
        above: cells with more observed vehicles than this count as busy.

    Returns:
        `rmse`, `mae`, and over busy cells `rmse_busy`, `mae_busy`, `mape_busy`; dims
        `(lead_time, channel)`, where `channel` has the further value `both`, and `lead_time` the
        further value NaT for all leads together.
    """
    busy = observed.where(observed > above)
    parts = []
    for by in (["lead_time", "channel"], ["lead_time"], ["channel"], []):
        over = [str(dim) for dim in forecast.dims if dim not in by]
        part = xr.Dataset(
            {
                "rmse": rmse(forecast, observed, over),
                "mae": mae(forecast, observed, over),
                "rmse_busy": rmse(forecast, busy, over),
                "mae_busy": mae(forecast, busy, over),
                "mape_busy": mape(forecast, busy, over),
            }
        ).drop_vars("valid_time", errors="ignore")
        if "channel" not in by:
            part = part.expand_dims(channel=["both"])
        if "lead_time" not in by:
            part = part.expand_dims(lead_time=[np.timedelta64("NaT", "s")])
        parts.append(part.transpose("lead_time", "channel"))
    by_lead = xr.concat(parts[:2], "channel")
    together = xr.concat(parts[2:], "channel")
    return xr.concat([by_lead, together], "lead_time")
