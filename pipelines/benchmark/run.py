"""A benchmark run: dataset -> task -> network, trained and selected -> tested -> a folder.

The folder holds `result.json`, `weights.safetensors` (of the chosen epoch), `samples.npz` (some test
windows with their forecasts) and, until the result stands, `checkpoint.safetensors`. All figures but those
under `machine` follow from the settings and the seed.
"""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from torch import nn

from data.errors import FlowcastError
from data.files import exclusive_lock
from forecasting.benchmarks.scoring import predictor, squared_error
from forecasting.benchmarks.task import Task
from forecasting.networks import NETWORKS, write_network
from forecasting.networks.base import NetworkConfig
from forecasting.profiling import cost
from forecasting.training.checkpoint import load_checkpoint, save_checkpoint
from forecasting.training.hardware import Computing, pick_device
from forecasting.training.interrupt import heeded
from forecasting.training.loop import Batch, CheckpointDue, Event, fit
from forecasting.training.state import Epoch, TrainingState
from pipelines.benchmark.plan import RunPlan, default_folder, network_config, open_task
from pipelines.benchmark.result import RESULT, Finished, finish, read_finished

CHECKPOINT = "checkpoint.safetensors"


def run(
    chosen: RunPlan,
    data: Path | None = None,
    out: Path | None = None,
    *,
    computing: Computing | None = None,
    resume: bool = False,
    stop: threading.Event | None = None,
) -> Iterator[Event | Finished]:
    """Trains, selects on validation, tests, writes the folder; yields progress, then the result.

    Args:
        chosen: by `plan`.
        data: folder or file of the dataset; `datasets/NAME` in the home if None.
        out: folder of the run; `default_folder` if None.
        computing: device and precision; another precision makes another run.
        resume: continue the run in `out` from its checkpoint.
        stop: once set, the run ends after the step at hand; it can be resumed.

    Raises:
        FlowcastError: data are missing, settings do not fit, `out` holds another run, or the run
            was stopped.
    """
    computing = computing or Computing()
    place = pick_device(computing.device)
    folder = out or default_folder(chosen, computing.precision, data)
    _check_folder(folder, resume)
    task = open_task(chosen, data, place)
    config = network_config(chosen, task)
    facts = _facts(chosen, task, config, computing)
    cost.reset_peak_memory(place)
    with exclusive_lock(folder / ".lock", f"another run is writing {folder}"):
        _check_folder(folder, resume)
        if (folder / RESULT).exists():
            yield read_finished(folder, facts)
            return

        def build() -> nn.Module:
            return _build(chosen.network, config)

        if resume and (folder / CHECKPOINT).exists():
            way_out = "name another folder by --out, or remove that one"
            state = load_checkpoint(folder / CHECKPOINT, build, place, facts, way_out)
        else:
            state = TrainingState.start(build, chosen.training, place)
        seconds, sequences, before = 0.0, 0, None  # between the batches of an epoch
        events = fit(
            state,
            task.train,
            lambda network: squared_error(predictor(network), task.validation),
            computing,
            stop=stop,
        )
        for event in heeded(events, stop):
            if isinstance(event, Epoch | CheckpointDue):
                save_checkpoint(folder / CHECKPOINT, state, facts)
            now = (time.perf_counter(), event.done) if isinstance(event, Batch) else None
            if now and before:
                seconds, sequences = seconds + now[0] - before[0], sequences + now[1] - before[1]
            before = now
            yield event
        if stop is not None and stop.is_set():
            raise FlowcastError(
                f"stopped after {len(state.history)} finished epochs, which are kept, and {state.step} steps "
                f"of the next; the same command goes on (that of a single run with --resume)"
            )
        speed = sequences / seconds if seconds else None
        finished = finish(folder, chosen, task, state, facts, computing, speed)
        (folder / CHECKPOINT).unlink(missing_ok=True)
        yield finished


def _build(name: str, config: NetworkConfig) -> nn.Module:
    try:
        return NETWORKS[name].build(config)
    except (ValueError, RuntimeError, ArithmeticError, MemoryError) as error:
        reason = (str(error) or "out of memory").splitlines()[0]
        raise FlowcastError(f"{name} cannot be built with these settings: {reason}") from error


def _check_folder(folder: Path, resume: bool) -> None:
    """Refuses to write over another run."""
    for name, state, way in (
        (RESULT, "a finished", "show it"),
        (CHECKPOINT, "an unfinished", "continue it"),
    ):
        if not resume and (folder / name).exists():
            raise FlowcastError(
                f"{folder} holds {state} run; add --resume to {way}, or name another by --out"
            )


def _facts(
    chosen: RunPlan, task: Task, config: NetworkConfig, computing: Computing
) -> dict[str, str]:
    """Returns what must be the same for a run to be resumed."""
    training = asdict(chosen.training)
    # As in runs from before there was a choice.
    if not training["average"]:
        del training["average"]
    if training["optimizer"] == "adamw":
        del training["optimizer"]
    return {
        "data": task.digest,
        "network": write_network(chosen.network, config),
        "dataset": json.dumps([chosen.dataset, asdict(chosen.data)]),
        "training": json.dumps(training),
        "precision": computing.precision,
    }
