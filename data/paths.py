"""The layout of the home: every folder and file that flowcast keeps, a function for each.

Nothing of it lies in the repository. `city` is the name of a city.
"""

import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """Returns `FLOWCAST_HOME`, or the platform's folder for user data."""
    named = os.environ.get("FLOWCAST_HOME")
    return Path(named).expanduser() if named else platformdirs.user_data_path("flowcast")


def database_file() -> Path:
    """Returns the SQLite database, which `FLOWCAST_STORE` may replace."""
    return home() / "flowcast.db"


def cities_folder() -> Path:
    """Returns the folder of the user's own city files."""
    return home() / "cities"


def city_file(city: str) -> Path:
    """Returns the user's TOML file of a city."""
    return cities_folder() / f"{city}.toml"


def overlay_file(city: str) -> Path:
    """Returns the GeoJSON that the dashboard draws over the map of a city."""
    return cities_folder() / f"{city}.geojson"


def inbox_folder(city: str) -> Path:
    """Returns the folder that new files of a city are dropped in."""
    return home() / "inbox" / city


def journal_file(city: str) -> Path:
    """Returns the file that says how far each file of an inbox is ingested."""
    return home() / "inbox" / f".{city}.json"


def inbox_lock(city: str) -> Path:
    """Returns the lock of the process that ingests an inbox."""
    return home() / "inbox" / f".{city}.lock"


def models_root() -> Path:
    """Returns the root of the model registry: `CITY/VERSION/` below it."""
    return home() / "models"


def version_folder(city: str, version: str) -> Path:
    """Returns the folder of one model version."""
    return models_root() / city / version


def training_folder(city: str) -> Path:
    """Returns the folder of a city's unfinished training: its checkpoint and its lock."""
    return models_root() / city / "training"


def comparisons_folder(city: str) -> Path:
    """Returns the folder of a city's comparisons of networks, one folder each."""
    return home() / "contests" / city


def dataset_folder(name: str) -> Path:
    """Returns the folder of a benchmark's dataset."""
    return home() / "datasets" / name


def clips_cache() -> Path:
    """Returns the folder of decoded clips of the video benchmarks."""
    return home() / "cache"


def benchmarks_folder() -> Path:
    """Returns the folder of benchmark results: `DATASET/NETWORK`, `experiments/` and `speed/`."""
    return home() / "benchmarks"


def metrics_file() -> Path:
    """Returns the text file that Prometheus reads."""
    return home() / "metrics" / "flowcast.prom"


def secrets_file() -> Path:
    """Returns the file with which the dashboard asks users to sign in."""
    return home() / "secrets.toml"


def demo_folder() -> Path:
    """Returns the folder of the files that `forecast demo` makes."""
    return home() / "demo"
