"""A history: the slots of a flow up to each init_time, none after it, none made up."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from data.city import City
from data.flow import label
from data.windows import whole
from forecasting.history import History

START = np.datetime64("2016-01-01T00:00", "s")
STEP = np.timedelta64(1800, "s")
CELLS = np.arange(12).reshape(2, 2, 3)

present_slots = st.sets(st.integers(0, 60), min_size=1)
lag_lists = st.lists(st.integers(0, 12), unique=True, max_size=5)


def flow_at(numbers: set[int]) -> xr.DataArray:
    """A flow whose vehicles tell the slot's number and the cell."""
    slots = np.array(sorted(numbers))
    city = City("toy", "Toy", "Asia/Shanghai", STEP, (2, 3))
    return label(100 * slots[:, None, None, None] + CELLS, START + slots * STEP, city)


def times(*slots: int) -> np.ndarray:
    return START + np.array(slots, dtype=np.int64) * STEP


@given(present_slots, lag_lists)
def test_the_past_holds_the_flow_of_exactly_its_lags(present: set[int], lags: list[int]) -> None:
    flow = flow_at(present)
    init_times = whole(flow, lags, 0)
    past = History.of(flow, init_times).past(lags)
    assert past.shape == (len(init_times), len(lags), 2, 2, 3)
    for init_time, frames in zip(init_times, past, strict=True):
        slot = int((init_time - START) // STEP)
        assert frames.tolist() == [(100 * (slot - lag) + CELLS).tolist() for lag in lags]


@given(present_slots, st.integers(0, 60), st.lists(st.integers(0, 12), min_size=1, max_size=5))
def test_a_past_with_missing_slots_is_never_made_up(
    present: set[int], slot: int, lags: list[int]
) -> None:
    history = History.of(flow_at(present), times(slot))
    if all(slot - lag in present for lag in lags):
        assert history.past(lags).shape[1] == len(lags)
        return
    with pytest.raises(ValueError, match="slots that the flow lacks"):
        history.past(lags)


@given(present_slots, st.lists(st.integers(0, 60), min_size=1, max_size=4), st.data())
def test_a_slot_after_the_init_time_is_missing_and_so_is_a_gap(
    present: set[int], slots: list[int], data: st.DataObject
) -> None:
    asked = data.draw(st.lists(st.integers(-5, 70), min_size=3, max_size=3))
    history = History.of(flow_at(present), times(*slots))
    found = history.at(np.broadcast_to(times(*asked), (len(slots), 3)))
    for init_slot, frames in zip(slots, found, strict=True):
        for slot, frame in zip(asked, frames, strict=True):
            if slot in present and slot <= init_slot:
                assert frame.tolist() == (100 * slot + CELLS).tolist()
            else:
                assert np.isnan(frame).all()


def test_lags_may_differ_from_one_init_time_to_the_next() -> None:
    history = History.of(flow_at({*range(10)}), times(4, 9))
    past = history.past(np.array([[0, 3], [5, 1]]))
    assert (past[:, :, 0, 0, 0] // 100).tolist() == [[4, 1], [4, 8]]


def test_a_lag_after_the_init_time_is_refused() -> None:
    with pytest.raises(ValueError, match="lag -1 lies after the init_time"):
        History.of(flow_at({0, 1, 2}), times(1)).past([0, -1])


def test_a_history_cannot_be_made_with_what_follows() -> None:
    flow = flow_at({0, 1, 2})
    with pytest.raises(ValueError, match="ends at its newest init_time"):
        History(flow, times(1))
    assert History.of(flow, times(0, 1)).flow.sizes["time"] == 2
    assert History.of(flow, times()).flow.sizes["time"] == 0


def test_a_history_is_a_view_of_the_flow() -> None:
    flow = flow_at({*range(10)})
    assert np.shares_memory(History.of(flow, times(7)).flow.values, flow.values)
