"""Steps of a training: how they are computed changes nothing of what is trained."""

import dataclasses
import math
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from data.errors import FlowcastError
from forecasting.networks.base import Recurrent
from forecasting.rollout.torch_rollout import build_network
from forecasting.training.batches import FrameWindows, cut_windows
from forecasting.training.checkpoint import load_checkpoint, save_checkpoint
from forecasting.training.hardware import Computing
from forecasting.training.loop import Batch, BatchSplit, CheckpointDue, Event, NotFinite, fit
from forecasting.training.state import Epoch, TrainingConfig, TrainingState
from tests.forecasting.tiny import TINY

CPU = torch.device("cpu")
WINDOWS = 21
CONFIG = TrainingConfig(epochs=2, history=3, horizon=2, batch=8, seed=1)
FACTS = {"flow": "a hash"}


def build() -> nn.Module:
    return build_network("swinlstm-b", TINY)


def build_random() -> nn.Module:
    return build_network("swinlstm-b", dataclasses.replace(TINY, drop_path=0.3))


def frames() -> Tensor:
    """Cells that go up and down with a period of eight slots, each at its own phase."""
    slot = torch.arange(WINDOWS + 4).view(-1, 1, 1, 1)
    phase = torch.arange(32).view(2, 4, 4)
    return torch.sin((slot + phase) * 2 * math.pi / 8)


def feed() -> FrameWindows:
    return cut_windows(frames().numpy(), torch.arange(WINDOWS).numpy(), 3, 2, CPU)


def error_of(network: nn.Module) -> float:
    past, future = feed().take(torch.arange(WINDOWS))
    with torch.inference_mode():
        return float(((network.eval()(past, 2)[:, -2:] - future) ** 2).mean())


def start(build: Any = build, **changes: Any) -> TrainingState:
    return TrainingState.start(build, dataclasses.replace(CONFIG, **changes), CPU)


def train(
    state: TrainingState, computing: Computing | None = None, feed: Any = None
) -> list[Event]:
    return list(fit(state, feed or globals()["feed"](), error_of, computing))


def weights(state: TrainingState) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.network.state_dict().items()}


def distance(one: TrainingState, two: TrainingState) -> float:
    ours, theirs = weights(one), weights(two)
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# How


def test_recomputing_what_is_not_kept_trains_the_same_weights_bit_for_bit() -> None:
    kept, recomputed = start(build_random), start(build_random)
    train(kept)
    train(recomputed, Computing(recompute=True))
    assert distance(kept, recomputed) == 0
    assert not vars(recomputed.network).get("recompute", False)


def test_a_network_without_recurrence_has_nothing_to_recompute() -> None:
    state = start(lambda: nn.Linear(1, 1))
    with pytest.raises(FlowcastError, match="--recompute is for networks that take one frame"):
        train(state, Computing(recompute=True))


def test_bfloat16_learns_as_float32_does_and_keeps_float32_weights() -> None:
    exact, rounded = start(epochs=8, learning_rate=1e-2), start(epochs=8, learning_rate=1e-2)
    train(exact)
    train(rounded, Computing(precision="bfloat16"))
    assert {value.dtype for value in weights(rounded).values()} == {torch.float32}
    assert rounded.history[-1].loss < 0.9 * rounded.history[0].loss
    assert rounded.history[-1].loss == pytest.approx(exact.history[-1].loss, rel=0.05)
    assert rounded.history[0].loss != exact.history[0].loss, "else nothing was rounded"


class Leaky(Recurrent):
    """What it saw, mixed by a matrix and slowly forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(4, 4)

    def step(self, frame: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        kept = self.mix(frame) + (0.5 * state if state is not None else 0)
        return torch.tanh(kept), kept


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch has no compiler here")
def test_a_compiled_training_is_the_one_that_is_not() -> None:
    # One step of the recurrence: each variant that is compiled takes a compiler some seconds.
    windows = cut_windows(frames().numpy(), torch.arange(WINDOWS).numpy(), 1, 1, CPU)
    plain, compiled = start(Leaky, epochs=1), start(Leaky, epochs=1)
    train(plain, feed=windows)
    train(compiled, Computing(compiled=True), feed=windows)
    assert distance(plain, compiled) < 1e-5
    assert "step" not in vars(compiled.network)
    assert compiled.history[0].validation == pytest.approx(plain.history[0].validation, rel=1e-5)


def test_without_a_compiler_compiling_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(FlowcastError, match=r"no C\+\+ compiler; install g\+\+"):
        train(start(), Computing(compiled=True))


class Greedy(nn.Module):
    """The newest frame times a weight; there is memory for so many windows at once."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.weight = nn.Parameter(torch.full((2, 4, 4), 0.5))
        self.seen: list[int] = []

    def forward(self, past: Tensor, horizon: int) -> Tensor:
        self.seen.append(len(past))
        if self.training and len(past) > self.room:
            raise torch.OutOfMemoryError("out of memory")
        return (past[:, -1:] * self.weight).expand(-1, horizon, -1, -1, -1)


