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


def errors(forecast: xr.DataArray, observed: xr.DataArray, above: float = 10) -> xr.Dataset:
    """Returns the operator protocol's errors by lead time and channel.

    Args:
        forecast: dims `(init_time, lead_time, channel, y, x)`, vehicles per step.
        observed: the same dims.
        above: cells with more observed vehicles than this count as busy.

    Returns:
        as `errors_of`.
    """
    return errors_of(sums(forecast, observed, above))


def sums(forecast: xr.DataArray, observed: xr.DataArray, above: float = 10) -> xr.Dataset:
    """Returns what `errors_of` needs of a stack of windows; those of several stacks are added by `+`.

    Takes what `errors` takes. Missing cells are left out.

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
    """Returns the errors that sums of all windows make: the root comes after the mean.

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
            "rmse": (whole["squared"] / count) ** 0.5,
            "mae": whole["absolute"] / count,
            "rmse_busy": (whole["squared_busy"] / busy) ** 0.5,
            "mae_busy": whole["absolute_busy"] / busy,
            "mape_busy": whole["relative_busy"] / busy * 100,
        }
    )
