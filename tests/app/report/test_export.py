"""Exports: what is written can be read back with its times and places."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from app.report.export import check_suffix, export_forecast
from data.city import load_city
from data.errors import FlowcastError
from data.intervals import intervals_of, without_intervals
from data.store.store import Store
from pipelines.forecast.live import forecast

BOX = "bbox = [-74.0, 40.0, -73.0, 40.6]\n"


@pytest.fixture
def made(calibrated_home: Path) -> xr.DataArray:
    toml = calibrated_home / "cities" / "small.toml"
    toml.write_text(BOX + toml.read_text())
    return forecast(Store(), load_city("small"), 4)


def test_netcdf_follows_the_cf_conventions_and_reads_back(
    made: xr.DataArray, tmp_path: Path
) -> None:
    path = tmp_path / "forecast.nc"
    export_forecast(path, made, load_city("small"))
    with xr.open_dataset(path, engine="h5netcdf", decode_timedelta=True) as read:
        np.testing.assert_array_equal(read["flow"].values, made.values)
        np.testing.assert_array_equal(read["valid_time"].values, made["valid_time"].values)
        np.testing.assert_array_equal(read["lead_time"].values, made["lead_time"].values)
        assert read.attrs["Conventions"] == "CF-1.11"
        assert read.attrs["model_version"] == made.attrs["model_version"]
        assert read["init_time"].attrs["standard_name"] == "forecast_reference_time"
        assert read["lead_time"].attrs["standard_name"] == "forecast_period"
        assert read["valid_time"].attrs["standard_name"] == "time"
        # Six rows over 0.6 degrees, the first in the north; five columns over one degree.
        np.testing.assert_allclose(read["latitude"], [40.55, 40.45, 40.35, 40.25, 40.15, 40.05])
        np.testing.assert_allclose(read["longitude"], [-73.9, -73.7, -73.5, -73.3, -73.1])


def test_csv_has_a_row_for_each_lead_and_cell(made: xr.DataArray, tmp_path: Path) -> None:
    path = tmp_path / "forecast.csv"
    export_forecast(path, made, load_city("small"))
    table = pd.read_csv(path)
    assert len(table) == 4 * 6 * 5
    row = table[(table["lead_minutes"] == 120) & (table["y"] == 3) & (table["x"] == 1)].iloc[0]
    assert row["valid_time"] == "2025-04-07T01:00:00-04:00"
    assert row["inflow"] == pytest.approx(float(made[0, 1, 0, 3, 1]), abs=0.006)
    assert row["outflow"] == pytest.approx(float(made[0, 1, 1, 3, 1]), abs=0.006)


def test_bands_are_variables_of_the_netcdf_and_columns_of_the_csv(
    made: xr.DataArray, tmp_path: Path
) -> None:
    around = intervals_of(made)
    assert around is not None
    export_forecast(tmp_path / "f.nc", made, load_city("small"))
    with xr.open_dataset(tmp_path / "f.nc", engine="h5netcdf", decode_timedelta=True) as read:
        assert read["flow"].attrs["ancillary_variables"] == "flow_lower flow_upper"
        assert read["coverage"].values.tolist() == [0.5, 0.8, 0.95]
        for name, edge in (("flow_lower", "lower"), ("flow_upper", "upper")):
            assert read[name].dims == ("coverage", *made.dims)
            np.testing.assert_array_equal(read[name].values, around.sel(edge=edge).values)
            assert set(read[name].attrs) == {"long_name", "units"}
    export_forecast(tmp_path / "f.csv", made, load_city("small"))
    table = pd.read_csv(tmp_path / "f.csv")
    row = table[(table["lead_minutes"] == 120) & (table["y"] == 3) & (table["x"] == 1)].iloc[0]
    cell = around.sel(coverage=0.95, edge="upper", channel="outflow")[0, 1, 3, 1]
    assert row["outflow_upper_95"] == pytest.approx(float(cell), abs=0.006)
    assert row["inflow_lower_80"] <= row["inflow"] <= row["inflow_upper_50"]
    assert len(table.columns) == 7 + 2 * 3 * 2


def test_a_forecast_without_bands_is_written_without_them(
    made: xr.DataArray, tmp_path: Path
) -> None:
    plain = without_intervals(made)
    export_forecast(tmp_path / "f.nc", plain, load_city("small"))
    with xr.open_dataset(tmp_path / "f.nc", engine="h5netcdf", decode_timedelta=True) as read:
        assert list(read.data_vars) == ["flow"]
        assert "ancillary_variables" not in read["flow"].attrs
    export_forecast(tmp_path / "f.csv", plain, load_city("small"))
    columns = ["init_time", "lead_minutes", "valid_time", "y", "x", "inflow", "outflow"]
    assert list(pd.read_csv(tmp_path / "f.csv").columns) == columns


def test_a_folder_in_the_place_of_the_file_is_a_sentence(
    made: xr.DataArray, tmp_path: Path
) -> None:
    (tmp_path / "f.csv").mkdir()
    with pytest.raises(FlowcastError, match="cannot be written"):
        export_forecast(tmp_path / "f.csv", made, load_city("small"))
    assert sorted(path.name for path in tmp_path.glob("*f.csv*")) == ["f.csv"]


def test_an_unknown_suffix_is_refused_before_anything_is_computed() -> None:
    with pytest.raises(FlowcastError, match=r"must end in \.nc, \.csv, \.png"):
        check_suffix(Path("maps.jpeg"))
