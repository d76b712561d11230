"""Trainings in processes of their own that are ended from outside, and what goes on from them."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from data.city import load_city
from data.paths import models_root
from data.store.store import Store
from forecasting.registry.manifest import versions
from forecasting.training.hardware import Computing
from pipelines.train.city import RunOptions, resume
from pipelines.train.version import Trained

ON_CPU = RunOptions(Computing("cpu"))
CHECKPOINT = "models/small/training/selection-0.safetensors"
ONE_FIT = ["--ensemble-size", "1", "--no-refit", "--no-trees"]
COMMAND = [sys.executable, "-m", "app.cli", "train"]
LIMIT = 600
"""Seconds after which what hangs is ended; no test expects to be faster."""
MID_EPOCH = """
import os, signal
from app.cli.progress import stopping_on_interrupt
from data.city import load_city
from data.store.store import Store
from forecasting.city.recipe import Recipe
from forecasting.training.hardware import Computing
from forecasting.training.loop import Batch
from pipelines.train.city import RunOptions, train

with stopping_on_interrupt() as stop:
    options = RunOptions(Computing("cpu"), stop=stop)
    recipe = Recipe.from_options(ensemble_size=1, refit=False, trees=False, epochs=2)
    for event in train(Store(), load_city("small"), recipe, options=options):
        if isinstance(event, Batch) and (event.epoch, event.done) == (2, 192):
            os.kill(os.getpid(), signal.SIGTERM)
"""
TORCHRUN = [
    *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
    *("--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "--no-python", *COMMAND),
]


def ended(command: list[str], number: int) -> tuple[int, str]:
    """Sends a signal to a training in its second epoch; returns its exit code and what it printed."""
    process = subprocess.Popen(
        [*command, "--city", "small", "--epochs", "2", "--device", "cpu", *ONE_FIT],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[3],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    limit = threading.Timer(LIMIT, process.kill)
    limit.start()
    try:
        printed = ""
        for line in process.stderr:
            printed += line
            if "epoch 1: training loss" in line:
                break
        process.send_signal(number)
        printed += process.stderr.read()
        return process.wait(), printed
    finally:
        limit.cancel()


def goes_on(home: Path) -> tuple[Trained, dict[str, bytes]]:
    *_, trained = resume(Store(), load_city("small"), options=ON_CPU)
    assert isinstance(trained, Trained)
    return trained, {name: value.tobytes() for name, value in load_file(home / CHECKPOINT).items()}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_training_ended_by_a_signal_goes_on_bit_for_bit(
    number: signal.Signals, small_home: Path
) -> None:
    # The home's own training, which was not interrupted: two epochs, seed 0.
    whole = {name: value.tobytes() for name, value in load_file(small_home / CHECKPOINT).items()}
    code, printed = ended(COMMAND, number)
    if number == signal.SIGTERM:
        assert code == 1
        assert "training was ended in epoch 2, at step" in printed
        assert "forecast train --city small --resume" in printed
    else:
        assert code == -signal.SIGKILL
    _, resumed = goes_on(small_home)
    assert resumed == whole


@pytest.mark.slow
def test_a_training_ended_within_an_epoch_goes_on_bit_for_bit(small_home: Path) -> None:
    whole = {name: value.tobytes() for name, value in load_file(small_home / CHECKPOINT).items()}
    process = subprocess.run(
        [sys.executable, "-c", MID_EPOCH],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[3],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    assert "ended in epoch 2, at step 6, of fit 1, which is kept" in process.stderr
    assert load_file(small_home / CHECKPOINT)["sums"][1] == 6
    _, resumed = goes_on(small_home)
    assert resumed == whole


@pytest.mark.slow
def test_processes_of_torchrun_end_together_and_one_goes_on(small_home: Path) -> None:
    before = versions(models_root(), "small")
    code, printed = ended(TORCHRUN, signal.SIGTERM)
    assert code != 0
    assert "training was ended in epoch 2, at step" in printed
    assert printed.count("epoch 1: training loss") == 1, "one process prints"
    assert printed.count("fit 1 of 1") == 1
    trained, _ = goes_on(small_home)
    (fit,) = trained.manifest.training["fits"]
    assert [epoch["number"] for epoch in fit["history"]] == [1, 2]
    assert versions(models_root(), "small") == [*before, trained.manifest.version]
