"""Two processes that train one network, against one process that trains it alone."""

import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from data.errors import FlowcastError
from forecasting.rollout.torch_rollout import build_network
from forecasting.training.batches import FrameWindows, cut_windows
from forecasting.training.checkpoint import load_checkpoint, save_checkpoint
from forecasting.training.distributed import Group, joined
from forecasting.training.hardware import Computing
from forecasting.training.loop import CheckpointDue, NotFinite, fit
from forecasting.training.state import Epoch, TrainingConfig, TrainingState
from tests.forecasting.tiny import TINY

CPU = torch.device("cpu")
CONFIG = TrainingConfig(epochs=2, history=3, horizon=2, batch=5, seed=1, average=0.5)


def build() -> nn.Module:
    return build_network("swinlstm-b", TINY)


def feed(count: int, spoilt: bool = False) -> FrameWindows:
    """Windows of noise; the last one holds a value that is no number where it is spoilt."""
    frames = np.random.default_rng(0).normal(size=(count + 4, 2, 4, 4)).astype(np.float32)
    if spoilt:
        frames[-1] = np.nan
    return cut_windows(frames, np.arange(count), 3, 2, CPU)


def start() -> TrainingState:
    return TrainingState.start(build, CONFIG, CPU)


def together(folder: Path) -> None:
    """What each of two processes does: trains, goes on alone from within an epoch, meets a NaN."""
    with joined("cpu") as (group, device):
        assert (group.size, device) == (2, CPU)
        # Batches of 5, 5 and 1: parts of 3 and 2, and a batch with less than a window for each.
        state = start()
        events = list(fit(state, feed(11), lambda network: 1.0 + group.rank, group=group))
        if group.first:
            save_checkpoint(folder / "whole.safetensors", state, {})
        else:  # The first one validates, for all.
            assert [e.validation for e in events if isinstance(e, Epoch)] == [1.0, 1.0]
        state = start()
        for event in fit(state, feed(11), lambda network: 1.0, group=group):
            if isinstance(event, Epoch):
                break
        if group.first:
            save_checkpoint(folder / "half.safetensors", state, {})
        state, stop = start(), threading.Event()

        def stopping(network: nn.Module) -> float:
            stop.set()
            return float(network(torch.zeros(1, 3, 2, 4, 4), 1).sum())

        list(fit(state, feed(11), stopping, group=group, stop=stop))
        (folder / f"stopped-{group.rank}").write_text(f"{stop.is_set()} {len(state.history)}")
        state = start()
        try:
            for event in fit(state, feed(11, spoilt=True), lambda network: 1.0, group=group):
                marked = event
        except NotFinite as error:
            assert isinstance(marked, CheckpointDue)
            (folder / f"bad-{group.rank}").write_text(str(error))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that two processes wrote to."""
    folder = tmp_path_factory.mktemp("together")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    ran = subprocess.run(
        [*command, "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", __file__, folder],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        timeout=600,
    )
    # Once, of hundreds of times, torch aborted a process by itself: nothing else may go wrong, and not
    # before both have written all that they have to say.
    is_well = ran.returncode == 0 or "Signal 6 (SIGABRT)" in ran.stderr
    ends = [(folder / f"bad-{rank}").exists() for rank in (0, 1)]
    assert is_well and all(ends), f"exit {ran.returncode}: {ran.stderr[-6000:]}"
    return folder


def assert_close(one: Path, two: Path) -> None:
    ours, theirs = load_file(one), load_file(two)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.allclose(value, theirs[name], atol=1e-6, rtol=1e-5), name


def test_two_processes_train_what_one_does_with_the_same_batch(done: Path, tmp_path: Path) -> None:
    alone = start()
    list(fit(alone, feed(11), lambda network: 1.0))
    save_checkpoint(tmp_path / "alone.safetensors", alone, {})
    assert_close(done / "whole.safetensors", tmp_path / "alone.safetensors")


def test_one_process_goes_on_with_what_two_began(done: Path, tmp_path: Path) -> None:
    state = load_checkpoint(done / "half.safetensors", build, CPU, {})
    assert len(state.history) == 1
    list(fit(state, feed(11), lambda network: 1.0))
    save_checkpoint(tmp_path / "alone.safetensors", state, {})
    assert_close(done / "whole.safetensors", tmp_path / "alone.safetensors")


def test_all_processes_know_that_one_was_stopped_within_its_validation(done: Path) -> None:
    assert [(done / f"stopped-{rank}").read_text() for rank in (0, 1)] == ["True 0"] * 2


def test_all_processes_end_at_the_step_that_is_not_finite(done: Path) -> None:
    sentences = [(done / f"bad-{rank}").read_text() for rank in (0, 1)]
    assert sentences[0] == sentences[1]
    assert "loss of epoch 1 or its gradient at step" in sentences[0]


@pytest.mark.parametrize(("size", "windows"), [(2, 16), (2, 5), (3, 5), (4, 3), (8, 1)])
def test_the_parts_of_a_batch_are_all_of_it_and_their_shares_add_up(
    size: int, windows: int
) -> None:
    index = torch.arange(windows) * 7
    parts = [Group(rank, size).part(index) for rank in range(size)]
    assert sum(share for _, share in parts) == pytest.approx(1)
    assert torch.equal(torch.cat([part for part, share in parts if share]), index)
    assert all(len(part) for part, _ in parts), "all take part in the sum of gradients"


def test_without_torchrun_there_is_one_process() -> None:
    with joined("cpu") as (group, device):
        assert (group, device) == (Group(0, 1), CPU)
        assert group.told([1.5]) == [1.5]
    with pytest.raises(FlowcastError, match="no device 'tpu9'"), joined("tpu9"):
        pass


def test_how_it_is_computed_is_no_part_of_what_is_trained() -> None:
    fields = {field.name for field in dataclasses.fields(TrainingConfig)}
    assert not fields & {field.name for field in dataclasses.fields(Computing)}


if __name__ == "__main__":
    together(Path(sys.argv[1]))
