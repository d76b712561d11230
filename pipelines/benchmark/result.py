"""The result of a benchmark run: the chosen epoch tested, measured and written to a folder."""

import json
import zipfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import nn

from data.errors import FlowcastError
from data.files import atomic_write, json_safe, write_json
from forecasting.benchmarks.scoring import persistence, predictor, score
from forecasting.benchmarks.task import Task
from forecasting.networks import NETWORKS, config_of
from forecasting.profiling import cost
from forecasting.training.checkpoint import FORMER
from forecasting.training.hardware import Computing
from forecasting.training.state import TrainingState
from pipelines.benchmark.plan import RunPlan, network_config

RESULT, WEIGHTS, SAMPLES = "result.json", "weights.safetensors", "samples.npz"
FORMAT = 1
SAMPLE_COUNT = 3


@dataclass(frozen=True)
class Finished:
    """A run that is done: its folder and the content of its `result.json`."""

    folder: Path
    result: dict[str, Any]
    samples: dict[str, np.ndarray]  # past, observed, forecast of test windows, each (n, t, c, y, x)


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


def read_finished(folder: Path, facts: dict[str, str]) -> Finished:
    """Returns the finished run in a folder, if it was made of the same `facts`."""
    result = read_result(folder)
    for key, value in facts.items():
        if result.get("facts", {}).get(key, FORMER.get(key)) != value:
            raise FlowcastError(
                f"{folder} holds a finished run of another {key}; name another folder by --out"
            )
    try:
        with np.load(folder / SAMPLES) as samples:
            return Finished(folder, result, dict(samples))
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise FlowcastError(
            f"{folder / SAMPLES} cannot be read ({error}); remove {folder} and run it again"
        ) from error


def finish(
    folder: Path,
    chosen: RunPlan,
    task: Task,
    state: TrainingState,
    facts: dict[str, str],
    computing: Computing,
    speed: float | None,
) -> Finished:
    """Tests the chosen epoch and writes the folder, `result.json` last."""
    network = state.network
    network.load_state_dict(state.best)
    device = next(network.parameters()).device
    trained = cost.peak_memory(device)
    config, horizon = network_config(chosen, task), task.frames.horizon
    # Test windows to draw, evenly spaced, the same in every run.
    count = min(SAMPLE_COUNT, len(task.test))
    sampled = torch.arange(count) * len(task.test) // count
    past, observed, *_ = task.test.take(sampled)

    rates = {
        str(count): count
        / cost.forecast_seconds(network, cost.seen(config, task.frames, count, device), horizon)
        for count in (1, 16)
    }
    batch = state.config.batch
    index = torch.arange(batch) % len(task.train)
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
        "multiply_adds": cost.multiply_adds(
            network, cost.seen(config, task.frames, 1, device), horizon
        ),
        "epochs": [
            {key: value for key, value in asdict(epoch).items() if key != "seconds"}
            for epoch in state.history
        ],
        "chosen_epoch": max(epoch.number for epoch in state.history if epoch.best),
        "scores": score(predictor(network), task.test),
        "persistence": score(persistence, task.test),
        "samples": sampled.tolist(),
        "facts": facts,
        "machine": {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "computing": asdict(computing),
            "sequences_per_second": rates,
            "training_sequences_per_second": speed,
            "feed_sequences_per_second": batch
            / cost.median_seconds(lambda: task.train.take(index), device),
            "peak_memory_bytes": trained,
            "training_seconds": state.history[-1].seconds,
        },
    }
    forecast = predictor(network)(past, observed.shape[1])
    arrays = {"past": past, "observed": observed, "forecast": forecast}
    samples = {name: value.cpu().numpy() for name, value in arrays.items()}
    with atomic_write(folder / WEIGHTS) as temporary:
        temporary.write_bytes(save({key: value.contiguous() for key, value in state.best.items()}))
    with atomic_write(folder / SAMPLES) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **samples)
    write_json(folder / RESULT, result)
    return Finished(folder, json_safe(result), samples)
