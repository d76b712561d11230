import io

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.downloads import MOST_NAME, file_name, map_files, table_files
from data.city import City

CITY = City("toy", "Toy", "UTC", np.timedelta64(3600, "s"), (2, 3))
FRAME = xr.DataArray(np.array([[0, 1, 2.5], [3, np.nan, 400]], np.float32), dims=("y", "x"))


def test_a_map_comes_as_picture_table_and_netcdf_with_its_values() -> None:
    files = map_files(FRAME, CITY, (0, 10), "Observed $x$", "viridis")
    picture = Image.open(io.BytesIO(files[".png"]()))
    assert picture.size[0] > 400
    table = pd.read_csv(io.BytesIO(files[".csv"]()))
    assert table.to_numpy()[:3].tolist() == [[0, 0, 0], [0, 1, 1], [0, 2, 2.5]]
    assert np.isnan(table["flow"][4])
    with xr.open_dataset(io.BytesIO(files[".nc"]()), engine="h5netcdf") as dataset:
        np.testing.assert_array_equal(dataset["flow"], FRAME)
        assert dataset.attrs["Conventions"] == "CF-1.11"


def test_a_table_comes_as_picture_table_and_netcdf_and_no_text_is_a_formula() -> None:
    table = pd.DataFrame({"row": [1, 2], "why": ["=1+1", "-5 below"], "RMSE": [1.5, np.nan]})
    files = table_files(table, "Why")
    assert Image.open(io.BytesIO(files[".png"]())).size[1] > 50
    back = pd.read_csv(io.BytesIO(files[".csv"]()))
    assert back["why"].tolist() == ["'=1+1", "'-5 below"]
    with xr.open_dataset(io.BytesIO(files[".nc"]()), engine="h5netcdf") as dataset:
        assert dataset["why"].values.tolist() == ["=1+1", "-5 below"]
        assert dataset["row"].values.tolist() == [1, 2]


@pytest.mark.parametrize("rows", [0, 1, 200])
def test_tables_of_any_length_are_drawn(rows: int) -> None:
    table = pd.DataFrame({"a": np.arange(rows), "b": ["text"] * rows})
    for make in table_files(table, "T").values():
        assert make()


@given(st.lists(st.text(max_size=60), max_size=3))
def test_names_of_files_are_short_and_harmless(parts: list[str]) -> None:
    name = file_name(*parts)
    assert 0 < len(name) <= MOST_NAME
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
