from pathlib import Path

import numpy as np
import pytest

from data.city import City, city_files, load_city, parse_grid, parse_step
from data.errors import FlowcastError
from data.formats.registry import check_reader

OSLO = """
title = "Oslo"
timezone = "Europe/Oslo"
step = "15min"
grid = [20, 24]
first_slot = 0
duplicates = "max"
empty = "missing"
test_days = 14
validation_days = 3
reader = "taxibj"
row0 = "south"
bbox = [10.62, 59.85, 10.92, 59.98]
country = "NO"
"""


@pytest.fixture
def cities(flowcast_home: Path) -> Path:
    """The user's folder of cities."""
    folder = flowcast_home / "cities"
    folder.mkdir(parents=True)
    return folder


def described(cities: Path, **values: str) -> Path:
    """A TOML file of a good city but for these values; "" leaves a key out."""
    keys = {"timezone": '"Asia/Shanghai"', "step": '"30min"', "grid": "[4, 5]"} | values
    lines = [f"{key} = {value}" for key, value in keys.items() if value]
    path = cities / "toy.toml"
    path.write_text("\n".join(lines))
    return path


def sentence(name: str) -> str:
    """What is said of a city that cannot be loaded: one line."""
    with pytest.raises(FlowcastError) as refused:
        load_city(name)
    text = str(refused.value)
    assert "\n" not in text
    return text


# What a city is


def test_the_cities_we_ship_are_as_their_data_say() -> None:
    bj, nyc, demo = (load_city(name) for name in ("bj", "nyc", "demo"))
    half_hour = np.timedelta64(30, "m")
    assert (bj.grid, bj.step, bj.timezone) == ((32, 32), half_hour, "Asia/Shanghai")
    assert (nyc.grid, nyc.step, nyc.timezone) == ((16, 12), half_hour, "America/New_York")
    assert (demo.grid, demo.step) == ((32, 32), half_hour)
    assert (bj.test_days, nyc.test_days) == (28, 27)  # DATA.md: 1,296 slots are 27 days
    assert nyc.bbox == (-74.022216, 40.699031, -73.873868, 40.849878)
    assert bj.slots_per_day == 48
    calendars = [(city.country, city.subdivision) for city in (bj, nyc, demo)]
    assert calendars == [("CN", ""), ("US", ""), ("", "")]


def test_a_dozen_lines_of_toml_are_a_city(cities: Path) -> None:
    (cities / "oslo.toml").write_text(OSLO)
    assert load_city("oslo") == City(
        name="oslo",
        title="Oslo",
        timezone="Europe/Oslo",
        step=np.timedelta64(15, "m"),
        grid=(20, 24),
        first_slot=0,
        duplicates="max",
        empty="missing",
        test_days=14,
        validation_days=3,
        row0="south",
        bbox=(10.62, 59.85, 10.92, 59.98),
        country="NO",
    )


def test_three_lines_are_enough(cities: Path) -> None:
    described(cities)
    city = load_city("toy")
    assert city.title == "toy"
    assert (city.first_slot, city.duplicates, city.empty) == (1, "refuse", "kept")
    assert (city.test_days, city.validation_days, city.bbox) == (28, 7, None)
    assert (city.country, city.subdivision) == ("", "")


def test_the_users_own_city_comes_before_ours(cities: Path) -> None:
    (cities / "bj.toml").write_text(OSLO)
    assert load_city("bj").title == "Oslo"
    assert city_files()["bj"] == cities / "bj.toml"
    assert set(city_files()) == {"bj", "nyc", "demo"}


def test_an_unknown_city_is_told_with_the_known_and_where_to_describe_it(cities: Path) -> None:
    text = sentence("rome")
    assert "known: bj, demo, nyc" in text
    assert str(cities / "rome.toml") in text


@pytest.mark.parametrize(
    "name",
    ["../x", "", "A", "x/y", "x" * 33, ".", "..", "x.toml", "-x", "1st", "x\n", "x\0", "stadt-ö"],
)
def test_what_is_no_name_of_a_city_never_becomes_a_path(flowcast_home: Path, name: str) -> None:
    (flowcast_home / "cities" / "x").mkdir(parents=True)
    for path in ("x.toml", "cities/x/y.toml", "cities/A.toml", "cities/.toml", "cities/-x.toml"):
        (flowcast_home / path).write_text(OSLO)
    assert f"{name!r} is no name of a city" in sentence(name)


@pytest.mark.parametrize("name", ["x", "x" * 32, "new-york_2"])
def test_small_letters_digits_and_dashes_are_a_name(cities: Path, name: str) -> None:
    (cities / f"{name}.toml").write_text(OSLO)
    assert load_city(name).name == name


