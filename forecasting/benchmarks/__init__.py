"""Datasets: how each benchmark becomes a task, at its published size or a quick one.

Nothing here imports torch: a dataset names its code, which is loaded where it is first used.
"""

from collections.abc import Callable
from pkgutil import resolve_name
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from forecasting.benchmarks.config import DatasetConfig
    from forecasting.benchmarks.task import Task


class Dataset(NamedTuple):
    """A dataset's entry: its module, and the names in it of its configuration and of what opens it."""

    module: str
    config_name: str
    open_name: str

    @property
    def config(self) -> "type[DatasetConfig]":
        """Returns the class of its configuration."""
        found: type[DatasetConfig] = resolve_name(f"{self.module}:{self.config_name}")
        return found

    @property
    def open(self) -> "Callable[..., Task]":
        """Returns what makes a task of its configuration, the path of its files and a device."""
        found: Callable[..., Task] = resolve_name(f"{self.module}:{self.open_name}")
        return found


ROOM = "forecasting.benchmarks"
DATASETS: dict[str, Dataset] = {
    "moving-mnist": Dataset(f"{ROOM}.moving_mnist", "MovingMnistConfig", "open_moving_mnist"),
    "taxibj": Dataset(f"{ROOM}.taxibj", "TaxiBJConfig", "open_taxibj"),
    "kth": Dataset(f"{ROOM}.videos", "KTHConfig", "open_kth_task"),
    "human36m": Dataset(f"{ROOM}.videos", "Human36MConfig", "open_human36m_task"),
    "simulated-city": Dataset(
        f"{ROOM}.simulated_city", "SimulatedCityConfig", "open_simulated_city"
    ),
    "array": Dataset(f"{ROOM}.array", "ArrayConfig", "open_array"),
}
