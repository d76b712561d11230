from dataclasses import replace
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from data.city import City
from data.clock import Clock, local
from data.errors import FlowcastError
from data.flow import label, split, step, validate

HOUR = np.timedelta64(3600, "s")
DAY = np.timedelta64(24, "h")
START = np.datetime64("2016-01-01T00:00", "s")
CITY = City("toy", "Toy", "America/New_York", HOUR, (2, 3), country="US", subdivision="NY")


def flow_at(numbers: list[int], city: City = CITY) -> xr.DataArray:
    """A flow with slots at these steps from the start; its vehicles are their numbers."""
    values = np.multiply.outer(np.asarray(numbers, dtype=float), np.ones((2, *city.grid)))
    return label(values, START + np.asarray(numbers, dtype=np.int64) * city.step, city)


# The contract


def test_a_flow_tells_its_city_step_and_units() -> None:
    flow = flow_at([0, 1, 5])
    assert flow.name == "flow"
    assert flow.dims == ("time", "channel", "y", "x")
    assert flow["channel"].values.tolist() == ["inflow", "outflow"]
    assert flow["time"].dtype == np.dtype("datetime64[s]")
    assert flow.dtype == np.float32
    assert flow.attrs == {
        "city": "toy",
        "timezone": "America/New_York",
        "step": 3600,
        "units": "vehicles per step",
        "country": "US",
        "subdivision": "NY",
    }
    assert step(flow) == np.timedelta64(60, "m")


@pytest.mark.parametrize("vehicles", [np.nan, np.inf, -np.inf, -1.0])
def test_a_flow_is_finite_and_not_negative(vehicles: float) -> None:
    values = np.ones((3, 2, 2, 3))
    values[1, 1, 0, 2] = vehicles
    with pytest.raises(FlowcastError, match="finite and not negative"):
        label(values, START + np.arange(3) * HOUR, CITY)


@pytest.mark.parametrize(
    "times",
    [
        ["2016-01-01T00", "2016-01-01T00"],
        ["2016-01-01T01", "2016-01-01T00"],
        ["2016-01-01T00", "NaT"],
    ],
    ids=["twice", "backwards", "none"],
)
def test_the_times_of_a_flow_rise(times: list[str]) -> None:
    with pytest.raises(FlowcastError, match="times of a flow rise strictly"):
        label(np.ones((2, 2, 2, 3)), np.array(times, dtype="datetime64[s]"), CITY)


@pytest.mark.parametrize(
    "wrong",
    [
        flow_at([0, 1]).transpose("time", "channel", "x", "y"),
        flow_at([0, 1]).rename(y="row"),
        flow_at([0, 1]).isel(time=0),
        flow_at([0, 1])[:, ::-1],
        flow_at([0, 1]).drop_vars("channel"),
        flow_at([0, 1]).sel(channel=["inflow"]),
        flow_at([0, 1]).astype(np.float64),
    ],
    ids=["order", "names", "no time", "channels turned", "no channels", "one channel", "float64"],
)
def test_what_is_no_flow_is_refused(wrong: xr.DataArray) -> None:
    with pytest.raises(FlowcastError, match="a flow"):
        validate(wrong)


def test_gaps_and_no_slots_at_all_are_a_flow() -> None:
    assert flow_at([0, 7, 8]).sizes["time"] == 3
    assert flow_at([]).sizes["time"] == 0


def test_validate_returns_the_flow_itself() -> None:
    flow = flow_at([0, 1])
    assert validate(flow) is flow


# Time


@given(st.lists(st.integers(-5000, 5000)), st.integers(-100, 100))
def test_slots_are_counted_in_steps_from_the_origin(numbers: list[int], origin: int) -> None:
    time = START + np.asarray(numbers, dtype=np.int64) * HOUR
    expected = [number - origin for number in numbers]
    assert Clock(HOUR, "UTC").number(time, START + origin * HOUR).tolist() == expected


def test_local_time_follows_the_clocks() -> None:
    utc = np.array(["2016-03-13T06:00", "2016-03-13T07:00"], dtype="datetime64[s]")
    assert [str(at) for at in local(utc, "America/New_York")] == [
        "2016-03-13 01:00:00-05:00",
        "2016-03-13 03:00:00-04:00",
    ]
    assert local(utc[:1], "Asia/Shanghai")[0].tz == ZoneInfo("Asia/Shanghai")


# Split


def test_forty_days_are_split_into_five_seven_and_twenty_eight() -> None:
    parts = split(flow_at(list(range(40 * 24))), CITY)
    assert [part.sizes["time"] for part in parts] == [5 * 24, 7 * 24, 28 * 24]
    assert parts.test["time"].values[0] == np.datetime64("2016-01-13T00:00")


@given(
    numbers=st.sets(st.integers(0, 24 * 12), min_size=1),
    test_days=st.integers(1, 5),
    validation_days=st.integers(1, 5),
)
def test_the_parts_of_a_split_are_in_order_and_cover_everything(
    numbers: set[int], test_days: int, validation_days: int
) -> None:
    city = replace(CITY, grid=(1, 1), test_days=test_days, validation_days=validation_days)
    flow = flow_at(sorted(numbers), city)
    test = max(numbers) + 1 - 24 * test_days
    validation = test - 24 * validation_days
    if min(numbers) >= validation:
        with pytest.raises(FlowcastError, match=rf"{test_days} are for testing"):
            split(flow, city)
        return
    parts = split(flow, city)
    assert parts.train.values[:, 0, 0, 0].tolist() == sorted(n for n in numbers if n < validation)
    assert parts.test.values[:, 0, 0, 0].tolist() == sorted(n for n in numbers if n >= test)
    assert xr.concat(parts, "time").identical(flow)


def test_too_few_days_are_told_with_the_way_out() -> None:
    with pytest.raises(FlowcastError, match=r"toy has 35\.0 days of flow, but 28 .* and 7 .* TOML"):
        split(flow_at(list(range(35 * 24))), CITY)


def test_no_flow_at_all_is_told_with_the_command() -> None:
    with pytest.raises(FlowcastError, match="no flow for toy; run: forecast ingest --city toy"):
        split(flow_at([]), CITY)
