from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from data.city import City, load_city
from data.errors import FlowcastError
from data.flow import label
from data.formats.reading import Reader, Reading, WeatherReading
from data.formats.registry import READERS, input_files, read_file
from data.formats.tables import write_flow_csv
from data.formats.taxibj import write_taxibj
from data.formats.taxibj_weather import TYPES
from data.store.store import Store
from pipelines.ingest.files import ingest

HOUR = np.timedelta64(3600, "s")
CITY = City("toy", "Toy", "UTC", HOUR, (2, 3))
TIMES = np.datetime64("2026-01-01T00:00", "s") + np.arange(3) * HOUR
FLOW = label(np.arange(36).reshape(3, 2, 2, 3), TIMES, CITY)
TEMPERATURES = [4.0, 5.5, -1.0]


def write_parquet(path: Path) -> None:
    write_flow_csv(path.with_suffix(".csv"), FLOW)
    pd.read_csv(path.with_suffix(".csv")).to_parquet(path)
    path.with_suffix(".csv").unlink()


def write_weather_csv(path: Path) -> None:
    rows = zip(TIMES + HOUR, TEMPERATURES, strict=True)
    path.write_text("time,temperature\n" + "".join(f"{time}Z,{value}\n" for time, value in rows))


def write_taxibj_weather(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["date"] = np.array([f"202601010{slot}".encode() for slot in (1, 2, 3)])
        file["Temperature"], file["WindSpeed"] = TEMPERATURES, [1.0, 2.0, 3.0]
        file["Weather"] = np.eye(len(TYPES))[:3]


SAMPLES: dict[str, Callable[[Path], None]] = {
    "taxibj": lambda path: write_taxibj(path, FLOW.values, TIMES, CITY),
    "csv": lambda path: write_flow_csv(path, FLOW),
    "parquet": write_parquet,
    "weather-csv": write_weather_csv,
    "taxibj-weather": write_taxibj_weather,
}


@pytest.fixture(params=READERS)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file of each format that there is."""
    path = tmp_path / f"sample{READERS[request.param].suffixes[0]}"
    SAMPLES[request.param](path)
    return path


def check(reading: Reading | WeatherReading) -> None:
    if isinstance(reading, WeatherReading):
        known = reading.weather.sel(variable="temperature")
        assert [*known["time"].values] == [*TIMES + HOUR]
        assert [*known.values] == TEMPERATURES
    else:
        assert reading.flow.identical(FLOW)
    assert reading.repairs == {}


def test_a_reader_accepts_its_file_and_reads_what_was_written(
    sample: Path, request: pytest.FixtureRequest
) -> None:
    reader = READERS[request.node.callspec.params["sample"]]
    assert reader.accepts(sample)
    check(reader.read(sample, CITY))


def test_the_registry_finds_the_reader_of_a_file(sample: Path) -> None:
    check(read_file(sample, CITY))
    assert input_files([sample.parent]) == [sample]


def test_a_file_of_each_format_is_ingested(sample: Path, flowcast_home: Path) -> None:
    store = Store()
    (ingested,) = ingest(store, CITY, [sample])
    assert (ingested.refused, ingested.added.added) == ("", 3)
    stored = store.weather.read(CITY) if ingested.series == "weather" else store.flow.read(CITY)
    assert stored.sizes["time"] == 3


def test_a_damaged_file_is_refused_with_one_sentence_that_names_it(sample: Path) -> None:
    sample.write_bytes(b"no file of any format\x00")
    with pytest.raises(FlowcastError) as refusal:
        read_file(sample, CITY)
    text = str(refusal.value)
    assert text.startswith(str(sample)) and "\n" not in text and ";" in text


def test_a_format_of_one_s_own_is_a_file_and_a_line(
    flowcast_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path, city: City) -> Reading:
        return Reading(label(np.load(path), TIMES, city), "observed", {})

    own = Reader("flow as NPY", (".npy",), lambda path: path.suffix == ".npy", read)
    monkeypatch.setitem(READERS, "own", own)
    np.save(tmp_path / "a.npy", FLOW.values)
    store = Store()
    (ingested,) = ingest(store, CITY, [tmp_path])
    assert (ingested.refused, ingested.added.added) == ("", 3)
    assert store.flow.read(CITY).identical(FLOW)


def test_every_city_we_ship_has_a_reader() -> None:
    cities = [load_city(name) for name in ("bj", "nyc", "demo")]
    assert {city.reader for city in cities} <= set(READERS)


def test_the_reader_of_a_city_is_asked_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def own(name: str) -> Reader:
        def read(path: Path, city: City) -> Reading:
            asked.append(name)
            return Reading(FLOW, "observed", {})

        return Reader(name, (".own",), lambda path: path.suffix == ".own", read)

    for name in ("first", "second"):
        monkeypatch.setitem(READERS, name, own(name))
    for reader in ("taxibj", "second"):
        read_file(tmp_path / "a.own", City("toy", "", "UTC", HOUR, (2, 3), reader=reader))
    assert asked == ["first", "second"]


def test_a_folder_stands_for_its_files_by_name(tmp_path: Path) -> None:
    for name in ("BJ14.h5", "BJ13.h5", "BJ15.HDF5", ".BJ16.h5", "BJ_Holiday.txt", "dataset.npz"):
        (tmp_path / name).touch()
    (tmp_path / "older.h5").mkdir()
    headers = {"a.csv": "time,rain", "b.CSV": "Date,rain", "c.csv": "init_time,y,x", "d.csv": "a"}
    for name, header in headers.items():
        (tmp_path / name).write_text(header)
    names = [path.name for path in input_files([tmp_path])]
    assert names == ["BJ13.h5", "BJ14.h5", "BJ15.HDF5", "a.csv", "b.CSV"]


def test_files_are_taken_as_given(tmp_path: Path) -> None:
    later, earlier = tmp_path / "b.dat", tmp_path / "a.h5"
    for path in (later, earlier):
        SAMPLES["taxibj"](path)
    assert input_files([later, earlier]) == [later, earlier]


def test_paths_that_cannot_be_ingested_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FlowcastError, match=r"none\.h5 does not exist"):
        input_files([tmp_path / "none.h5"])
    with pytest.raises(FlowcastError, match=r"has no file that can be ingested"):
        input_files([tmp_path])
    (tmp_path / "dataset.npz").touch()
    with pytest.raises(FlowcastError, match=r"dataset\.npz is of no format that can be ingested"):
        input_files([tmp_path / "dataset.npz"])
