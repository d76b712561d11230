"""A backtest: forecasts beside what was observed, in pieces that bound the memory."""

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from data import windows
from forecasting.backtest import backtest, pieces
from forecasting.baselines import BASELINES
from forecasting.covariates.climatology import Climatology
from forecasting.forecaster import Forecaster
from forecasting.history import History

FlowOf = Callable[..., xr.DataArray]
GRID = (6, 5)
WEEK = 7 * 24


@pytest.fixture(scope="module")
def flow(flow_of: FlowOf) -> xr.DataArray:
    """Eleven weeks of New York, by the hour."""
    values = np.random.default_rng(0).poisson(20, (11 * WEEK, 2, *GRID))
    return flow_of(values, "2016-01-04T05", "America/New_York")


class Recording:
    """A forecaster that keeps the histories that it is given."""

    name = "recording"

    def __init__(self, inner: Forecaster) -> None:
        self.inner, self.histories = inner, list[History]()

    def lags(self, horizon: int) -> tuple[int, ...]:
        return self.inner.lags(horizon)

    def optional_lags(self, horizon: int) -> tuple[int, ...]:
        return self.inner.optional_lags(horizon)

    def __call__(self, history: History, horizon: int) -> xr.DataArray:
        self.histories.append(history)
        return self.inner(history, horizon)


def recent_weeks(flow: xr.DataArray) -> Recording:
    return Recording(BASELINES["recent-and-anomaly"].fit(flow, Climatology.fit(flow)))


def test_a_backtest_of_neighboring_windows_holds_their_slots_once(flow: xr.DataArray) -> None:
    forecaster, horizon = recent_weeks(flow), 4
    init_times = flow["time"].values[9 * WEEK :][:64]
    lags = [*forecaster.lags(horizon), *forecaster.optional_lags(horizon)]
    differ = np.unique(np.arange(9 * WEEK, 9 * WEEK + 64)[:, None] - lags)
    needed = flow[np.unique([*differ, *range(9 * WEEK, 9 * WEEK + 64 + horizon)])]
    assert 64 * len(lags) > 5 * len(differ)  # what stacked windows would hold
    list(backtest(forecaster, needed, init_times, horizon))
    arrays = [one.flow.values for one in forecaster.histories]
    assert sum(len(one.init_times) for one in forecaster.histories) == 64
    assert all(np.shares_memory(one, needed.values) for one in arrays)
    assert max(len(one) for one in arrays) <= 2 * len(differ)


def test_no_history_of_a_backtest_reaches_beyond_its_newest_init_time(flow: xr.DataArray) -> None:
    forecaster = recent_weeks(flow)
    list(backtest(forecaster, flow, flow["time"].values[9 * WEEK : -4 : 50], 4))
    for history in forecaster.histories:
        assert history.flow["time"].values[-1] == history.init_times.max()


def test_pieces_change_nothing(flow: xr.DataArray, monkeypatch: pytest.MonkeyPatch) -> None:
    forecaster, init_times = recent_weeks(flow), flow["time"].values[9 * WEEK : -4 : 7]
    [(whole, observed)] = backtest(forecaster, flow, init_times, 4)
    xr.testing.assert_identical(observed, windows.future(flow, init_times, 4))
    monkeypatch.setattr("forecasting.backtest.PIECE", 200_000)
    parts = list(backtest(forecaster, flow, init_times, 4))
    assert len(parts) > 3
    xr.testing.assert_allclose(xr.concat([one for one, _ in parts], "init_time"), whole)
    xr.testing.assert_identical(xr.concat([one for _, one in parts], "init_time"), observed)


@pytest.mark.parametrize("stride", [1, 24, 200])
def test_pieces_hold_all_windows_in_order_and_lie_near_one_another(
    flow: xr.DataArray, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    init_times = flow["time"].values[::stride]
    monkeypatch.setattr("forecasting.backtest.PIECE", 100 * 240)
    parts = list(pieces(flow, init_times, 0))
    assert np.concatenate(parts).tolist() == init_times.tolist()
    assert all(np.ptp(part) < np.timedelta64(100, "h") for part in parts)
    assert max(len(part) for part in parts) <= 100 // 12


def test_a_window_whose_future_is_not_known_is_refused(flow: xr.DataArray) -> None:
    with pytest.raises(ValueError, match="slots that the flow lacks"):
        list(backtest(recent_weeks(flow), flow, flow["time"].values[-2:], 4))
