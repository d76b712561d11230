"""Readers: which function reads which format, and the files that a path stands for."""

from collections.abc import Callable, Iterable
from pathlib import Path

from data.city import City
from data.errors import FlowcastError
from data.taxibj import Reading, open_taxibj

READERS: dict[str, Callable[[Path, City], Reading]] = {"taxibj": open_taxibj}
SUFFIXES = (".h5", ".hdf5")


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


def flow_files(paths: Iterable[Path]) -> list[Path]:
    """Returns the files that `paths` stand for: files as given, the HDF5 files of folders by name.

    Raises:
        FlowcastError: a path is missing, a folder has no HDF5 file, or a file is an `.npz`.
    """
    return [file for path in paths for file in _files(path)]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return _files_of(path)
    if not path.is_file():
        raise FlowcastError(
            f"{path} does not exist; name a file or a folder of {_suffixes()} files"
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
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    ]
    if not files:
        raise FlowcastError(f"the folder {folder} has no {_suffixes()} file; name one that has")
    return files


def _suffixes() -> str:
    return " or ".join(SUFFIXES)
