"""Datasets: how each benchmark becomes a task, at its published size or a quick one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from forecasting.benchmarks.config import DatasetConfig
from forecasting.benchmarks.moving_mnist import MovingMnistConfig, open_moving_mnist
from forecasting.benchmarks.simulated_city import SimulatedCityConfig, open_simulated_city
from forecasting.benchmarks.task import Task
from forecasting.benchmarks.taxibj import TaxiBJConfig, open_taxibj
from forecasting.benchmarks.videos import (
    Human36MConfig,
    KTHConfig,
    open_human36m_task,
    open_kth_task,
)


class Dataset(NamedTuple):
    """How a dataset becomes a task: its configuration, and the function that opens its folder."""

    config: type[DatasetConfig]
    open: Callable[[Any, Path, torch.device], Task]


DATASETS: dict[str, Dataset] = {
    "moving-mnist": Dataset(MovingMnistConfig, open_moving_mnist),
    "taxibj": Dataset(TaxiBJConfig, open_taxibj),
    "kth": Dataset(KTHConfig, open_kth_task),
    "human36m": Dataset(Human36MConfig, open_human36m_task),
    "simulated-city": Dataset(SimulatedCityConfig, open_simulated_city),
}
