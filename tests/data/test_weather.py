import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.city import City
from data.errors import FlowcastError
from data.weather import known, label_weather

START = np.datetime64("2016-01-01T00:00", "s")
HOUR = np.timedelta64(1, "h")
CITY = City("toy", "Toy", "America/New_York", HOUR, (2, 3), country="US")
MISSING = float("nan")


def at(*hours: float) -> np.ndarray:
    return START + np.round(np.array(hours) * 3600).astype("timedelta64[s]")


def test_weather_tells_its_variables_and_city() -> None:
    weather = label_weather([[1.0, MISSING], [2.0, 3.0]], at(0, 5), ["rain", "snow"], CITY)
    assert (weather.name, weather.dims, weather.dtype) == ("weather", ("time", "variable"), "f4")
    assert weather["time"].dtype == np.dtype("datetime64[s]")
    assert weather["variable"].values.tolist() == ["rain", "snow"]
    told = {"city": "toy", "timezone": "America/New_York", "step": 3600, "country": "US"}
    assert weather.attrs == told | {"subdivision": ""}


@pytest.mark.parametrize(
    ("values", "hours", "names"),
    [
        ([[1.0], [2.0]], [5, 0], ["rain"]),
        ([[1.0], [2.0]], [5, 5], ["rain"]),
        ([[np.inf]], [0], ["rain"]),
        ([[1.0, 2.0]], [0], ["rain", "rain"]),
        ([[1.0]], [0], ["Rain fall"]),
        ([[1.0]], [0], [""]),
    ],
)
def test_what_is_no_weather_is_refused(
    values: list[list[float]], hours: list[int], names: list[str]
) -> None:
    with pytest.raises(FlowcastError):
        label_weather(np.array(values), at(*hours), names, CITY)


def test_the_newest_known_value_counts_for_a_day_and_an_hour() -> None:
    weather = label_weather([[1.0], [2.0]], at(0, 10), ["rain"], CITY)
    seen = known(weather, at(-0.5, 0, 9.5, 10, 35, 35.5))
    assert seen.dims == ("init_time", "variable")
    assert (seen["init_time"].values == at(-0.5, 0, 9.5, 10, 35, 35.5)).all()
    np.testing.assert_array_equal(seen.values[:, 0], [MISSING, 1, 1, 2, 2, MISSING])


def test_a_missing_value_leaves_that_before_it_standing() -> None:
    values = [[1.0, 5.0], [MISSING, 6.0]]
    seen = known(label_weather(values, at(0, 24), ["rain", "snow"], CITY), at(24.5, 26))
    np.testing.assert_array_equal(seen.values, [[1, 6], [MISSING, 6]])


def test_without_weather_nothing_is_known() -> None:
    assert known(label_weather(np.empty((0, 0)), at(), [], CITY), at(0, 1)).shape == (2, 0)
    nothing = label_weather(np.empty((0, 1)), at(), ["rain"], CITY)
    assert np.isnan(known(nothing, at(0, 1)).values).all()


HOURS = st.lists(st.integers(0, 200), unique=True, min_size=1, max_size=12)


@given(HOURS, st.lists(st.integers(-30, 260), max_size=12), st.integers(0, 2**32 - 1))
def test_no_later_record_changes_what_was_known(
    hours: list[int], asked: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = np.where(rng.random((len(hours), 2)) < 0.3, np.nan, rng.random((len(hours), 2)))
    values = values.astype(np.float32)
    weather = label_weather(values, at(*sorted(hours)), ["rain", "snow"], CITY)
    seen = known(weather, at(*asked)).values
    for row, now in enumerate(asked):
        for column in (0, 1):
            past = [
                value
                for hour, value in zip(sorted(hours), values[:, column], strict=True)
                if now - 25 <= hour <= now and not np.isnan(value)
            ]
            np.testing.assert_array_equal(seen[row, column], past[-1] if past else MISSING)
