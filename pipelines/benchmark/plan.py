"""The plan of a benchmark run: a dataset, a network, a scale, and the settings laid over them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from data.errors import FlowcastError, check_known
from data.paths import benchmarks_folder, dataset_folder
from forecasting.benchmarks import DATASETS
from forecasting.benchmarks.config import DatasetConfig
from forecasting.benchmarks.overrides import overridden, parsed
from forecasting.benchmarks.task import Task
from forecasting.networks import NETWORKS
from forecasting.networks.base import NetworkConfig
from forecasting.training.state import TrainingConfig

SCALES = ("quick", "paper")
SET_ELSEWHERE = {
    "channels": "choose another dataset",
    "grid": "choose another dataset, or data.size or data.grid where it has one",
    "history": "set data.history",
    "training.history": "set data.history",
    "training.horizon": "set data.horizon",
}
QUICK_TRAINING = {"epochs": 6, "batch": 4}
"""The same for all networks: few windows make for many steps only in small batches."""


@dataclass(frozen=True)
class RunPlan:
    """All that the result of a run follows from, but for the files of the dataset."""

    dataset: str
    network: str
    scale: str
    data: DatasetConfig
    sizes: Mapping[str, str]  # of the network, field to text, laid over those of the scale
    training: TrainingConfig
    settings: tuple[str, ...] = ()  # that were named, as `key=value`

    @property
    def name(self) -> str:
        """A name for its folder."""
        return "-".join([self.network, self.scale, *self.settings, f"seed={self.training.seed}"])


def plan(
    dataset: str,
    network: str,
    scale: str = "quick",
    settings: Mapping[str, str] | None = None,
    seed: int = 0,
) -> RunPlan:
    """Returns the plan of a run.

    `settings` are by field: `patch` of the network, `training.epochs`, `data.horizon`. The seed is that of
    weights, batch order and, where sequences are drawn, of those.

    Raises:
        FlowcastError: there is no such dataset, network, scale or field.
    """
    check_known("dataset", [dataset], DATASETS)
    check_known("network", [network], NETWORKS)
    check_known("scale", [scale], SCALES)
    settings = settings or {}
    for key in settings:
        if key in SET_ELSEWHERE:
            raise FlowcastError(f"{key} follows from the dataset; {SET_ELSEWHERE[key]}")
        if "." in key and not key.startswith(("data.", "training.")):
            raise FlowcastError(
                f"there is no setting {key!r}; write a size of the network as patch=4, others as "
                f"training.FIELD=VALUE or data.FIELD=VALUE"
            )
    if "training.seed" in settings:
        raise FlowcastError("the seed is set by --seed")
    dataset_sizes, published = DATASETS[dataset].config, NETWORKS[network].paper_training
    data = dataset_sizes.paper() if scale == "paper" else dataset_sizes.quick()
    data = overridden(data, starting_with("data.", settings))
    lengths = {"seed": seed, "history": data.history, "horizon": data.horizon}
    recipe = published if scale == "paper" else QUICK_TRAINING
    training = TrainingConfig(**{**recipe, **lengths})
    training = overridden(training, starting_with("training.", settings))
    sizes = {key: text for key, text in settings.items() if "." not in key}
    parsed(NETWORKS[network].config, sizes)  # Wrong sizes are refused before the data are read.
    named = tuple(f"{key}={text}" for key, text in sorted(settings.items()))
    return RunPlan(dataset, network, scale, data, sizes, training, named)


def default_folder(chosen: RunPlan, precision: str = "float32", data: Path | None = None) -> Path:
    """Returns the folder that a run is written to where none is named; runs on a file by its name."""
    name = chosen.name if precision == "float32" else f"{chosen.name}-{precision}"
    dataset = data.stem if data is not None and data.is_file() else chosen.dataset
    return benchmarks_folder() / dataset / name


def open_task(chosen: RunPlan, data: Path | None, device: torch.device) -> Task:
    """Returns the task of a plan, read from `data` or from the home's folder for the dataset."""
    return DATASETS[chosen.dataset].open(
        chosen.data, data or dataset_folder(chosen.dataset), device
    )


def network_config(chosen: RunPlan, task: Task) -> NetworkConfig:
    """Returns the network's configuration for the task's frames."""
    config_class = NETWORKS[chosen.network].config
    size = config_class.paper if chosen.scale == "paper" else config_class.quick
    return overridden(size(task.frames), chosen.sizes)


def starting_with(prefix: str, settings: Mapping[str, str]) -> dict[str, str]:
    """Returns the settings that begin with `prefix`, without it."""
    return {key[len(prefix) :]: text for key, text in settings.items() if key.startswith(prefix)}
