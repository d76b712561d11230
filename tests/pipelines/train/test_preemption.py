"""Trainings in processes of their own that are ended from outside, and what goes on from them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from data.city import load_city
from data.paths import models_root
from data.store.store import Store
from forecasting.registry.manifest import versions
from forecasting.training.hardware import Computing
from pipelines.train.city import RunOptions, resume
from pipelines.train.trainer import main
from pipelines.train.version import Trained

ON_CPU = RunOptions(Computing("cpu"))
CHECKPOINT = "models/small/training/selection-0.safetensors"
SINGLE = ["--members", "1", "--no-final", "--no-trees"]
COMMAND = [sys.executable, "-m", "app.cli", "train"]
MID_EPOCH = """
import os, signal
from app.progress import stopping_on_interrupt
from data.city import load_city
from data.store.store import Store
from forecasting.computing import Computing
from forecasting.training import Batch
from pipelines.fitting import Recipe
from pipelines.train import RunOptions, train

with stopping_on_interrupt() as stop:
    options = RunOptions(Computing("cpu"), stop=stop)
    recipe = Recipe.from_options(ensemble_size=1, refit=False, trees=False, epochs=2)
    for event in train(Store(), load_city("small"), recipe, options=options):
        if isinstance(event, Batch) and (event.epoch, event.done) == (2, 192):
            os.kill(os.getpid(), signal.SIGTERM)
"""
TORCHRUN = [
    *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
    *("--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "pipelines.train.city"),
]


def ended(command: list[str], number: int) -> tuple[int, str]:
    """Sends a signal to a training in its second epoch; returns its exit code and what it said."""
    process = subprocess.Popen(
        [*command, "--city", "small", "--epochs", "2", "--device", "cpu", *SINGLE],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[3],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if "epoch 1: training loss" in line:
            break
    process.send_signal(number)
    said += process.stderr.read()
    code = process.wait(timeout=600)
    return code, said


def goes_on(home: Path) -> tuple[Trained, dict[str, bytes]]:
    *_, trained = resume(Store(), load_city("small"), options=ON_CPU)
    assert isinstance(trained, Trained)
    return trained, {name: value.tobytes() for name, value in load_file(home / CHECKPOINT).items()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_training_ended_by_a_signal_goes_on_bit_for_bit(
    number: signal.Signals, small_home: Path
) -> None:
    # The home's own training, which was not interrupted: two epochs, seed 0.
    whole = {name: value.tobytes() for name, value in load_file(small_home / CHECKPOINT).items()}
    code, said = ended(COMMAND, number)
    if number == signal.SIGTERM:
        assert code == 1
        assert "training was ended in epoch 2, at step" in said
        assert "forecast train --city small --resume" in said
    else:
        assert code == -signal.SIGKILL
    _, resumed = goes_on(small_home)
    assert resumed == whole


def test_a_training_ended_within_an_epoch_goes_on_bit_for_bit(small_home: Path) -> None:
    whole = {name: value.tobytes() for name, value in load_file(small_home / CHECKPOINT).items()}
    process = subprocess.run(
        [sys.executable, "-c", MID_EPOCH],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[3],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=600,
    )
    assert "ended in epoch 2, at step 6, of fit 1, which is kept" in process.stderr
    assert load_file(small_home / CHECKPOINT)["sums"][1] == 6
    _, resumed = goes_on(small_home)
    assert resumed == whole


def test_processes_of_torchrun_end_together_and_one_goes_on(small_home: Path) -> None:
    before = versions(models_root(), "small")
    code, said = ended(TORCHRUN, signal.SIGTERM)
    assert code != 0
    assert "training was ended in epoch 2, at step" in said
    assert said.count("epoch 1: training loss") == 1, "one process tells"
    trained, _ = goes_on(small_home)
    (told,) = trained.manifest.training["fits"]
    assert [epoch["number"] for epoch in told["history"]] == [1, 2]
    assert versions(models_root(), "small") == [*before, trained.manifest.version]


def test_a_training_for_machines_trains_and_goes_on_and_refuses_in_sentences(
    small_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    city = ["--city", "small", "--device", "cpu"]
    options = ["--network", "convlstm", "--batch", "128", "--precision", "bfloat16"]
    assert main([*city, "--epochs", "1", "--members", "1", "--no-trees", *options]) == 0
    assert "fit 1 of 2: selection, seed 0" in caplog.text
    lines = [line for line in caplog.messages if "epoch 1: training loss" in line]
    # Of the final fit there is nothing to judge by.
    assert ["validation RMSE" in line for line in lines] == [True, False]
    assert main([*city, "--resume", "--epochs", "2"]) == 0
    assert "epoch 2: training loss" in caplog.text
    assert main([*city, "--resume", "--epochs", "3", "--batch", "8"]) == 1
    assert "batch cannot change while a training goes on" in caplog.text
    assert main([*city, "--resume", "--no-final"]) == 1
    assert "final cannot change while a training goes on" in caplog.text
    assert main([*city, "--average", "2"]) == 1
    assert "average 2.0 is no decay from 0 to below 1" in caplog.text
