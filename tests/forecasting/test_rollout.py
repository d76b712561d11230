import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from forecasting.models.residual import Residual
from forecasting.models.rollout import rollout


def frames_of(*values: float) -> Tensor:
    """One sample of frames with one cell each."""
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1, 1)


def ten_times(frame: Tensor, calls: int | None) -> tuple[Tensor, int]:
    """Ten times the frame plus the number of the call, which is the state."""
    call = (calls or 0) + 1
    return 10 * frame + call, call


def test_the_true_frames_are_fed_first_and_then_the_own_outputs() -> None:
    outputs = rollout(ten_times, frames_of(1, 2, 3), horizon=3)
    # 10*1+1, 10*2+2, 10*3+3, then 10*33+4 and 10*334+5.
    assert outputs.flatten().tolist() == [11, 22, 33, 334, 3345]


def test_the_state_is_none_at_the_first_frame_and_handed_on_after_it() -> None:
    states: list[int | None] = []

    def step(frame: Tensor, state: int | None) -> tuple[Tensor, int]:
        states.append(state)
        return frame, len(states)

    rollout(step, frames_of(5, 5), horizon=2)
    assert states == [None, 1, 2]


@given(past=st.integers(1, 5), horizon=st.integers(1, 5))
def test_there_is_one_output_for_each_frame_but_the_first_and_for_each_lead(
    past: int, horizon: int
) -> None:
    outputs = rollout(ten_times, torch.zeros(2, past, 3, 4, 5), horizon)
    assert outputs.shape == (2, past - 1 + horizon, 3, 4, 5)


@given(past=st.integers(1, 4), short=st.integers(1, 4), more=st.integers(0, 4))
def test_a_shorter_horizon_is_the_start_of_a_longer_one(past: int, short: int, more: int) -> None:
    frames = frames_of(*range(past))
    longer = rollout(ten_times, frames, short + more)
    assert torch.equal(rollout(ten_times, frames, short), longer[:, : past - 1 + short])


def test_the_gradient_reaches_back_through_the_outputs_that_were_fed() -> None:
    frames = frames_of(1, 2).requires_grad_()
    rollout(ten_times, frames, horizon=3)[0, -1].sum().backward()
    assert frames.grad is not None
    # Three steps follow the last frame, each times ten; the first is not fed into another step.
    assert frames.grad.flatten().tolist() == [0, 1000]


class Constant(nn.Module):
    """Gives the same frame always and counts its steps."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def step(self, frame: Tensor, steps: int | None) -> tuple[Tensor, int]:
        return torch.full_like(frame, self.value), (steps or 0) + 1


def test_a_residual_without_change_is_persistence() -> None:
    outputs = Residual(Constant(0))(frames_of(3, 7), 4)
    assert outputs.flatten().tolist() == [3, 7, 7, 7, 7]


def test_a_residual_adds_each_change_to_the_frame_that_was_fed() -> None:
    residual = Residual(Constant(2))
    torch.nn.init.ones_(residual.gain)
    outputs = residual(frames_of(3, 7), 3)
    assert outputs.flatten().tolist() == [5, 9, 11, 13]


@pytest.mark.parametrize("before", [None, 4])
def test_a_residual_hands_the_state_of_its_network_on(before: int | None) -> None:
    _, state = Residual(Constant(0)).step(torch.zeros(1, 1, 1, 1), before)
    assert state == (before or 0) + 1
