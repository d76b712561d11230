"""Readers: which function reads which format, and the files that a path stands for.

A city's flow is in the format that its TOML names, or in tables, CSV or Parquet, which tell by their
columns what they hold. Its weather may stand beside it: in CSV files, and in HDF5 files that tell
themselves that they hold weather.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from data.city import City
from data.errors import FlowcastError
from data.formats.reading import Reading
from data.formats.sandbox.read_in_child import HoldsWeather
from data.formats.tables import is_flow_table, names_flow, open_flow_table
from data.formats.taxibj import open_taxibj
from data.formats.taxibj_weather import open_meteorology
from data.formats.weather_csv import is_weather_csv, open_weather_csv
from data.weather import WeatherReading

READERS: dict[str, Callable[[Path, City], Reading]] = {"taxibj": open_taxibj}
SUFFIXES = (".h5", ".hdf5")
TABLES = (".csv", ".parquet")


def reader_of(city: City) -> Callable[[Path, City], Reading]:
    """Returns the function that reads the files of `city`.

    Raises:
        FlowcastError: its TOML names a reader that there is not.
    """
    if city.reader not in READERS:
        raise FlowcastError(
            f"the TOML of {city.name} names the reader {city.reader!r}; there is {', '.join(READERS)}"
        )
    return READERS[city.reader]


def read_file(path: Path, city: City) -> Reading | WeatherReading:
    """Returns the flow or the weather that a file holds.

    Raises:
        FlowcastError: the file is refused, or the city names a reader that there is not.
    """
    if path.suffix.lower() in TABLES:
        if is_flow_table(path) or names_flow(path):  # a column that lacks is told by its reader
            return open_flow_table(path, city)
        return open_weather_csv(path, city)
    try:
        return reader_of(city)(path, city)
    except HoldsWeather:
        return open_meteorology(path, city)


def input_files(paths: Iterable[Path]) -> list[Path]:
    """Returns the files that `paths` stand for, those of a folder by name.

    They are files as given, and of folders the HDF5 files and the tables of flow or weather.

    Raises:
        FlowcastError: a path is missing, a folder has no such file, or a file is an `.npz`.
    """
    return [file for path in paths for file in _files(path)]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return _files_of(path)
    if not path.is_file():
        raise FlowcastError(
            f"{path} does not exist; name a file or a folder of {_suffixes()} files or tables (CSV, Parquet)"
        )
    if path.suffix.lower() == ".npz":
        raise FlowcastError(
            f"{path} holds no times and serves benchmarks only, never a city's archive; "
            f"name {_suffixes()} files"
        )
    return [path]


def _files_of(folder: Path) -> list[Path]:
    files = [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and not path.name.startswith(".") and _serves(path)
    ]
    if not files:
        raise FlowcastError(
            f"the folder {folder} has no {_suffixes()} file and no table of flow or weather; name one "
            f"that has"
        )
    return files


def _serves(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix in SUFFIXES or (
        suffix in TABLES and (is_flow_table(path) or is_weather_csv(path))
    )


def _suffixes() -> str:
    return " or ".join(SUFFIXES)
