import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from data.city import City
from data.errors import StoreError
from data.store.ingests import Added, Source
from data.store.store import Store
from data.weather import label_weather

HOUR = np.timedelta64(1, "h")
START = np.datetime64("2016-01-01T00:00", "s")
CITY = City("toy", "Toy", "Asia/Shanghai", HOUR, (4, 3))
FILE = Source("weather.csv", "0" * 64)
MISSING = float("nan")


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    store = Store()
    yield store
    store.close()


def weather_at(hours: list[int], **columns: list[float]) -> xr.DataArray:
    values = np.stack([np.array(column) for column in columns.values()], axis=1)
    return label_weather(values, START + np.array(hours) * HOUR, list(columns), CITY)


def test_weather_comes_back_bit_for_bit_with_its_variables_in_order(store: Store) -> None:
    weather = weather_at([0, 1, 30], snow=[0.1, MISSING, 1e-45], rain=[MISSING, 3e38, -0.3])
    assert store.weather.add(CITY, weather, source=FILE) == Added(3, 0, 0)
    expected = weather.sel(variable=["rain", "snow"])
    assert store.weather.read(CITY).identical(expected)
    part = store.weather.read(CITY, first=START + HOUR, last=START + 29 * HOUR)
    assert part.identical(expected.sel(variable=["rain"])[1:2])  # there is no snow
    assert store.weather.read(CITY, first=START + 31 * HOUR).shape == (0, 0)


def test_a_city_without_weather_has_none(store: Store) -> None:
    store.weather.add(CITY, weather_at([0], rain=[1]), source=FILE)
    other = City("other", "Other", "UTC", HOUR, (1, 1))
    assert store.weather.read(other).shape == (0, 0)
    assert store.weather.read(other).attrs["city"] == "other"


def test_the_same_weather_again_changes_nothing(store: Store) -> None:
    weather = weather_at([0, 1], rain=[0.1, 0.7], snow=[MISSING, 2])
    store.weather.add(CITY, weather, source=FILE)
    before = store.weather.read(CITY)
    assert store.weather.add(CITY, weather, source=FILE) == Added(0, 2, 0)
    assert store.weather.read(CITY).identical(before)
    assert store.weather.revisions(CITY).empty


def test_later_values_replace_and_the_former_are_kept(store: Store) -> None:
    store.weather.add(CITY, weather_at([0, 1, 2], rain=[1, 2, 3], snow=[4, 5, 6]), source=FILE)
    later = weather_at([1, 2, 3], rain=[2, 30, 40], fog=[7, MISSING, MISSING])
    # hour 1 has a variable more, hour 2 another value, hour 3 is new
    assert store.weather.add(CITY, later, source=Source("b.csv", "")) == Added(2, 0, 1)
    stored = store.weather.read(CITY)
    assert stored["variable"].values.tolist() == ["fog", "rain", "snow"]
    np.testing.assert_array_equal(stored.sel(variable="rain"), [1, 2, 30, 40])
    np.testing.assert_array_equal(stored.sel(variable="snow"), [4, 5, 6, MISSING])
    np.testing.assert_array_equal(stored.sel(variable="fog"), [MISSING, 7, MISSING, MISSING])
    (old,) = store.weather.revisions(CITY).itertuples(index=False)
    assert (old.time, old.variable, old.value) == (START + 2 * HOUR, "rain", 3)
    ledger = store.ingests.table(CITY)
    assert ledger["source"].tolist() == ["weather.csv", "b.csv"]
    assert ledger[["added", "equal", "replaced"]].to_numpy().tolist() == [[3, 0, 0], [2, 0, 1]]


def test_a_full_disk_leaves_the_weather_as_it_was(store: Store, small_files: None) -> None:
    first = weather_at([0, 1], rain=[1, 2])
    store.weather.add(CITY, first, source=FILE)
    many = {f"v{number}": list(np.arange(3000.0)) for number in range(8)}
    with pytest.raises(StoreError, match="nothing was"):
        store.weather.add(CITY, weather_at(list(range(3000)), **many, rain=[9] * 3000), source=FILE)
    assert store.weather.read(CITY).identical(first)
    assert store.weather.revisions(CITY).empty
    assert len(store.ingests.table(CITY)) == 1


FILES = st.lists(
    st.dictionaries(st.integers(0, 5), st.tuples(*2 * [st.sampled_from([1.0, 2.0, MISSING])])),
    min_size=1,
    max_size=4,
)


def test_the_store_holds_the_last_value_given(store: Store) -> None:
    cities = (replace(CITY, name=f"toy{number}") for number in itertools.count())

    @settings(max_examples=40)
    @given(FILES)
    def holds(files: list[dict[int, tuple[float, float]]]) -> None:
        city = next(cities)
        last: dict[tuple[int, str], float] = {}
        for file in filter(None, files):
            hours = sorted(file)
            rain, snow = ([file[hour][column] for hour in hours] for column in (0, 1))
            store.weather.add(city, weather_at(hours, rain=rain, snow=snow), source=FILE)
            for hour in hours:
                given = zip(("rain", "snow"), file[hour], strict=True)
                last |= {(hour, name): value for name, value in given if not np.isnan(value)}
        stored = store.weather.read(city).to_series().dropna()
        held = {(int((time - START) / HOUR), name): value for (time, name), value in stored.items()}
        assert held == last

    holds()
