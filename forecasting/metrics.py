"""Errors of forecasts, made of sums over all windows, in vehicles per step."""

from typing import TypeVar

import numpy as np
import pandas as pd
import xarray as xr

Sums = TypeVar("Sums", float, np.ndarray, pd.Series, pd.DataFrame, xr.DataArray)


def rmse(squared: Sums, count: Sums) -> Sums:
    """Returns the root mean squared error of sums over all forecasts: the root after the mean.

    Args:
        squared: sum of squared errors.
        count: number of them; NaN results where it is 0.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        root: Sums = (squared / count) ** 0.5
    return root


def sums(forecast: xr.DataArray, observed: xr.DataArray, above: float = 10) -> xr.Dataset:
    """Returns what `errors_of` needs of a stack of windows; those of several stacks are added by `+`.

    Missing cells are left out.

    Args:
        forecast: dims `(init_time, lead_time, channel, y, x)`, vehicles per step.
        observed: the same dims.
        above: cells with more observed vehicles than this count as busy.

    Returns:
        sums over windows and cells `squared`, `absolute`, `count`, and over busy cells
        `squared_busy`, `absolute_busy`, `relative_busy`, `count_busy`; float64, dims
        `(lead_time, channel)`.
    """
    return _sums(forecast, observed, above, ("lead_time", "channel"))


def sums_by_window(forecast: xr.DataArray, observed: xr.DataArray, above: float = 10) -> xr.Dataset:
    """Returns the sums that `sums` returns, of each window by itself: a further dim `init_time`."""
    return _sums(forecast, observed, above, ("init_time", "lead_time", "channel"))


def _sums(
    forecast: xr.DataArray, observed: xr.DataArray, above: float, kept: tuple[str, ...]
) -> xr.Dataset:
    flow = observed.values.astype(np.float64)
    absolute = abs(forecast.values - flow)
    known = ~np.isnan(absolute)
    absolute[~known] = 0
    busy = known & (flow > above)
    absolute_busy = absolute * busy
    relative = absolute / np.where(busy, flow, np.inf)  # a masked division takes far longer
    over = "ilcyx,ilcyx->" + "".join(dim[0] for dim in kept)
    axes = (3, 4) if "init_time" in kept else (0, 3, 4)
    parts = {
        "squared": np.einsum(over, absolute, absolute),
        "absolute": absolute.sum(axes),
        "count": known.sum(axes, dtype=np.float64),
        "squared_busy": np.einsum(over, absolute_busy, absolute_busy),
        "absolute_busy": absolute_busy.sum(axes),
        "relative_busy": relative.sum(axes),
        "count_busy": busy.sum(axes, dtype=np.float64),
    }
    return xr.Dataset(
        {name: (kept, values) for name, values in parts.items()},
        {dim: forecast[dim].values for dim in kept},
    )


def errors_of(total: xr.Dataset) -> xr.Dataset:
    """Returns the errors by lead time and channel that sums of all windows make.

    Args:
        total: as `sums` returns them, added up over all windows.

    Returns:
        `rmse`, `mae`, and over busy cells `rmse_busy`, `mae_busy`, `mape_busy`, NaN where there is
        no such cell; dims `(lead_time, channel)`, where `channel` has the further value `both`,
        and `lead_time` the further value NaT for all leads together.
    """
    both = total.sum("channel").expand_dims(channel=["both"])
    by_lead = xr.concat([total, both.transpose(*total.dims)], "channel")
    all_leads = by_lead.sum("lead_time").expand_dims(lead_time=[np.timedelta64("NaT", "s")])
    whole = xr.concat([by_lead, all_leads], "lead_time")
    count, busy = (whole[name].where(whole[name] > 0) for name in ("count", "count_busy"))
    return xr.Dataset(
        {
            "rmse": rmse(whole["squared"], count),
            "mae": whole["absolute"] / count,
            "rmse_busy": rmse(whole["squared_busy"], busy),
            "mae_busy": whole["absolute_busy"] / busy,
            "mape_busy": whole["relative_busy"] / busy * 100,
        }
    )


def rmse_by_lead(total: xr.Dataset) -> dict[str, float]:
    """Returns the RMSE over both channels: `lead 1` and on, and `all`; takes what `errors_of` takes."""
    by_lead = errors_of(total)["rmse"].sel(channel="both").values
    leads = {f"lead {lead}": float(value) for lead, value in enumerate(by_lead[:-1], start=1)}
    return {**leads, "all": float(by_lead[-1])}
