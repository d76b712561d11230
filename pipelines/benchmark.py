"""Benchmark: dataset -> task -> network, trained and selected -> scores on the test part -> a folder.

The folder of a run holds `result.json`, `weights.safetensors` (of the chosen epoch), `samples.npz`
(some test windows with their forecasts) and, until the result stands, `checkpoint.safetensors`. All
figures but those under `machine` follow from the settings and the seed.
"""

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from data.errors import FlowcastError
from data.files import only_one, write_whole
from data.home import home
from forecasting import cost
from forecasting.checkpoint import load_checkpoint, save_checkpoint
from forecasting.datasets import DATASETS, DatasetConfig
from forecasting.feed import Feed
from forecasting.models import NETWORKS, config_of, write_network
from forecasting.models.network import NetworkConfig
from forecasting.neural import pick_device
from forecasting.scoring import persistence, predictor, score, squared_error
from forecasting.settings import overridden
from forecasting.task import Task
from forecasting.training import Batch, Epoch, TrainingConfig, TrainingState, fit

FORMAT = 1
SAMPLES = 3
CHECKPOINT, WEIGHTS, RESULT = "checkpoint.safetensors", "weights.safetensors", "result.json"
SCALES = ("quick", "paper")
FOLLOWING = {
    "channels": "choose another dataset",
    "grid": "choose another dataset, or data.size or data.grid where it has one",
    "history": "set data.history",
    "training.history": "set data.history",
    "training.horizon": "set data.horizon",
    "training.seed": "use --seed",
}
QUICK_RECIPE = {"epochs": 8}
"""The same for all networks, for short trainings; the rest as for a city."""


@dataclass(frozen=True)
class Plan:
    """All that the result of a run follows from, but for the files of the dataset.

    Attributes:
        dataset: key in `DATASETS`.
        network: key in `NETWORKS`.
        scale: `quick` or `paper`.
        data: configuration of the dataset.
        sizes: of the network, field to text, laid over those of the scale.
        training: configuration of the training.
        settings: what was asked for beside the scale, as `key=value`.
    """

    dataset: str
    network: str
    scale: str
    data: DatasetConfig
    sizes: Mapping[str, str]
    training: TrainingConfig
    settings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """A name for its folder and for tables."""
        return "-".join([self.network, self.scale, *self.settings, f"seed={self.training.seed}"])


@dataclass(frozen=True)
class Finished:
    """A run that is done.

    Attributes:
        folder: that holds its files.
        result: content of `result.json`.
        samples: `past`, `observed` and `forecast` of some test windows, each `(n, t, c, y, x)`.
    """

    folder: Path
    result: dict[str, Any]
    samples: dict[str, np.ndarray]


