"""Prediction intervals that a forecast carries: of 50, 80 and 95 % coverage.

A forecast of a calibrated forecaster has six further coordinates, `lower_50`, `upper_50` ...
`upper_95`, of the dims and units of the forecast itself, so that they are cut, stored and written
with it.
"""

import numpy as np
import xarray as xr

COVERAGES = (0.5, 0.8, 0.95)
EDGES = ("lower", "upper")
NAMES = tuple(f"{edge}_{100 * coverage:.0f}" for coverage in COVERAGES for edge in EDGES)
"""The coordinates, in the order of the dims `(coverage, edge)`."""


def with_intervals(forecast: xr.DataArray, edges: np.ndarray) -> xr.DataArray:
    """Returns the forecast with prediction intervals.

    Args:
        forecast: of any dims.
        edges: vehicles per step, dims `(coverage, edge, *forecast.dims)`.
    """
    parts = edges.reshape(len(NAMES), *forecast.shape)
    return forecast.assign_coords(
        {name: (forecast.dims, part) for name, part in zip(NAMES, parts, strict=True)}
    )


def intervals_of(forecast: xr.DataArray) -> xr.DataArray | None:
    """Returns the prediction intervals of a forecast, None without them.

    Returns:
        float32 vehicles per step, dims `(coverage, edge, *forecast.dims)` with the coordinates
        `COVERAGES` and `EDGES`.
    """
    if NAMES[0] not in forecast.coords:
        return None
    values = np.stack([forecast[name].values for name in NAMES])
    coords = without_intervals(forecast).coords
    return xr.DataArray(
        values.reshape(len(COVERAGES), len(EDGES), *forecast.shape),
        dims=("coverage", "edge", *forecast.dims),
        coords={"coverage": list(COVERAGES), "edge": list(EDGES), **coords},
        name="interval",
        attrs=forecast.attrs,
    )


def without_intervals(forecast: xr.DataArray) -> xr.DataArray:
    """Returns the forecast without prediction intervals."""
    return forecast.drop_vars(NAMES, errors="ignore")


def pack(values: np.ndarray) -> bytes:
    """Returns prediction intervals in half the bytes: their roots, as float16.

    An edge is kept to 0.1 % of itself, zero exactly, up to 4e9 vehicles.
    """
    roots: np.ndarray = np.sqrt(values).astype("<f2")
    return roots.tobytes()


def unpack(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the prediction intervals `(coverage, edge, *shape)` of which `pack` made bytes."""
    roots = np.frombuffer(content, "<f2").astype(np.float32)
    return np.square(roots).reshape(len(COVERAGES), len(EDGES), *shape)
