import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.dashboard.downloads import MAX_NAME, Subject, file_name, map_files, table_files
from data.city import City
from data.intervals import intervals_of, with_intervals

CITY = City("toy", "Toy", "UTC", np.timedelta64(3600, "s"), (2, 3))
FRAME = xr.DataArray(np.array([[0, 1, 2.5], [3, np.nan, 400]], np.float32), dims=("y", "x"))

AT = np.datetime64("2025-11-02T05:30", "s")
SAID = Subject(
    "Forecast", "inflow", AT, init_time=AT - np.timedelta64(1, "h"), model="swinlstm-b v1"
)
NEW_YORK = City(**{**vars(CITY), "timezone": "America/New_York"})


def test_a_map_comes_as_picture_table_and_netcdf_with_its_values() -> None:
    files = map_files(FRAME, CITY, (0, 10), Subject("Observed $x$", "inflow", AT), "viridis")
    picture = Image.open(io.BytesIO(files[".png"]()))
    assert picture.size[0] > 400
    table = pd.read_csv(io.BytesIO(files[".csv"]()))
    assert table.to_numpy()[:3].tolist() == [[0, 0, 0], [0, 1, 1], [0, 2, 2.5]]
    assert np.isnan(table["flow"][4])
    with xr.open_dataset(io.BytesIO(files[".nc"]()), engine="h5netcdf") as dataset:
        np.testing.assert_array_equal(dataset["flow"], FRAME)
        assert dataset.attrs["Conventions"] == "CF-1.11"


def test_maps_say_what_they_are_where_when_by_whose_clocks_and_by_what() -> None:
    assert SAID.title(NEW_YORK) == "Toy, inflow\nForecast 2025-11-02 01:30 America/New_York"
    assert SAID.footer(NEW_YORK) == "made 2025-11-02 00:30 America/New_York by swinlstm-b v1"
    assert Subject("Observed", "inflow", AT).footer(NEW_YORK) == ""


def test_the_channel_is_told_above_a_map_however_long_the_citys_title_is() -> None:
    long = City(**{**vars(CITY), "title": "A very long title of a city " * 5})
    first, second = SAID.title(long).split("\n")
    assert first.endswith("…, inflow") and len(first) < 70
    assert second == "Forecast 2025-11-02 05:30 UTC"


def test_no_two_maps_have_one_name() -> None:
    hour = np.timedelta64(1, "h")
    others = [
        replace(SAID, channel="outflow"),
        replace(SAID, quantity="Forecast minus typical"),
        replace(SAID, time=AT + hour),  # the hour that clocks show twice
        replace(SAID, time=AT - 365 * 24 * hour),
        replace(SAID, init_time=AT - 2 * hour),
    ]
    names = [one.name(NEW_YORK) for one in (SAID, *others)]
    assert names[0] == "toy-inflow-forecast-2025-11-02T0130EDT-made-2025-11-02T0030EDT"
    assert len({*names}) == len(names)


def test_a_difference_is_not_called_a_flow_and_has_no_bands() -> None:
    frame = with_intervals(FRAME.assign_attrs(forecaster="x"), np.ones((3, 2, *FRAME.shape)))
    less = Subject("Forecast minus typical", "inflow", AT, "difference")
    content = map_files(frame, CITY, (-5, 5), less, "RdBu_r")[".nc"]()
    with xr.open_dataset(io.BytesIO(content), engine="h5netcdf") as dataset:
        assert [*dataset.data_vars] == ["difference"]
        assert dataset["difference"].attrs == {
            "units": "vehicles per step",
            "long_name": "Forecast minus typical 2025-11-02 05:30 UTC",
        }
        assert intervals_of(dataset["difference"]) is None
    with xr.open_dataset(
        io.BytesIO(map_files(frame, CITY, (0, 5), SAID, "viridis")[".nc"]()), engine="h5netcdf"
    ) as dataset:
        assert dataset["flow"].attrs["forecaster"] == "x"
        assert intervals_of(dataset["flow"]) is not None


def test_a_table_comes_as_picture_table_and_netcdf_and_no_text_is_a_formula() -> None:
    table = pd.DataFrame({"row": [1, 2], "why": ["=1+1", "-5 below"], "RMSE": [1.5, np.nan]})
    table["against"] = ["-1.7 %", "+3.0%"]
    files = table_files(table, "Why")
    assert Image.open(io.BytesIO(files[".png"]())).size[1] > 50
    back = pd.read_csv(io.BytesIO(files[".csv"]()))
    assert back["why"].tolist() == ["'=1+1", "'-5 below"]
    assert back["against"].tolist() == ["-1.7 %", "+3.0%"]
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
    assert 0 < len(name) <= MAX_NAME
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
