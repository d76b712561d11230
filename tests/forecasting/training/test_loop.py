import dataclasses
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from data.errors import FlowcastError
from forecasting.rollout.torch_rollout import build_network
from forecasting.training.batches import FrameWindows, cut_windows
from forecasting.training.checkpoint import load_checkpoint, save_checkpoint
from forecasting.training.loop import Batch, fit, is_finished
from forecasting.training.state import Epoch, TrainingConfig, TrainingState
from tests.forecasting.tiny import TINY

CPU = torch.device("cpu")
CONFIG = TrainingConfig(epochs=4, history=3, horizon=2, batch=8, seed=1)
FACTS = {"flow": "a hash", "network": "small"}
SLOTS = 40
STARTS = torch.arange(SLOTS - 5 + 1)


def build() -> nn.Module:
    return build_network("swinlstm-b", dataclasses.replace(TINY, drop_path=0.2))


def waves() -> Tensor:
    """Frames whose cells go up and down with a period of eight slots, each at its own phase."""
    slot = torch.arange(SLOTS).view(-1, 1, 1, 1)
    phase = torch.arange(32).view(2, 4, 4)
    return torch.sin((slot + phase) * 2 * math.pi / 8)


def feed(frames: Tensor) -> FrameWindows:
    return cut_windows(frames.numpy(), STARTS.numpy(), CONFIG.history, CONFIG.horizon, CPU)


def steps(frames: Tensor) -> FrameWindows:
    """Each frame and the one after it."""
    return cut_windows(frames.numpy(), np.arange(len(frames) - 1), 1, 1, CPU)


def always(error: float) -> Callable[[nn.Module], float]:
    return lambda network: error


def scripted(errors: list[float]) -> Callable[[nn.Module], float]:
    """A validation that returns one error after another."""
    coming = iter(errors)
    return lambda network: next(coming)


def last_loss(network: nn.Module) -> float:
    """A validation on the frames themselves."""
    with torch.inference_mode():
        windows = waves()[STARTS[::5, None] + torch.arange(5)]
        return float(((network.eval()(windows[:, :3], 2)[:, -2:] - windows[:, 3:]) ** 2).mean())


def start(**changes: Any) -> TrainingState:
    return TrainingState.start(build, dataclasses.replace(CONFIG, **changes), CPU)


def train(
    state: TrainingState, validate: Callable[[nn.Module], float] = last_loss
) -> list[Batch | Epoch]:
    return list(fit(state, feed(waves()), validate))


def epochs(progress: list[Batch | Epoch]) -> list[Epoch]:
    return [event for event in progress if isinstance(event, Epoch)]


def tensors(state: TrainingState) -> dict[str, Tensor]:
    """Every tensor of a state under a name."""
    network = {f"network.{name}": value for name, value in state.network.state_dict().items()}
    best = {f"best.{name}": value for name, value in state.best.items()}
    moments = {
        f"optimizer.{index}.{name}": value
        for index, moment in state.optimizer.state_dict()["state"].items()
        for name, value in moment.items()
    }
    return network | best | moments


