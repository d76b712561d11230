"""Trees: what they see of a cell, what they learn, and the contract of a forecaster."""

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from data import windows
from data.errors import FlowcastError
from forecasting.history import History
from forecasting.trees.features import TreesConfig, features
from forecasting.trees.forecaster import TreesFit, fit_trees

pytest.importorskip("sklearn")
DAY, WEEK = 24, 7 * 24
SMALL = TreesConfig(rows=4000, rounds=30, rate=0.2)
FlowOf = Callable[..., xr.DataArray]


@pytest.fixture(scope="module")
def flow(flow_of: FlowOf) -> xr.DataArray:
    """Five weeks of two cells with noise; that of the second one the first one had before."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 8, (5 * WEEK, 2, 1, 2))
    noise[1:, ..., 1] = noise[:-1, ..., 0]
    hour = np.arange(5 * WEEK)[:, None, None, None]
    values = np.clip(40 + 20 * np.sin(hour * 2 * np.pi / DAY) + noise, 0, None)
    return flow_of(values, "2016-01-04T05", "America/New_York", np.timedelta64(3600, "s"))


@pytest.fixture(scope="module")
def parts(flow: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    return flow[: 3 * WEEK], flow[3 * WEEK : 4 * WEEK], flow[4 * WEEK :]


@pytest.fixture(scope="module")
def grown(parts: tuple[xr.DataArray, xr.DataArray, xr.DataArray]) -> TreesFit:
    return fit_trees(*parts[:2], horizon=2, config=SMALL, seed=0)


def forecast(
    grown: TreesFit, flow: xr.DataArray, init_times: np.ndarray, horizon: int
) -> xr.DataArray:
    forecaster = grown.forecaster
    return forecaster(History.of(flow, init_times), horizon)


def test_a_cell_sees_its_frames_its_neighbours_its_city_and_its_place() -> None:
    rng = np.random.default_rng(1)
    frames, maps = rng.normal(size=(2, 4, 2, 4, 3)), rng.normal(size=(2, 2, 6, 4, 3))
    vector, scale = rng.normal(size=(2, 2, 3)), rng.uniform(1, 2, (2, 4, 3))
    seen = features(frames, maps, vector, scale)
    window, channel, y, x = 1, 1, 2, 1
    vehicles = frames[window] * scale

    def around(frame: np.ndarray) -> float:
        return float(frame[y - 1 : y + 2, x - 1 : x + 2].sum() - frame[y, x])

    expected = [
        *vehicles[:, channel, y, x],
        *vehicles[:, 1 - channel, y, x],
        around(vehicles[2, channel]),
        around(vehicles[3, channel]),
        around(vehicles[3, 1 - channel]),
        vehicles[3, channel].sum(),
    ]
    for pair in (0, 2, 4):
        for which in (channel, 1 - channel):
            expected += [maps[window, step, pair + which, y, x] for step in (0, 1)]
    expected += [*vector[window, 1], channel, y, x]
    np.testing.assert_allclose(seen[window, channel, y, x], expected, rtol=1e-5)


def test_they_learn_what_a_neighbour_tells(
    grown: TreesFit, parts: tuple[xr.DataArray, xr.DataArray, xr.DataArray], flow: xr.DataArray
) -> None:
    init_times = windows.whole(flow, (0, 1, 2, 3), 2)
    init_times = init_times[init_times >= parts[2]["time"].values[0]][:100]
    error = forecast(grown, flow, init_times, 2) - windows.future(flow, init_times, 2).values
    first, second = np.sqrt((error**2).mean(["init_time", "channel", "y"])).values[0]
    # The first cell's noise of 8 vehicles nobody can know; the second's was seen in the first.
    assert second < 4 < 7 < first


def test_what_is_selected_does_not_know_the_validation_days(
    parts: tuple[xr.DataArray, xr.DataArray, xr.DataArray],
) -> None:
    train, validation, _ = parts
    config = TreesConfig(rows=1000, rounds=2, patience=5)
    other = validation.copy(data=validation.values * 3)
    one, two = (fit_trees(train, part, 1, config, 0).selected for part in (validation, other))
    init_times = windows.whole(train, (0, 1, 2, 3), 1)[-5:]
    past = History.of(train, init_times)
    xr.testing.assert_identical(one(past, 1), two(past, 1))


def test_a_forecast_is_labelled_and_the_same_in_any_stack(
    grown: TreesFit, flow: xr.DataArray
) -> None:
    init_times = flow["time"].values[[-90, -60, -7]]
    stack = forecast(grown, flow, init_times, 2)
    xr.align(stack, windows.future(flow, init_times, 2), join="exact")
    assert stack.dtype == np.float32
    assert (stack.values >= 0).all()
    single = [forecast(grown, flow, init_times[[n]], 2) for n in range(3)]
    xr.testing.assert_allclose(stack, xr.concat(single, "init_time"), atol=1e-4)
    short = forecast(grown, flow, init_times, 1)
    xr.testing.assert_allclose(short, stack.isel(lead_time=slice(1)), atol=1e-4)


def test_missing_slots_of_days_before_do_not_stop_a_forecast(
    grown: TreesFit, flow: xr.DataArray
) -> None:
    alone = flow[-4:]
    result = forecast(grown, alone, alone["time"].values[[-1]], 2)
    assert np.isfinite(result.values).all()


def test_nothing_after_init_time_is_looked_at(grown: TreesFit, flow: xr.DataArray) -> None:
    init_time = flow["time"].values[-50]
    later = (flow["time"].values > init_time)[:, None, None, None]
    other = flow.copy(data=np.where(later, np.float32(999), flow.values))
    one, two = (forecast(grown, truth, init_time[None], 2) for truth in (flow, other))
    xr.testing.assert_identical(one, two)


def test_more_steps_than_were_grown_are_refused(grown: TreesFit, flow: xr.DataArray) -> None:
    with pytest.raises(FlowcastError, match="grown for 2 steps ahead, not for 3"):
        forecast(grown, flow, flow["time"].values[[-10]], 3)
