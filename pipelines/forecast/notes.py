"""Notes: the sentences that people must see beside a forecast."""

import numpy as np
import xarray as xr

from data.clock import wall
from data.holidays import Holidays
from forecasting.registry.manifest import Manifest


def unknown_years(flow: xr.DataArray, times: np.ndarray) -> tuple[str, ...]:
    """Returns a note where the holidays of the years of some times are not known.

    Args:
        flow: or a forecast, for its country and timezone.
        times: UTC, of any shape.
    """
    holidays = Holidays.of(flow)
    days = wall(times, str(flow.attrs["timezone"])).astype("datetime64[D]")
    if not (years := holidays.unknown(np.unique(days))):
        return ()
    named = ", ".join(map(str, years))
    return (
        f"the holidays of {holidays.country} in {named} are not known, or only in part: their days "
        f"may count as ordinary ones; a newer version of the package holidays may know them",
    )


def slower_runtime(manifest: Manifest, runtime: str) -> tuple[str, ...]:
    """Returns a note where torch runs a version that has an ONNX file."""
    if "sha256" not in manifest.export or runtime != "torch":
        return ()
    return (
        f"the ONNX file of version {manifest.version} is damaged or cannot be read; torch runs the "
        f"same network, more slowly, until another version is trained",
    )


def in_sample(manifest: Manifest, init_time: np.datetime64) -> tuple[str, ...]:
    """Returns a note where the model was trained on the time that it forecasts."""
    if init_time >= np.datetime64(manifest.trained[1].removesuffix("Z")):
        return ()
    return (
        f"version {manifest.version} was trained on flow after this time; "
        f"later forecasts have larger errors",
    )


def beyond_calibration(calibrated: int, horizon: int) -> tuple[str, ...]:
    """Returns a note where a forecast has more steps than its intervals were calibrated for."""
    if horizon <= calibrated:
        return ()
    return (
        f"prediction intervals are calibrated for {calibrated} steps; later steps have those of step "
        f"{calibrated}, which may be too narrow",
    )