def test_a_batch_that_does_not_fit_goes_through_in_parts_and_trains_the_same() -> None:
    roomy, tight = start(lambda: Greedy(99)), start(lambda: Greedy(3))
    train(roomy)
    events = train(tight)
    assert distance(roomy, tight) < 1e-6
    losses = [[epoch.loss for epoch in state.history] for state in (roomy, tight)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    # Eight do not fit, nor four; two do, and the smaller batch goes through by them as well.
    assert [event for event in events if isinstance(event, BatchSplit)] == [BatchSplit(2, 8)]
    assert isinstance(tight.network, Greedy)
    assert tight.network.seen[:6] == [8, 4, 2, 2, 2, 2]


def test_a_window_that_does_not_fit_alone_is_a_sentence() -> None:
    with pytest.raises(FlowcastError, match=r"1 windows at once do not fit .*--recompute"):
        train(start(lambda: Greedy(0)))


# What is not finite


class Spoiling:
    """A feed that spoils one of its takes."""

    def __init__(self, number: int) -> None:
        self.left, self.windows = number, feed()

    def __len__(self) -> int:
        return len(self.windows)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        past, future = self.windows.take(index)
        self.left -= 1
        return (past, future) if self.left else (past * math.nan, future)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_step_that_is_not_finite_changes_nothing_and_is_named(
    average: float, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    whole, state = start(build_random, average=average), start(build_random, average=average)
    train(whole)
    events: list[Event] = []
    # An epoch has three steps; the fifth of all is the second of the second epoch.
    with pytest.raises(NotFinite, match=r"loss of epoch 2 .* at step 2 of 3 is not finite"):
        events.extend(fit(state, Spoiling(5), error_of))
    assert events[-1] == CheckpointDue(2, 1, 3)
    save_checkpoint(path, state, FACTS)
    loaded = load_checkpoint(path, build_random, CPU, FACTS)
    train(loaded)  # as if that step had never been
    assert distance(loaded, whole) == 0
    assert equal(loaded.best, whole.best)


def test_a_network_that_keeps_running_means_loses_none_of_them_to_a_bad_step() -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(2)

        def forward(self, past: Tensor, horizon: int) -> Tensor:
            return self.norm(past[:, -1])[:, None].expand(-1, horizon, -1, -1, -1)

    state = start(Normed)
    with pytest.raises(NotFinite, match="at step 3 of 3"):
        train(state, feed=Spoiling(3))
    assert all(bool(torch.isfinite(value).all()) for value in weights(state).values())
    assert int(weights(state)["norm.num_batches_tracked"]) == 2


# The average


def test_the_average_is_validated_and_chosen_and_not_trained_on() -> None:
    decay = 0.6
    state, plain = start(average=decay), start()
    first = next(iter(state.network.parameters()))
    judged: list[Tensor] = []

    def validate(network: nn.Module) -> float:
        judged.append(next(iter(network.parameters())).detach().clone())
        return 1.0 / len(judged)

    events = fit(state, feed(), validate)
    seen = [first.detach().clone() for event in events if isinstance(event, Batch)]
    # Adam's way to begin a moving average: the sum of what it weighs, over the sum of its weights.
    for epoch in (1, 2):
        steps = seen[: 3 * epoch]
        parts = [decay ** (len(steps) - 1 - number) for number in range(len(steps))]
        expected = sum(part * value for part, value in zip(parts, steps, strict=True)) / sum(parts)
        assert torch.allclose(judged[epoch - 1], expected, atol=1e-6)
    name = next(iter(state.best))
    assert torch.equal(state.best[name], judged[1])
    train(plain)
    assert distance(state, plain) == 0


# Going on


@pytest.mark.parametrize("average", [0.0, 0.5])
@pytest.mark.parametrize("stopped_at", [1, 2, 3, 5])
def test_a_training_goes_on_from_any_step_bit_for_bit(
    average: float, stopped_at: int, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    whole = start(build_random, average=average)
    train(whole)
    first, stop, steps = start(build_random, average=average), threading.Event(), 0
    for event in fit(first, feed(), error_of, stop=stop):
        steps += isinstance(event, Batch)
        if steps == stopped_at:
            stop.set()
        if isinstance(event, CheckpointDue):
            save_checkpoint(path, first, FACTS)
    assert steps == stopped_at
    torch.rand(7)
    second = load_checkpoint(path, build_random, CPU, FACTS)
    events = train(second)
    assert sum(isinstance(event, Batch) for event in events) == 6 - stopped_at
    assert distance(second, whole) == 0
    assert equal(second.best, whole.best)
    told = [[(e.number, e.loss, e.validation) for e in s.history] for s in (second, whole)]
    assert told[0] == told[1]


def test_a_validation_is_broken_off_and_done_anew(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    whole, state, stop = start(), start(), threading.Event()
    train(whole)

    def endless(network: nn.Module) -> float:
        while True:  # a validation of many batches
            error_of(network)
            stop.set()

    *_, last = fit(state, feed(), endless, stop=stop)
    assert last == CheckpointDue(1, 3, 3)
    save_checkpoint(path, state, FACTS)
    loaded = load_checkpoint(path, build, CPU, FACTS)
    events = train(loaded)
    assert isinstance(events[0], Epoch), "its steps were made"
    assert distance(loaded, whole) == 0


def test_an_epoch_of_its_own_is_marked_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forecasting.training.loop.SECONDS_BETWEEN_MARKS", 0.0)
    marks = [event for event in train(start(epochs=1)) if isinstance(event, CheckpointDue)]
    assert marks == [CheckpointDue(1, 1, 3), CheckpointDue(1, 2, 3), CheckpointDue(1, 3, 3)]


def test_the_best_epoch_so_far_can_be_made_the_last_one() -> None:
    # What the way out of a loss that is no number relies on: epochs as planned, a step beyond them.
    state = start()
    with pytest.raises(NotFinite):
        train(state, feed=Spoiling(5))
    state.config = dataclasses.replace(state.config, epochs=1)
    assert train(state) == []
    assert len(state.history) == 1
