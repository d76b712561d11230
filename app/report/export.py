"""Export: a forecast as NetCDF, CSV or PNG, by the suffix of the file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from data.city import City
from data.clock import local
from data.errors import FlowcastError
from data.files import atomic_write
from data.intervals import EDGES, intervals_of, without_intervals

BOUNDS = ("flow_lower", "flow_upper")
"""Variables of a NetCDF file with the edges of prediction intervals."""


def export_forecast(
    path: Path, forecast: xr.DataArray, city: City, newest: xr.DataArray | None = None
) -> None:
    """Writes a forecast to `path`, completely or not at all.

    Args:
        path: ends in one of `EXPORTS`.
        forecast: dims `(init_time, lead_time, channel, y, x)`, one init_time.
        city: for its time zone and bbox.
        newest: the newest observed frame `(channel, y, x)`, for the image.

    Raises:
        FlowcastError: the file cannot be written.
    """
    with atomic_write(path) as temporary:
        EXPORTS[path.suffix.lower()](temporary, forecast, city, newest)


def check_suffix(path: Path) -> Path:
    """Returns `path` if its suffix is one of `EXPORTS`.

    Raises:
        FlowcastError: it is not.
    """
    if path.suffix.lower() not in EXPORTS:
        raise FlowcastError(f"{path} must end in {', '.join(EXPORTS)}")
    return path


def forecast_table(forecast: xr.DataArray) -> pd.DataFrame:
    """Returns a row for each lead and cell: times, cell, and both flows in vehicles per step.

    Prediction intervals, if any, follow in columns such as `inflow_lower_80`.
    """
    frames = forecast.isel(init_time=0)
    flows = without_intervals(frames).to_dataset("channel")
    if (interval := intervals_of(frames)) is not None:
        flows = flows.assign(_interval_columns(interval))
    table = flows.to_dataframe().reset_index()
    zone = str(forecast.attrs["timezone"])
    init_time = pd.Timestamp(forecast["init_time"].values[0])
    leads = pd.to_timedelta(table["lead_time"])
    table["init_time"] = _iso(np.asarray([init_time] * len(table)), zone)
    table["valid_time"] = _iso(table["valid_time"].to_numpy(), zone)
    table["lead_minutes"] = (leads.dt.total_seconds() / 60).astype(int)
    columns = ["init_time", "lead_minutes", "valid_time", "y", "x", *flows.data_vars]
    return table[columns]


def _interval_columns(interval: xr.DataArray) -> dict[str, xr.DataArray]:
    return {
        f"{channel}_{edge}_{100 * coverage:.0f}": interval.sel(
            channel=channel, coverage=coverage, edge=edge, drop=True
        )
        for channel in interval["channel"].values
        for coverage in interval["coverage"].values
        for edge in interval["edge"].values
    }


def to_dataset(forecast: xr.DataArray, city: City) -> xr.Dataset:
    """Returns the forecast as a data set of CF-1.11, with degrees if the city has a bbox.

    The edges of prediction intervals, if any, are `flow_lower` and `flow_upper`, with the further dim
    `coverage`.
    """
    dataset = without_intervals(forecast).rename("flow").to_dataset()
    interval = intervals_of(forecast)
    facts = {key: value for key, value in forecast.attrs.items() if key != "units"}
    model = f"model {facts['model_version']}" if facts["model_version"] else "no model"
    dataset.attrs = {
        "Conventions": "CF-1.11",
        "title": f"Forecast of in- and outflow of {city.title}",
        "source": f"flowcast {facts['code_version']}, {facts['forecaster']}, {model}",
        **facts,
    }
    for name, attributes in ATTRIBUTES.items():
        dataset[name].attrs = attributes
    if interval is not None:
        probability = {"long_name": "probability that flow lies within", "units": "1"}
        coverage = xr.Variable("coverage", interval["coverage"].values, probability)
        dataset = dataset.assign(_bounds(interval)).assign_coords(coverage=coverage)
        dataset["flow"].attrs = ATTRIBUTES["flow"] | {"ancillary_variables": " ".join(BOUNDS)}
    dataset = dataset.assign_coords(y=np.arange(city.grid[0]), x=np.arange(city.grid[1]))
    dataset["y"].attrs = {"long_name": f"row of the grid, row 0 in the {city.row0}", "units": "1"}
    dataset["x"].attrs = {"long_name": "column of the grid, column 0 in the west", "units": "1"}
    return dataset if city.bbox is None else dataset.assign_coords(_degrees(city, city.bbox))


def _bounds(interval: xr.DataArray) -> dict[str, xr.Variable]:
    meaning = "end of the interval that holds flow with the probability coverage"
    edges = [interval.sel(edge=edge) for edge in EDGES]
    return {
        name: xr.Variable(edge.dims, edge.values, {"long_name": f"{side} {meaning}", "units": "1"})
        for name, side, edge in zip(BOUNDS, EDGES, edges, strict=True)
    }


def _degrees(city: City, bbox: tuple[float, float, float, float]) -> dict[str, xr.Variable]:
    """Returns latitude and longitude of the centers of the cells."""
    west, south, east, north = bbox
    rows, columns = city.grid
    down = north - (np.arange(rows) + 0.5) * (north - south) / rows
    latitude = down if city.row0 == "north" else down[::-1]
    longitude = west + (np.arange(columns) + 0.5) * (east - west) / columns
    return {
        "latitude": xr.Variable(
            "y", latitude, {"standard_name": "latitude", "units": "degrees_north"}
        ),
        "longitude": xr.Variable(
            "x", longitude, {"standard_name": "longitude", "units": "degrees_east"}
        ),
    }


ATTRIBUTES = {
    "flow": {"long_name": "vehicles that enter or leave the cell during one step", "units": "1"},
    "channel": {"long_name": "inflow enters the cell, outflow leaves it"},
    "init_time": {
        "standard_name": "forecast_reference_time",
        "long_name": "start of the newest slot that the forecast could see",
    },
    "lead_time": {"standard_name": "forecast_period", "long_name": "time since init_time"},
    "valid_time": {"standard_name": "time", "long_name": "start of the slot that is forecast"},
}


def _write_netcdf(
    path: Path, forecast: xr.DataArray, city: City, newest: xr.DataArray | None
) -> None:
    dataset = to_dataset(forecast, city)
    encoding = {name: {"zlib": True, "complevel": 4} for name in dataset.data_vars}
    # In memory first: the HDF5 library crashes on a full disk.
    path.write_bytes(dataset.to_netcdf(engine="h5netcdf", encoding=encoding))


def _write_csv(path: Path, forecast: xr.DataArray, city: City, newest: xr.DataArray | None) -> None:
    forecast_table(forecast).to_csv(path, index=False, float_format="%.2f")


def _write_png(path: Path, forecast: xr.DataArray, city: City, newest: xr.DataArray | None) -> None:
    from app.charts.maps import forecast_maps  # takes half a second to import

    forecast_maps(forecast, city, newest).savefig(path, format="png", dpi=120)


def _iso(time: np.ndarray, zone: str) -> list[str]:
    return [wall.isoformat() for wall in local(time, zone)]


EXPORTS: dict[str, Callable[[Path, xr.DataArray, City, xr.DataArray | None], None]] = {
    ".nc": _write_netcdf,
    ".csv": _write_csv,
    ".png": _write_png,
}
