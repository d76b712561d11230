"""Band: between which flows what comes will lie with 50, 80 and 95 %, as a forecast carries it.

A forecast whose forecaster is calibrated has six further coordinates, `lower_50`, `upper_50` ...
`upper_95`, of the dims and units of the forecast itself, so that they are cut, stored and written
with it. A forecast without them has no bands.
"""

import numpy as np
import xarray as xr

COVERAGES = (0.5, 0.8, 0.95)
EDGES = ("lower", "upper")
NAMES = tuple(f"{edge}_{100 * coverage:.0f}" for coverage in COVERAGES for edge in EDGES)
"""Of the coordinates, in the order of the dims `(coverage, edge)`."""


def with_band(forecast: xr.DataArray, band: np.ndarray) -> xr.DataArray:
    """Returns the forecast with its bands.

    Args:
        forecast: of any dims.
        band: vehicles per step, dims `(coverage, edge, *forecast.dims)`.
    """
    parts = band.reshape(len(NAMES), *forecast.shape)
    return forecast.assign_coords(
        {name: (forecast.dims, part) for name, part in zip(NAMES, parts, strict=True)}
    )


def band(forecast: xr.DataArray) -> xr.DataArray | None:
    """Returns the bands of a forecast, None where it has none.

    Returns:
        float32 vehicles per step, dims `(coverage, edge, *forecast.dims)` with the coordinates
        `COVERAGES` and `EDGES`.
    """
    if NAMES[0] not in forecast.coords:
        return None
    values = np.stack([forecast[name].values for name in NAMES])
    plain = without_band(forecast)
    return xr.DataArray(
        values.reshape(len(COVERAGES), len(EDGES), *forecast.shape),
        dims=("coverage", "edge", *forecast.dims),
        coords={"coverage": list(COVERAGES), "edge": list(EDGES), **plain.coords},
        name="band",
        attrs=forecast.attrs,
    )


def without_band(forecast: xr.DataArray) -> xr.DataArray:
    """Returns the forecast alone."""
    return forecast.drop_vars(NAMES, errors="ignore")


def packed(values: np.ndarray) -> bytes:
    """Returns bands in half the bytes: their roots, as float16.

    An edge is kept to 0.1 % of itself, zero exactly, up to 4e9 vehicles.
    """
    roots: np.ndarray = np.sqrt(values).astype("<f2")
    return roots.tobytes()


def unpacked(content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the bands `(coverage, edge, *shape)` that `packed` made bytes of."""
    roots = np.frombuffer(content, "<f2").astype(np.float32)
    return np.square(roots).reshape(len(COVERAGES), len(EDGES), *shape)