def plan(
    dataset: str,
    network: str,
    scale: str = "quick",
    settings: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Plan:
    """Returns the plan of a run.

    Args:
        dataset: key in `DATASETS`.
        network: key in `NETWORKS`.
        scale: `quick` or `paper`.
        settings: field to text: `patch` of the network, `training.epochs`, `data.horizon`.
        seed: of weights, order and, where sequences are drawn, of those.

    Raises:
        FlowcastError: there is no such dataset, network, scale or field.
    """
    for word, key, known in (
        ("dataset", dataset, DATASETS),
        ("network", network, NETWORKS),
        ("scale", scale, SCALES),
    ):
        if key not in known:
            raise FlowcastError(f"there is no {word} {key!r}; there is {', '.join(known)}")
    settings = settings or {}
    for key in settings:
        if "." in key and not key.startswith(("data.", "training.")):
            raise FlowcastError(
                f"there is no setting {key!r}; write a size of the network as patch=4, others as "
                f"training.FIELD=VALUE or data.FIELD=VALUE"
            )
    data_class = DATASETS[dataset].config
    data = data_class.paper() if scale == "paper" else data_class.quick()
    data = overridden(data, _of(settings, "data."))
    recipe = NETWORKS[network].recipe if scale == "paper" else QUICK_RECIPE
    training = TrainingConfig(**{**recipe, "seed": seed})
    training = dataclasses.replace(training, history=data.history, horizon=data.horizon)
    training = overridden(training, _of(settings, "training."))
    sizes = {key: text for key, text in settings.items() if "." not in key}
    for key, way_out in FOLLOWING.items():
        if key in settings:
            raise FlowcastError(f"{key} follows from the dataset; {way_out}")
    named = tuple(f"{key}={text}" for key, text in sorted(settings.items()))
    return Plan(dataset, network, scale, data, sizes, training, named)


def default_folder(chosen: Plan) -> Path:
    """Returns the folder that a run is written to where none is named."""
    return home() / "benchmarks" / chosen.dataset / chosen.name


def run(
    chosen: Plan,
    data: Path | None = None,
    out: Path | None = None,
    *,
    device: str = "auto",
    resume: bool = False,
    stop: threading.Event | None = None,
) -> Iterator[Batch | Epoch | Finished]:
    """Trains, selects on validation, tests, writes the folder; yields progress, then the result.

    Args:
        chosen: by `plan`.
        data: folder of the dataset's files; `datasets/NAME` in the home if None.
        out: folder of the run; `default_folder` if None.
        device: `auto`, `cpu`, `cuda`.
        resume: go on with the run that `out` holds, after its last finished epoch.
        stop: once set, the run ends after the batch at hand; it can be resumed.

    Raises:
        FlowcastError: data are missing, settings do not fit, `out` holds another run, or the run
            was stopped.
    """
    place = pick_device(device)
    folder = out or default_folder(chosen)
    _check_folder(folder, resume)
    task = open_task(chosen, data, place)
    config = network_config(chosen, task)
    facts = _facts(chosen, task, config)
    with only_one(folder / ".lock", f"another run is writing {folder}"):
        _check_folder(folder, resume)
        if (folder / RESULT).exists():
            yield _finished(folder, facts)
            return
        builder = _builder(chosen.network, config)
        if resume and (folder / CHECKPOINT).exists():
            state = load_checkpoint(folder / CHECKPOINT, builder, place, facts)
        else:
            state = TrainingState.start(builder, chosen.training, place)
        speed = _Speed()
        for event in fit(
            state, task.train, lambda network: squared_error(predictor(network), task.validation)
        ):
            if isinstance(event, Epoch):
                save_checkpoint(folder / CHECKPOINT, state, facts)
            speed.see(event)
            yield event
            if stop is not None and stop.is_set():
                raise FlowcastError(
                    f"stopped after {len(state.history)} finished epochs; "
                    f"to go on, give the same command with --resume"
                )
        yield _test(folder, chosen, task, state, facts, speed)


def open_task(chosen: Plan, data: Path | None, device: torch.device) -> Task:
    """Returns the task of a plan, read from `data` or from the home's folder for the dataset."""
    folder = data or home() / "datasets" / chosen.dataset
    return DATASETS[chosen.dataset].open(chosen.data, folder, device)


def network_config(chosen: Plan, task: Task) -> NetworkConfig:
    """Returns the network's configuration for the task's frames."""
    config_class = NETWORKS[chosen.network].config
    size = config_class.paper if chosen.scale == "paper" else config_class.quick
    return overridden(size(task.frames), chosen.sizes)


def load_network(folder: Path, device: torch.device) -> nn.Module:
    """Returns the trained network of a finished run.

    Raises:
        FlowcastError: the folder holds no finished run, or its files do not belong together.
    """
    result = read_result(folder)
    try:
        network = NETWORKS[result["network"]].build(config_of(result["network"], result["config"]))
        network.load_state_dict(load_file(folder / WEIGHTS))
    except Exception as error:
        raise FlowcastError(
            f"the network in {folder} cannot be loaded ({error}); run it again"
        ) from error
    return network.to(device).eval()


def read_result(folder: Path) -> dict[str, Any]:
    """Returns the content of `result.json` in a run's folder.

    Raises:
        FlowcastError: there is none, or none of this format.
    """
    path = folder / RESULT
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FlowcastError(
            f"{folder} holds no finished run (no {RESULT}); name the folder of one"
        ) from error
    except ValueError as error:
        raise FlowcastError(f"{path} cannot be read ({error}); run it again") from error
    if not isinstance(result, dict) or result.get("format") != FORMAT:
        raise FlowcastError(f"{path} is not of format {FORMAT}; run it again with this flowcast")
    return result


class _Speed:
    """Counts the seconds and sequences between the batches of an epoch: training without validation."""

    def __init__(self) -> None:
        self.seconds, self.sequences = 0.0, 0
        self._before: tuple[float, int] | None = None

    def see(self, event: Batch | Epoch) -> None:
        now = time.perf_counter()
        if isinstance(event, Epoch):
            self._before = None
            return
        if self._before is not None:
            self.seconds += now - self._before[0]
            self.sequences += event.done - self._before[1]
        self._before = (now, event.done)

    def rate(self) -> float | None:
        return self.sequences / self.seconds if self.seconds else None


def _test(
    folder: Path,
    chosen: Plan,
    task: Task,
    state: TrainingState,
    facts: dict[str, str],
    speed: _Speed,
) -> Finished:
    """Tests the chosen epoch and writes the folder, `result.json` last."""
    network = state.network
    network.load_state_dict(state.best)
    device = next(network.parameters()).device
    trained = cost.peak_memory(device)
    scores, unchanged = score(predictor(network), task.test), score(persistence, task.test)
    config = network_config(chosen, task)
    one = cost.seen(config, task.frames, 1, device)
    horizon = task.frames.horizon
    result: dict[str, Any] = {
        "format": FORMAT,
        "dataset": chosen.dataset,
        "network": chosen.network,
        "scale": chosen.scale,
        "settings": list(chosen.settings),
        "config": asdict(config),
        "training": asdict(state.config),
        "data": {
            "hash": task.digest,
            "settings": asdict(chosen.data),
            "train": len(task.train),
            "validation": len(task.validation),
            "test": len(task.test),
            "notes": list(task.notes),
        },
        "history": task.frames.history,
        "horizon": horizon,
        "seed": state.config.seed,
        "parameters": cost.parameters(network),
        "multiply_adds": cost.multiply_adds(network, one, horizon),
        "epochs": [
            {key: value for key, value in asdict(epoch).items() if key != "seconds"}
            for epoch in state.history
        ],
        "chosen_epoch": max(epoch.number for epoch in state.history if epoch.best),
        "scores": scores,
        "persistence": unchanged,
        "samples": _shown(task).tolist(),
        "facts": facts,
        "machine": {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "sequences_per_second": {
                str(batch): batch
                / cost.forecast_seconds(
                    network, cost.seen(config, task.frames, batch, device), horizon
                )
                for batch in (1, 16)
            },
            "training_sequences_per_second": speed.rate(),
            "feed_sequences_per_second": _feed_rate(task, state.config.batch, device),
            "peak_memory_bytes": trained,
            "training_seconds": state.history[-1].seconds,
        },
    }
    samples = _samples(network, task.test, _shown(task))
    with write_whole(folder / WEIGHTS) as temporary:
        temporary.write_bytes(save({key: value.contiguous() for key, value in state.best.items()}))
    with write_whole(folder / "samples.npz") as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **samples)
    with write_whole(folder / RESULT) as temporary:
        temporary.write_text(json.dumps(finite(result), indent=1), encoding="utf-8")
    (folder / CHECKPOINT).unlink(missing_ok=True)
    return Finished(folder, finite(result), samples)