# What is wrong is named


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("title", "3"),
        ("title", '["Oslo"]'),
        ("timezone", '"Oslo"'),
        ("timezone", '"Europe"'),
        ("timezone", '"../../etc/passwd"'),
        ("timezone", '""'),
        ("timezone", "8"),
        ("step", '"7min"'),
        ("step", '"4min"'),
        ("step", '"2d"'),
        ("step", '"25h"'),
        ("step", '"300.5s"'),
        ("step", '"-30min"'),
        ("step", '"soon"'),
        ("step", '""'),
        ("step", "30"),
        ("step", "00:30:00"),
        ("grid", '"32x32"'),
        ("grid", '["32", "32"]'),
        ("grid", "[32]"),
        ("grid", "[32, 32, 2]"),
        ("grid", "[32.0, 32]"),
        ("grid", "[0, 32]"),
        ("grid", "[32, 1025]"),
        ("grid", "[true, 32]"),
        ("first_slot", "2"),
        ("first_slot", "1.0"),
        ("first_slot", "true"),
        ("duplicates", '"mean"'),
        ("duplicates", '["sum"]'),
        ("duplicates", "false"),
        ("empty", '"dropped"'),
        ("test_days", "0"),
        ("test_days", "28.0"),
        ("test_days", '"28"'),
        ("test_days", "true"),
        ("validation_days", "-1"),
        ("validation_days", "9999999999"),
        ("reader", "1"),
        ("row0", '"up"'),
        ("bbox", "[10.92, 59.85, 10.62, 59.98]"),
        ("bbox", "[10.62, 59.98, 10.92, 59.85]"),
        ("bbox", "[10.62, 59.85, 10.92]"),
        ("bbox", "[10.62, 59.85, 190.0, 59.98]"),
        ("bbox", "[10.62, nan, 10.92, 59.98]"),
        ("bbox", "[false, 59.85, 10.92, 59.98]"),
        ("bbox", '"10.62, 59.85, 10.92, 59.98"'),
        ("country", '"USA"'),
        ("country", '"us"'),
        ("country", '"XX"'),
        ("country", '["US"]'),
        ("country", "1"),
        ("subdivision", "7"),
        ("subdivision", '"NY"'),  # of no country
    ],
)
def test_a_wrong_value_is_refused_with_its_file_and_key(cities: Path, key: str, value: str) -> None:
    path = described(cities, **{key: value})
    assert sentence("toy").startswith(f"{path}: {key}")


def test_a_subdivision_must_be_one_of_its_country(cities: Path) -> None:
    described(cities, country='"CA"', subdivision='"QC"')
    assert load_city("toy").subdivision == "QC"
    path = described(cities, country='"CA"', subdivision='"NY"')
    assert sentence("toy").startswith(
        f"{path}: subdivision = 'NY' is unknown in CA; it has AB, BC,"
    )


@pytest.mark.parametrize("key", ["timezone", "step", "grid"])
def test_a_missing_key_is_named(cities: Path, key: str) -> None:
    described(cities, **{key: ""})
    assert f"the key '{key}' is missing" in sentence("toy")


@pytest.mark.parametrize("key", ["time_zone", "name", "color"])
def test_an_unknown_key_is_named_with_those_there_are(cities: Path, key: str) -> None:
    described(cities, **{key: '"x"'})
    assert f"unknown key '{key}'; a city has title, timezone, step, grid" in sentence("toy")


@pytest.mark.parametrize(
    "content", [b"grid = [4, 5", b"step = 30min", b"\xff\xfe", b"a = 1\na = 2"]
)
def test_what_is_no_toml_is_refused_with_its_path(cities: Path, content: bytes) -> None:
    path = cities / "toy.toml"
    path.write_bytes(content)
    assert f"{path} is not a TOML file that can be read" in sentence("toy")


def test_a_folder_in_the_place_of_a_city_is_refused(cities: Path) -> None:
    (cities / "toy.toml").mkdir()
    assert "is not a TOML file that can be read" in sentence("toy")


def test_a_reader_that_there_is_not_is_named(cities: Path) -> None:
    described(cities, reader='"nuscenes"')
    with pytest.raises(FlowcastError, match=r"toy names the reader 'nuscenes'; it may be taxibj"):
        check_reader(load_city("toy"))


# Steps and grids as texts


@pytest.mark.parametrize(
    ("text", "minutes", "slots"),
    [
        ("5min", 5, 288),
        ("300s", 5, 288),
        ("30min", 30, 48),
        ("30 min", 30, 48),
        ("1800s", 30, 48),
        ("45min", 45, 32),
        ("1h", 60, 24),
        ("6h", 360, 4),
        ("24h", 1440, 1),
        ("1d", 1440, 1),
    ],
)
def test_a_step_is_a_number_and_a_unit(text: str, minutes: int, slots: int) -> None:
    assert parse_step(text) == np.timedelta64(minutes, "m")
    assert City("toy", "Toy", "UTC", parse_step(text), (1, 1)).slots_per_day == slots


def test_a_grid_is_rows_and_columns() -> None:
    assert parse_grid("16x12") == (16, 12)


@pytest.mark.parametrize("text", ["", "16", "16x", "16x12x2", "0x5", "1025x5", "-1x5", "16 x 12"])
def test_other_texts_are_no_grid(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not \[rows, columns\]"):
        parse_grid(text)
