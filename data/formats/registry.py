"""READERS: every format that flowcast ingests, and the files that a path stands for.

A format is its module here and its line in `READERS`; nothing else knows names of files. A file of
HDF5 is read by the reader that the TOML of its city names first; one whose content is of another format
goes to the next that accepts it.
"""

from collections.abc import Iterable
from pathlib import Path

from data.city import City
from data.errors import FlowcastError
from data.formats.reading import OtherFormat, Reader, Reading, WeatherReading
from data.formats.tables import is_flow_csv, is_parquet, open_flow_table
from data.formats.taxibj import is_hdf5, open_taxibj
from data.formats.taxibj_weather import open_taxibj_weather
from data.formats.weather_csv import is_weather_csv, open_weather_csv

READERS: dict[str, Reader] = {
    "taxibj": Reader("flow as HDF5 (TaxiBJ)", (".h5", ".hdf5"), is_hdf5, open_taxibj),
    "csv": Reader("flow as CSV", (".csv",), is_flow_csv, open_flow_table),
    "parquet": Reader("flow as Parquet", (".parquet",), is_parquet, open_flow_table),
    "weather-csv": Reader("weather as CSV", (".csv",), is_weather_csv, open_weather_csv),
    "taxibj-weather": Reader(
        "weather as HDF5 (TaxiBJ)", (".h5", ".hdf5"), is_hdf5, open_taxibj_weather
    ),
}


def suffixes() -> tuple[str, ...]:
    """Returns with what the names of all files that can be ingested end."""
    return tuple(dict.fromkeys(one for reader in READERS.values() for one in reader.suffixes))


def check_reader(city: City) -> None:
    """Checks that the reader that the TOML of `city` names exists.

    Raises:
        FlowcastError: it does not.
    """
    if city.reader not in READERS:
        raise FlowcastError(
            f"the TOML of {city.name} names the reader {city.reader!r}; it may be {', '.join(READERS)}"
        )


def read_file(path: Path, city: City) -> Reading | WeatherReading:
    """Returns the flow or the weather that a file holds.

    Raises:
        FlowcastError: the file is refused, or the city names a reader that does not exist.
    """
    check_reader(city)
    for key in sorted(READERS, key=lambda key: key != city.reader):
        if READERS[key].accepts(path):
            try:
                return READERS[key].read(path, city)
            except OtherFormat:
                continue
    raise _unknown(path)


def input_files(paths: Iterable[Path]) -> list[Path]:
    """Returns the files that `paths` stand for: files as given, those of a folder by name.

    Raises:
        FlowcastError: a path is missing, a file is of no format in `READERS`, or a folder has none.
    """
    return [file for path in paths for file in _files(path)]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        if not (_has_suffix(path) or _is_accepted(path)):
            raise _unknown(path)
        return [path]
    if not path.is_dir():
        raise FlowcastError(f"{path} does not exist; name a file or a folder of files")
    files = [
        file
        for file in sorted(path.iterdir())
        if file.is_file()
        and not file.name.startswith(".")
        and _has_suffix(file)
        and _is_accepted(file)
    ]
    if not files:
        raise FlowcastError(
            f"the folder {path} has no file that can be ingested ({_titles()}); name another"
        )
    return files


def _has_suffix(path: Path) -> bool:
    return path.name.lower().endswith(suffixes())


def _is_accepted(path: Path) -> bool:
    return any(reader.accepts(path) for reader in READERS.values())


def _unknown(path: Path) -> FlowcastError:
    return FlowcastError(
        f"{path} is of no format that can be ingested ({_titles()}); convert it, or name another file"
    )


def _titles() -> str:
    return ", ".join(reader.title for reader in READERS.values())
