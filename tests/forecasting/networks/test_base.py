from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from forecasting.networks.base import Frames, NetworkConfig, Recurrent, block_by_block
from forecasting.networks.residual import Residual, StepResidual, residual


def frames_of(*values: float) -> Tensor:
    """One sample of frames with one cell each."""
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1, 1)


# One frame at a time


class TenTimes(Recurrent):
    """Ten times the frame plus the number of the call, which is the state."""

    def step(self, frame: Tensor, state: int | None) -> tuple[Tensor, int]:
        call = (state or 0) + 1
        return 10 * frame + call, call


class Recording(Recurrent):
    """Gives each frame back and keeps the states that it was handed."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[int | None] = []

    def step(self, frame: Tensor, state: int | None) -> tuple[Tensor, int]:
        self.states.append(state)
        return frame, len(self.states)


def test_the_true_frames_are_fed_first_and_then_the_own_outputs() -> None:
    outputs = TenTimes()(frames_of(1, 2, 3), horizon=3)
    # 10*1+1, 10*2+2, 10*3+3, then 10*33+4 and 10*334+5.
    assert outputs.flatten().tolist() == [11, 22, 33, 334, 3345]


def test_the_state_is_none_at_the_first_frame_and_handed_on_after_it() -> None:
    network = Recording()
    network(frames_of(5, 5), horizon=2)
    assert network.states == [None, 1, 2]


@given(past=st.integers(1, 5), horizon=st.integers(1, 5))
def test_there_is_one_output_for_each_frame_but_the_first_and_for_each_lead(
    past: int, horizon: int
) -> None:
    outputs = TenTimes()(torch.zeros(2, past, 3, 4, 5), horizon)
    assert outputs.shape == (2, past - 1 + horizon, 3, 4, 5)


@given(past=st.integers(1, 4), short=st.integers(1, 4), more=st.integers(0, 4))
def test_a_shorter_horizon_is_the_start_of_a_longer_one(past: int, short: int, more: int) -> None:
    frames = frames_of(*range(past))
    longer = TenTimes()(frames, short + more)
    assert torch.equal(TenTimes()(frames, short), longer[:, : past - 1 + short])


def test_the_gradient_reaches_back_through_the_outputs_that_were_fed() -> None:
    frames = frames_of(1, 2).requires_grad_()
    TenTimes()(frames, horizon=3)[0, -1].sum().backward()
    assert frames.grad is not None
    # Three steps follow the last frame, each times ten; the first is not fed into another step.
    assert frames.grad.flatten().tolist() == [0, 1000]


# Several frames at once


def counting_up(frames: Tensor) -> Tensor:
    """The two numbers after the newest, for frames that it wants three of."""
    assert frames.shape[1] == 3
    return frames[:, -1:] + torch.tensor([1.0, 2.0]).view(1, 2, 1, 1, 1)


@pytest.mark.parametrize(
    ("horizon", "made"), [(1, [8]), (2, [8, 9]), (3, [8, 9, 10]), (5, [8, 9, 10, 11, 12])]
)
def test_a_block_is_fed_its_own_frames_until_there_are_enough(
    horizon: int, made: list[float]
) -> None:
    assert block_by_block(counting_up, frames_of(5, 6, 7), horizon).flatten().tolist() == made


def test_a_block_sees_always_as_many_frames_the_newest_last() -> None:
    seen: list[list[float]] = []

    def block(frames: Tensor) -> Tensor:
        seen.append(frames.flatten().tolist())
        return frames_of(10 * len(seen), 10 * len(seen) + 1)

    block_by_block(block, frames_of(1, 2, 3), horizon=5)
    assert seen == [[1, 2, 3], [3, 10, 11], [11, 20, 21]]


def test_a_block_that_makes_enough_is_asked_once() -> None:
    calls: list[Tensor] = []

    def block(frames: Tensor) -> Tensor:
        calls.append(frames)
        return frames_of(*range(6))

    assert block_by_block(block, frames_of(1), horizon=6).shape == (1, 6, 1, 1, 1)
    assert len(calls) == 1


# Configuration


@dataclass(frozen=True)
class Sized(NetworkConfig):
    width: int = 8


def test_a_configuration_takes_over_what_the_frames_are() -> None:
    frames = Frames(3, (5, 7), history=6, horizon=2, output="identity")
    assert Sized.of(frames, width=4) == Sized(3, (5, 7), 6, "identity", width=4)
    assert Sized.quick(frames) == Sized.paper(frames) == Sized(3, (5, 7), 6, "identity")


def test_a_network_sees_the_newest_frames_whatever_the_horizon() -> None:
    config = NetworkConfig(history=3)
    assert config.lags(1) == config.lags(9) == (2, 1, 0)


def test_an_output_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="'tanh' is none of sigmoid, identity"):
        NetworkConfig(output="tanh")


# Changes


class Constant(Recurrent):
    """Gives the same frame always and counts its steps."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def step(self, frame: Tensor, state: int | None) -> tuple[Tensor, int]:
        return torch.full_like(frame, self.value), (state or 0) + 1


class AtOnce(nn.Module):
    """Gives 1, 2, 3 ... at once, after outputs for the past."""

    def forward(self, frames: Tensor, horizon: int) -> Tensor:
        past = torch.full((frames.shape[1] - 1,), -1.0)
        return frames_of(*past.tolist(), *range(1, horizon + 1))


def with_gain(network: Any) -> Any:
    nn.init.ones_(network.gain)
    return network


def test_a_residual_is_from_step_to_step_where_the_network_is_recurrent() -> None:
    assert isinstance(residual(Constant(0)), StepResidual)
    assert isinstance(residual(AtOnce()), Residual)


def test_a_residual_without_change_is_persistence() -> None:
    assert StepResidual(Constant(0))(frames_of(3, 7), 4).flatten().tolist() == [3, 7, 7, 7, 7]
    assert Residual(AtOnce())(frames_of(3, 7), 4).flatten().tolist() == [7, 7, 7, 7]


def test_a_residual_adds_each_change_to_the_frame_that_was_fed() -> None:
    outputs = with_gain(StepResidual(Constant(2)))(frames_of(3, 7), 3)
    assert outputs.flatten().tolist() == [5, 9, 11, 13]


def test_a_residual_at_once_adds_all_changes_to_the_newest_frame() -> None:
    assert with_gain(Residual(AtOnce()))(frames_of(3, 7), 3).flatten().tolist() == [8, 9, 10]


@pytest.mark.parametrize("before", [None, 4])
def test_a_residual_hands_the_state_of_its_network_on(before: int | None) -> None:
    _, state = StepResidual(Constant(0)).step(torch.zeros(1, 1, 1, 1), before)
    assert state == (before or 0) + 1
