from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from data.city import City
from data.errors import FlowcastError
from data.formats.reading import OtherFormat
from data.formats.taxibj import open_taxibj
from data.formats.taxibj_weather import VARIABLES, open_taxibj_weather

BEIJING = City("bj-toy", "Beijing", "Asia/Shanghai", np.timedelta64(30, "m"), (2, 3))
DATES = np.array([b"2013070101", b"2013070102", b"2013070148"])


def drawn(path: Path, **other: np.ndarray) -> Path:
    """A file of three slots: sunny, dusty, of no type; `other` replaces datasets."""
    types = np.zeros((3, 17))
    types[0, 0] = types[1, 16] = 1
    columns = {"date": DATES, "Weather": types}
    columns |= {"Temperature": np.array([20.5, -3, np.nan]), "WindSpeed": np.array([0, 7.5, 30])}
    with h5py.File(path, "w") as file:
        for name, values in (columns | other).items():
            file[name] = values
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "BJ_Meteorology.h5"


def test_a_slot_s_weather_is_known_when_the_slot_is_over(path: Path) -> None:
    reading = open_taxibj_weather(drawn(path), BEIJING)
    weather = reading.weather
    over = ["2013-06-30T16:30", "2013-06-30T17:00", "2013-07-01T16:00"]  # 16:00 UTC is midnight
    assert (weather["time"].values == np.array(over, dtype="datetime64[s]")).all()
    assert weather["variable"].values.tolist() == list(VARIABLES)
    assert len(VARIABLES) == 2 + 17
    np.testing.assert_array_equal(weather.sel(variable="temperature"), [20.5, -3, np.nan])
    np.testing.assert_array_equal(weather.sel(variable="wind_speed"), [0, 7.5, 30])
    np.testing.assert_array_equal(weather.sel(variable="sunny"), [1, 0, np.nan])
    np.testing.assert_array_equal(weather.sel(variable="dusty"), [0, 1, np.nan])
    assert reading.repairs == {"missing": 18}


def test_a_file_of_weather_is_no_flow(path: Path) -> None:
    with pytest.raises(OtherFormat, match="holds weather, not flow"):
        open_taxibj(drawn(path), BEIJING)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"Weather": np.zeros((3, 16))}, r"Weather of shape \(3, 16\) .* shape \(3, 17\)"),
        ({"Weather": np.full((3, 17), 2.0)}, "3 of 3 rows of Weather, the first of 2013070101"),
        ({"Temperature": np.zeros(2)}, r"Temperature of shape \(2,\)"),
        ({"WindSpeed": np.array([b"a", b"b", b"c"])}, r"WindSpeed of shape \(3,\) and dtype \|S1"),
        ({"date": DATES[:0]}, "declares 0 slots"),
        ({"date": np.array([b"2013070101", b"soon", b"2013070148"])}, "the first 'soon'"),
    ],
)
def test_a_wrong_file_is_one_sentence(path: Path, other: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(FlowcastError, match=said) as refused:
        open_taxibj_weather(drawn(path, **other), BEIJING)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def linked(path: Path) -> None:
    with h5py.File(drawn(path.with_name("other.h5")), "r"), h5py.File(drawn(path), "r+") as file:
        del file["Temperature"]
        file["Temperature"] = h5py.ExternalLink("other.h5", "Temperature")


def unwritten(path: Path) -> None:
    with h5py.File(drawn(path), "r+") as file:
        del file["WindSpeed"]
        file.create_dataset("WindSpeed", (3,), chunks=(1,), dtype="f8")


def huge(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name in ("date", "Temperature", "WindSpeed", "Weather"):
            shape = (2**40, 17) if name == "Weather" else (2**40,)
            file.create_dataset(name, shape, chunks=(*shape[1:], 1)[::-1], dtype="i4")


def lacking(path: Path) -> None:
    with h5py.File(drawn(path), "r+") as file:
        del file["Weather"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (linked, "has a link in place of 'Temperature'"),
        (unwritten, "holds only 0 of the 3 chunks"),
        (huge, "declares 1,099,511,627,776 slots"),
        (lacking, "has no dataset 'Weather'; weather is `date`"),
    ],
)
def test_a_harmful_file_is_refused_before_its_data_are_read(
    path: Path, make: Callable[[Path], None], said: str
) -> None:
    make(path)
    with pytest.raises(FlowcastError, match=said):
        open_taxibj_weather(path, BEIJING)