def assert_same(one: TrainingState, two: TrainingState) -> None:
    ours, theirs = tensors(one), tensors(two)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    facts = [
        [(epoch.number, epoch.loss, epoch.validation, epoch.best) for epoch in state.history]
        for state in (one, two)
    ]
    assert facts[0] == facts[1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "training" / "checkpoint.safetensors"


# Epochs and batches


def test_the_loss_falls_where_there_is_something_to_learn() -> None:
    untrained = last_loss(start().network)
    done = epochs(train(start(epochs=25, learning_rate=1e-2)))
    assert done[-1].loss < done[0].loss / 3
    assert done[-1].validation < untrained / 3


def test_every_epoch_sees_every_window_once() -> None:
    events = train(start())
    batches = [event for event in events if isinstance(event, Batch)]
    assert len(STARTS) == 36
    # 36 windows in batches of 8: four whole ones and one of 4.
    assert [batch.done for batch in batches] == [8, 16, 24, 32, 36] * 4
    assert {batch.planned for batch in batches} == {36}
    assert [batch.epoch for batch in batches] == [n for n in (1, 2, 3, 4) for _ in range(5)]
    assert {batch.epochs for batch in batches} == {4}


def test_an_epoch_follows_its_batches_and_has_their_loss() -> None:
    events = train(start())
    kinds = [type(event) for event in events]
    assert kinds == ([Batch] * 5 + [Epoch]) * 4
    assert [epoch.number for epoch in epochs(events)] == [1, 2, 3, 4]
    assert all(events[n].loss == events[n - 1].loss for n in range(5, len(events), 6))


class Persistence(nn.Module):
    """The newest frame, again and again; keeps the first cell of what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.change = nn.Parameter(torch.zeros(1))
        self.shown: list[float] = []

    def forward(self, frames: Tensor, horizon: int) -> Tensor:
        self.shown += frames[:, 0, 0, 0, 0].tolist()
        return torch.cat([frames, *[frames[:, -1:]] * (horizon - 1)], dim=1) + self.change


def one_cell(*values: float) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1)


def test_the_loss_is_the_mean_square_of_all_outputs_of_the_rollout() -> None:
    # On frames that rise by 1 the outputs are one step behind, but for the last, which is two.
    state = TrainingState.start(Persistence, dataclasses.replace(CONFIG, epochs=1), CPU)
    frames = one_cell(0.0, 1, 2, 3, 4)
    (batch, _) = fit(state, cut_windows(frames.numpy(), np.array([0]), 3, 2, CPU), always(0))
    assert batch.loss == pytest.approx((1 + 1 + 1 + 4) / 4)


def still(count: int) -> TrainingState:
    """The state of a network that sees one slot at a time and never changes."""
    config = TrainingConfig(epochs=count, history=1, horizon=1, batch=1, learning_rate=0)
    return TrainingState.start(Persistence, config, CPU)


def test_the_loss_of_an_epoch_is_the_mean_over_its_batches() -> None:
    # Three windows whose frames rise by 1, 2 and 3.
    (epoch,) = epochs(list(fit(still(1), steps(one_cell(0.0, 1, 3, 6)), always(0))))
    assert epoch.loss == pytest.approx((1 + 4 + 9) / 3)


def test_every_epoch_has_an_order_of_its_own() -> None:
    state = still(4)
    list(fit(state, steps(one_cell(*map(float, range(21)))), always(0)))
    network = state.network
    assert isinstance(network, Persistence)
    orders = [tuple(network.shown[n : n + 20]) for n in range(0, 80, 20)]
    assert [sorted(order) for order in orders] == [list(range(20))] * 4
    assert len(set(orders)) == 4


def test_time_left_is_never_below_zero_and_nothing_at_the_end() -> None:
    left = [event.seconds_left for event in train(start()) if isinstance(event, Batch)]
    assert all(math.isfinite(seconds) and seconds >= 0 for seconds in left)
    assert left[-1] == 0


def test_the_best_epoch_is_the_one_with_the_lowest_error() -> None:
    done = epochs(train(start(epochs=6), scripted([3, 1, 2, 1, 0.5, 0.7])))
    assert [epoch.validation for epoch in done] == [3, 1, 2, 1, 0.5, 0.7]
    assert [epoch.best for epoch in done] == [True, True, False, False, True, False]


def test_the_best_weights_are_those_of_the_best_epoch() -> None:
    seen: list[dict[str, Tensor]] = []
    coming = iter([3, 1, 2, 4])

    def validate(network: nn.Module) -> float:
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return next(coming)

    state = start()
    train(state, validate)
    assert state.best.keys() == seen[1].keys()
    assert all(torch.equal(value, seen[1][name]) for name, value in state.best.items())
    assert any(not torch.equal(value, seen[3][name]) for name, value in state.best.items())


def test_a_training_ends_where_nothing_better_came_for_so_many_epochs() -> None:
    state = start(epochs=10, patience=2)
    done = epochs(train(state, scripted([3, 2, 2.5, 1, 1.5, 1, 0.1])))
    assert [epoch.validation for epoch in done] == [3, 2, 2.5, 1, 1.5, 1]
    assert is_finished(state)
    assert train(state) == []
    state.config = dataclasses.replace(state.config, patience=3)
    assert not is_finished(state)
    assert [epoch.number for epoch in epochs(train(state, scripted([2])))] == [7]


def test_a_training_ends_after_the_last_epoch_on_its_way_down_the_schedule() -> None:
    whole, cut_off = start(), start(last=2)
    train(whole)
    assert [epoch.number for epoch in epochs(train(cut_off))] == [1, 2]
    assert is_finished(cut_off)
    # The rates were those of all four epochs: the losses are the same to the bit.
    assert [e.loss for e in cut_off.history] == [e.loss for e in whole.history[:2]]


def test_where_there_is_nothing_to_judge_by_the_newest_weights_are_the_best() -> None:
    state, judged = start(epochs=2), start(epochs=2)
    list(fit(state, feed(waves()), None))
    train(judged)
    assert [(e.validation, e.best) for e in state.history] == [(None, True)] * 2
    assert [e.loss for e in state.history] == [e.loss for e in judged.history]
    newest = state.network.state_dict()
    assert all(torch.equal(value, newest[name]) for name, value in state.best.items())


def test_errors_are_weighted_cell_by_cell() -> None:
    # Frames that rise by 1 and a weight of 3: the outputs are 1, 1, 1 and 2 behind.
    state = TrainingState.start(Persistence, dataclasses.replace(CONFIG, epochs=1), CPU)
    frames = one_cell(0.0, 1, 2, 3, 4)
    windows = cut_windows(frames.numpy(), np.array([0]), 3, 2, CPU)
    (batch, _) = fit(state, windows, always(0), weight=torch.tensor([[[3.0]]]))
    assert batch.loss == pytest.approx((9 + 9 + 9 + 36) / 4)


def test_hubers_loss_can_be_trained_by() -> None:
    config = dataclasses.replace(CONFIG, epochs=1, loss="huber")
    state = TrainingState.start(Persistence, config, CPU)
    windows = cut_windows(one_cell(0.0, 1, 2, 3, 4).numpy(), np.array([0]), 3, 2, CPU)
    (batch, _) = fit(state, windows, always(0))
    # Beyond 0.3 an error counts less half of that.
    assert batch.loss == pytest.approx((0.85 + 0.85 + 0.85 + 1.85) / 4)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"loss": "cubic"}, "loss 'cubic' is none of squared, huber"),
        ({"patience": -1}, "patience -1 or last 0 is less than 0"),
        ({"last": -2}, "patience 0 or last -2 is less than 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        dataclasses.replace(CONFIG, **changes)


def test_the_history_holds_every_epoch_that_was_told() -> None:
    state = start()
    assert epochs(train(state)) == state.history
    seconds = [epoch.seconds for epoch in state.history]
    assert seconds == sorted(seconds)


def test_a_training_that_is_done_trains_no_more() -> None:
    state = start()
    train(state)
    assert train(state) == []


def test_the_seed_decides_weights_and_order() -> None:
    one, two, other = start(), start(), start(seed=2)
    for state in (one, two, other):
        train(state)
    assert_same(one, two)
    assert one.history[-1].loss != other.history[-1].loss


def test_a_training_with_minutes_ends_with_them() -> None:
    begun = time.monotonic()
    state = start(epochs=10_000, minutes=1 / 60)
    done = epochs(train(state))
    assert 1 <= len(done) < 10_000
    assert 0.3 < time.monotonic() - begun < 600


def test_minutes_are_those_of_the_timer() -> None:
    seconds = iter(range(10_000))  # each look at it is a second later
    state = start(epochs=10_000, minutes=5)
    done = epochs(fit(state, feed(waves()), always(1.0), timer=lambda: float(next(seconds))))
    assert 1 < len(done) < 50 and 200 < done[-1].seconds < 400


def test_a_training_with_minutes_does_no_more_than_its_epochs() -> None:
    assert len(epochs(train(start(epochs=2, minutes=10)))) == 2


def test_minutes_that_are_over_at_once_still_leave_one_epoch() -> None:
    state = start(epochs=50, minutes=1e-6)
    assert [epoch.number for epoch in epochs(train(state))] == [1]
    assert state.best


@pytest.mark.parametrize("poison", [math.inf, math.nan, 1e30])
def test_a_loss_that_is_not_finite_names_the_learning_rate(poison: float) -> None:
    frames = waves()
    frames[20] = poison
    with pytest.raises(FlowcastError, match=r"loss of epoch 1 .* lower learning rate than 0\.002"):
        list(fit(start(), feed(frames), always(0)))


# Going on


@pytest.mark.parametrize("epochs_before", [1, 2, 3])
def test_a_resumed_training_is_bit_for_bit_the_uninterrupted_one(
    path: Path, epochs_before: int
) -> None:
    whole = start()
    train(whole)
    first = start()
    for event in fit(first, feed(waves()), last_loss):
        if isinstance(event, Epoch) and event.number == epochs_before:
            save_checkpoint(path, first, FACTS)
            break
    torch.rand(7)  # What chance does in between is of no matter.
    second = load_checkpoint(path, build, CPU, FACTS)
    assert len(train(second)) == 6 * (4 - epochs_before)
    assert_same(second, whole)


def test_a_resumed_training_keeps_its_patience_and_its_missing_validations(path: Path) -> None:
    state = start(epochs=10, patience=2)
    train(state, scripted([1, 2, 3]))
    save_checkpoint(path, state, FACTS)
    assert is_finished(load_checkpoint(path, build, CPU, FACTS))
    state = start(epochs=2)
    list(fit(state, feed(waves()), None))
    save_checkpoint(path, state, FACTS)
    assert load_checkpoint(path, build, CPU, FACTS).history == state.history


def test_an_epoch_broken_off_leaves_no_trace_in_the_resumed_training(path: Path) -> None:
    whole = start()
    train(whole)
    first = start()
    for event in fit(first, feed(waves()), last_loss):
        if isinstance(event, Epoch) and event.number == 2:
            save_checkpoint(path, first, FACTS)
        if isinstance(event, Batch) and (event.epoch, event.done) == (3, 16):
            break
    second = load_checkpoint(path, build, CPU, FACTS)
    train(second)
    assert_same(second, whole)


def test_a_state_survives_its_checkpoint(path: Path) -> None:
    state = start()
    train(state, scripted([3, 1, 2, 4]))
    save_checkpoint(path, state, FACTS)
    loaded = load_checkpoint(path, build, CPU, FACTS)
    assert_same(loaded, state)
    assert loaded.config == state.config
    assert loaded.history == state.history
    assert len(tensors(state)) == 5 * len(list(state.network.parameters()))


def test_the_best_epoch_before_a_checkpoint_stays_the_best(path: Path) -> None:
    state = start()
    train(state, scripted([3, 1, 2, 4]))
    save_checkpoint(path, state, FACTS)
    loaded = load_checkpoint(path, build, CPU, FACTS)
    loaded.config = dataclasses.replace(loaded.config, epochs=6)
    done = epochs(train(loaded, scripted([1.5, 2.5])))
    assert [epoch.best for epoch in done] == [False, False]
    assert all(torch.equal(value, state.best[name]) for name, value in loaded.best.items())


def test_the_time_before_a_checkpoint_counts(path: Path) -> None:
    state = start()
    train(state)
    state.history[-1] = dataclasses.replace(state.history[-1], seconds=1000.0)
    state.config = dataclasses.replace(CONFIG, epochs=5)
    save_checkpoint(path, state, FACTS)
    (epoch,) = epochs(train(load_checkpoint(path, build, CPU, FACTS)))
    assert 1000 < epoch.seconds < 1100


@pytest.fixture
def saved(path: Path) -> Path:
    """The checkpoint of a training of one epoch."""
    state = start(epochs=1)
    train(state)
    save_checkpoint(path, state, FACTS)
    return path


def test_a_checkpoint_is_one_safetensors_file(saved: Path) -> None:
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
    assert load_file(saved)


def test_a_newer_checkpoint_takes_the_place_of_the_older(saved: Path) -> None:
    state = start(epochs=2)
    train(state)
    save_checkpoint(saved, state, FACTS)
    assert len(load_checkpoint(saved, build, CPU, FACTS).history) == 2


def test_a_training_on_other_facts_is_not_gone_on_with(saved: Path) -> None:
    for fact in FACTS:
        with pytest.raises(FlowcastError, match=f"the {fact} has changed .* without --resume"):
            load_checkpoint(saved, build, CPU, FACTS | {fact: "another"})
    with pytest.raises(FlowcastError, match="the weather has changed"):
        load_checkpoint(saved, build, CPU, FACTS | {"weather": "sun"})


def test_without_a_checkpoint_there_is_nothing_to_go_on_with(path: Path) -> None:
    with pytest.raises(FlowcastError, match="no training to go on with"):
        load_checkpoint(path, build, CPU, FACTS)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _garble(path: Path) -> None:
    path.write_bytes(b"\x00" * 100)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _of_another_kind(path: Path) -> None:
    save_file({"a": torch.zeros(1)}, path)


def _without_facts(path: Path) -> None:
    save_file({"a": torch.zeros(1)}, path, {"config": "{}"})


def _not_json(path: Path) -> None:
    save_file({"a": torch.zeros(1)}, path, {"facts": "{"})


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def test_a_checkpoint_of_another_network_is_told_in_one_sentence(saved: Path) -> None:
    with pytest.raises(FlowcastError, match=r"holds no training that .* can go on with") as error:
        load_checkpoint(saved, lambda: nn.Linear(2, 2), CPU, FACTS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "spoil",
    [_truncate, _garble, _empty, _of_another_kind, _without_facts, _not_json, _folder],
    ids=lambda spoil: spoil.__name__.strip("_"),
)
def test_a_damaged_checkpoint_is_told_in_one_sentence(
    saved: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(saved)
    with pytest.raises(FlowcastError, match=r"cannot be read .*train without --resume") as error:
        load_checkpoint(saved, build, CPU, FACTS)
    assert "\n" not in str(error.value)


def test_a_checkpoint_that_the_disk_has_no_room_for_leaves_the_older_one(
    saved: Path, largest_file: Callable[[int], AbstractContextManager[None]]
) -> None:
    before = saved.read_bytes()
    state = start(epochs=2)
    train(state)
    with largest_file(1000), pytest.raises(FlowcastError, match="cannot be written") as error:
        save_checkpoint(saved, state, FACTS)
    assert "\n" not in str(error.value)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
