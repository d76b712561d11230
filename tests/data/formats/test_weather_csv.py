import csv
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data.city import City, load_city
from data.errors import FlowcastError
from data.formats.weather_csv import is_weather_csv, open_weather_csv
from data.weather import known

CITY = City("toy", "Toy", "America/New_York", np.timedelta64(30, "m"), (2, 3))
MISSING = float("nan")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weather.csv"


def opened(path: Path, *lines: str) -> tuple[xr.DataArray, dict[str, int]]:
    """The weather of a file with these lines, and the repairs."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    reading = open_weather_csv(path, CITY)
    return reading.weather, reading.repairs


def times_of(weather: xr.DataArray) -> list[str]:
    return [str(time)[:16] for time in weather["time"].values]


def refusal(path: Path, *lines: str) -> str:
    with pytest.raises(FlowcastError) as refused:
        opened(path, *lines)
    text = str(refused.value)
    assert text.startswith(f"{path} ")
    assert "\n" not in text
    return text


# When a record is known


def test_a_day_is_known_when_it_is_over(path: Path) -> None:
    # midnight in New York is 05:00 UTC, and 04:00 from the evening of 13 March 2016 on
    weather, repairs = opened(path, "date,rain", "12-3-2016,1", "13-3-2016,2", "14-3-2016,3")
    assert times_of(weather) == ["2016-03-13T05:00", "2016-03-14T04:00", "2016-03-15T04:00"]
    assert (weather.values[:, 0].tolist(), repairs) == ([1, 2, 3], {})


@pytest.mark.parametrize("day", ["2016-02-01", "1-2-2016", "01.02.2016", "1/2/2016"])
def test_days_are_iso_or_begin_with_the_day(path: Path, day: str) -> None:
    assert times_of(opened(path, "date,rain", f"{day},1")[0]) == ["2016-02-02T05:00"]


@pytest.mark.parametrize(
    ("time", "utc"),
    [
        ("2016-01-31T13:00", "2016-01-31T18:00"),
        ("2016-01-31 13:00:00", "2016-01-31T18:00"),
        ("2016-07-31T13:00", "2016-07-31T17:00"),
        ("2016-01-31T13:00Z", "2016-01-31T13:00"),
        ("2016-01-31T13:00+01:00", "2016-01-31T12:00"),
        ("2016-01-31T13:00:00-0500", "2016-01-31T18:00"),
    ],
)
def test_times_are_the_city_s_or_have_an_offset(path: Path, time: str, utc: str) -> None:
    assert times_of(opened(path, "Time,rain", f"{time},1")[0]) == [utc]


def test_times_that_clocks_skip_are_left_out_and_those_shown_twice_told_apart(path: Path) -> None:
    twice = ["2016-11-06T01:00,3", "2016-11-06T01:30,4", "2016-11-06T01:00,5"]
    weather, repairs = opened(path, "time,rain", "2016-03-13T02:30,1", "2016-03-13T03:30,2", *twice)
    # 01:30 stands alone: it may have been the later, and is not seen before that
    known_at = ["2016-03-13T07:30", "2016-11-06T05:00", "2016-11-06T06:00", "2016-11-06T06:30"]
    assert times_of(weather) == known_at
    assert weather.values[:, 0].tolist() == [2, 3, 5, 4]
    assert repairs == {"skipped_hour": 1, "repeated_hour": 3, "unsorted": 1}


# What the cells mean


def test_missing_values_traces_and_columns_without_numbers(path: Path) -> None:
    weather, repairs = opened(
        path,
        "date,Snow Depth,holiday,day,sky,rain (in),",
        "1-1-2016, T ,1,5,clear,0.25,0",
        "2-1-2016,,0,6,,M,1",
        "3-1-2016,NaN,0,0,rain,-1e-2,2",
    )
    assert weather["variable"].values.tolist() == ["snow_depth", "rain_in"]
    expected = np.array([[0.005, 0.25], [MISSING, -0.01]], dtype=np.float32)
    np.testing.assert_array_equal(weather.values, expected[[0, 1]])
    assert times_of(weather) == ["2016-01-02T05:00", "2016-01-04T05:00"]  # nothing on the 2nd
    assert repairs == {"missing": 1, "trace": 1, "no_numbers": 1}


def test_rows_are_sorted_and_the_last_of_several_counts(path: Path) -> None:
    lines = ["time,rain", "2016-01-01T02:00Z,2", "2016-01-01T01:00Z,1", "2016-01-01T02:00Z,3"]
    weather, repairs = opened(path, *lines, "2016-01-01T02:00Z,3")
    assert times_of(weather) == ["2016-01-01T01:00", "2016-01-01T02:00"]
    assert weather.values[:, 0].tolist() == [1, 3]
    assert repairs == {"unsorted": 1, "duplicates_last": 1, "duplicates_equal": 1}


# What is refused


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["day,rain", "1,2"], "has no column time or date"),
        (["time;rain", "2016-01-01T00:00;2"], "has no column time or date"),
        (["time,rain"], "has no row beneath its header"),
        ([""], "has no row beneath its header"),
        (["time,rain", "2016-01-01T00:00,2,3"], "1 rows of another length than its header of 2"),
        (["time,rain,rain", "2016-01-01T00:00,2,3"], "has the column rain more than once"),
        (["time,2m", "2016-01-01T00:00,2"], "has the column '2m'"),
        (["time,rain", "2016-01-01,2"], "'2016-01-01', that cannot be read as 2016-01-31T13:00"),
        (
            ["time,rain", "soon,2", "2016-01-01T00:00,2"],
            "1 of 2 cells in its column time, the first",
        ),
        (["time,rain", "0001-01-01T00:00,2"], "cannot be read as 2016-01-31T13:00"),
        (["date,rain", "13/31/2016,2"], "'13/31/2016', that cannot be read as 2016-01-31 or 31-1"),
        (["date,rain", "20160131,2"], "'20160131', that cannot be read"),
        (["time,rain", "2016-01-01T00:00,wet"], "has no column of numbers"),
        (["date,day,holiday", "1-1-2016,5,1"], "has no column of numbers"),
        (
            ["time,rain", "2016-01-01T00:00,1", "2016-01-01T01:00,wet"],
            "the first 'wet', that are no",
        ),
        (
            ["time,rain", "2016-01-01T00:00,1", "2016-01-01T01:00,inf"],
            "the first 'inf', that are no",
        ),
        (["time,rain", "2016-01-01T00:00,1", "2016-01-01T01:00,1e99"], "'1e99', that are no"),
        (["time,rain", "2016-03-13T02:30,1"], "none of 1 records has a time and a value"),
        (["time,rain", '"2016-01-01T00:00,1'], "cannot be read as CSV"),
    ],
)
def test_a_wrong_file_is_one_sentence(path: Path, lines: list[str], said: str) -> None:
    assert said in refusal(path, *lines)


def test_other_encodings_and_files_too_wide_or_too_large_are_refused(path: Path) -> None:
    names = ",".join(f"v{number}" for number in range(65))
    wide = refusal(path, f"time,{names}", "2016-01-01T00:00" + 65 * ",1")
    assert "65 variables are more than 64" in wide
    path.write_bytes("time,temp °C\n2016-01-01T00:00,1\n".encode("latin-1"))
    with pytest.raises(FlowcastError, match="write it in UTF-8"):
        open_weather_csv(path, CITY)
    with path.open("wb") as file:
        file.truncate(33 * 2**20)
    with pytest.raises(FlowcastError, match="has 33 MiB, more than 32"):
        open_weather_csv(path, CITY)


@pytest.mark.parametrize(
    ("header", "weather"),
    [
        ("time,rain", True),
        ("\ufeffDate,day,rain", True),
        ("init_time,lead_minutes,valid_time,y,x,inflow,outflow", False),
        ("date", False),
        ("", False),
    ],
)
def test_a_file_of_weather_is_told_by_its_header(path: Path, header: str, weather: bool) -> None:
    path.write_text(f"{header}\n", encoding="utf-8")
    assert is_weather_csv(path) == weather


# The real file


def test_new_york_s_blizzard_is_known_the_day_after(real_data: Path) -> None:
    path = real_data / "nyc-taxi" / "calendar_weather.csv"
    reading = open_weather_csv(path, load_city("nyc"))
    assert reading.weather.shape == (91, 6)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    columns = [name for name in rows[0] if name not in ("date", "day", "holiday")]
    traces = sum(row[name] == "T" for row in rows for name in columns)
    assert reading.repairs == {"trace": traces}
    # 23 January 2016: 27.3 inches of snow, the most ever in Central Park's records
    midnight = np.array(["2016-01-24T04:59:59", "2016-01-24T05:00"], dtype="datetime64[s]")
    snow = known(reading.weather, midnight).sel(variable="snow_fall").values
    assert snow.tolist() == [pytest.approx(0.2), pytest.approx(27.3)]
