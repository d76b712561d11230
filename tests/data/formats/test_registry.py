from pathlib import Path

import pytest

from data.city import City, load_city
from data.errors import FlowcastError
from data.formats.registry import READERS, input_files


def test_every_city_we_ship_has_a_reader() -> None:
    cities: list[City] = [load_city(name) for name in ("bj", "nyc", "demo")]
    assert {city.reader for city in cities} <= set(READERS)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
def test_every_reader_refuses_a_text_with_a_sentence(reader: object, tmp_path: Path) -> None:
    path = tmp_path / "flow.h5"
    path.write_text("no flow")
    with pytest.raises(FlowcastError, match=r"flow\.h5 could not be read"):
        reader(path, load_city("bj"))


def test_a_folder_stands_for_its_hdf5_files_by_name(tmp_path: Path) -> None:
    for name in ("BJ14.h5", "BJ13.h5", "BJ15.HDF5", ".BJ16.h5", "BJ_Holiday.txt", "dataset.npz"):
        (tmp_path / name).touch()
    (tmp_path / "older.h5").mkdir()
    names = [path.name for path in input_files([tmp_path])]
    assert names == ["BJ13.h5", "BJ14.h5", "BJ15.HDF5"]


def test_a_folder_s_csv_files_are_taken_where_their_header_is_that_of_weather(
    tmp_path: Path,
) -> None:
    for name, header in (
        ("a.csv", "time,rain"),
        ("b.CSV", "Date,rain"),
        ("c.csv", "init_time,y,x"),
    ):
        (tmp_path / name).write_text(header)
    assert [path.name for path in input_files([tmp_path])] == ["a.csv", "b.CSV"]


def test_files_are_taken_as_given(tmp_path: Path) -> None:
    later, earlier = tmp_path / "b.dat", tmp_path / "a.h5"
    for path in (later, earlier):
        path.touch()
    assert input_files([later, earlier]) == [later, earlier]


def test_a_missing_path_and_a_folder_without_flow_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FlowcastError, match=r"none\.h5 does not exist"):
        input_files([tmp_path / "none.h5"])
    with pytest.raises(FlowcastError, match=r"has no \.h5 or \.hdf5 file"):
        input_files([tmp_path])


def test_the_benchmarks_file_never_enters_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "dataset.npz"
    path.touch()
    with pytest.raises(FlowcastError, match="no times and serves benchmarks only"):
        input_files([path])