def _shown(task: Task) -> Tensor:
    """Returns which test windows are drawn: some, evenly spread, the same in every run."""
    count = min(SAMPLES, len(task.test))
    return torch.arange(count) * len(task.test) // count


def _samples(network: nn.Module, windows: Feed, chosen: Tensor) -> dict[str, np.ndarray]:
    past, future = windows.take(chosen)
    forecast = predictor(network)(past, future.shape[1])
    arrays = {"past": past, "observed": future, "forecast": forecast}
    return {name: value.cpu().numpy() for name, value in arrays.items()}


def _feed_rate(task: Task, batch: int, device: torch.device) -> float:
    """Returns the sequences a second that the feed makes."""
    index = torch.arange(batch) % len(task.train)

    def take() -> None:
        task.train.take(index)

    return batch / cost.median_seconds(take, device)


def _check_folder(folder: Path, resume: bool) -> None:
    """Refuses to write over another run."""
    if not resume and (folder / RESULT).exists():
        raise FlowcastError(
            f"{folder} holds a finished run; add --resume to show it, or name another by --out"
        )
    if not resume and (folder / CHECKPOINT).exists():
        raise FlowcastError(
            f"{folder} holds an unfinished run; add --resume to go on with it, or name another by --out"
        )


def _facts(chosen: Plan, task: Task, config: NetworkConfig) -> dict[str, str]:
    """Returns what must be the same for a run to be gone on with."""
    return {
        "data": task.digest,
        "network": write_network(chosen.network, config),
        "dataset": json.dumps([chosen.dataset, asdict(chosen.data)]),
        "training": json.dumps(asdict(chosen.training)),
    }


def _finished(folder: Path, facts: dict[str, str]) -> Finished:
    """Returns the finished run that a folder holds, if it is the one meant."""
    result = read_result(folder)
    for key, value in facts.items():
        if result["facts"].get(key) != value:
            raise FlowcastError(
                f"{folder} holds a finished run of another {key}; name another folder by --out"
            )
    with np.load(folder / "samples.npz") as samples:
        return Finished(folder, result, dict(samples))


def _builder(name: str, config: NetworkConfig) -> Callable[[], nn.Module]:
    return lambda: NETWORKS[name].build(config)


def _of(settings: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Returns the settings that begin with `prefix`, without it."""
    return {
        key.removeprefix(prefix): text for key, text in settings.items() if key.startswith(prefix)
    }


def finite(value: Any) -> Any:
    """Returns a value for JSON, None in place of what is no finite number."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
