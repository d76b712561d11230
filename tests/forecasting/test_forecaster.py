"""The contract of every forecaster: all baselines and a network's."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

from data import windows
from data.errors import FlowcastError
from forecasting.baselines import BASELINES, PlusAnomaly, RecentWeeks
from forecasting.covariates.climatology import Climatology
from forecasting.covariates.config import RAW_FLOW, CovariatesConfig
from forecasting.covariates.covariates import Covariates, fit_covariates
from forecasting.covariates.expected import Expected
from forecasting.ensemble import NeuralForecaster
from forecasting.forecaster import Forecaster
from forecasting.history import History
from forecasting.networks import NETWORKS
from forecasting.networks.base import Frames, RecurrentConfig
from forecasting.networks.with_covariates import CovariateShape
from forecasting.rollout.torch_rollout import TorchRollout, build_network
from forecasting.training.hardware import pick_device

FlowOf = Callable[..., xr.DataArray]
HOUR = np.timedelta64(1, "h")
GRID = (6, 5)
SEEN = RecurrentConfig(history=4, grid=GRID)
ANOMALY = dataclasses.replace(RAW_FLOW, anomaly=True)
CLOCKS_GO_FORWARD = np.datetime64("2016-03-13T07", "s")


def vehicles(slots: int, seed: int = 0) -> np.ndarray:
    """A day's rhythm with noise, small enough that a forecast without care falls below zero."""
    hour = np.arange(slots)[:, None, None, None]
    noise = np.random.default_rng(seed).normal(0, 5, (slots, 2, *GRID))
    return np.clip(4 + 4 * np.sin(hour * np.pi / 12) + noise, 0, None)


@pytest.fixture(scope="module")
def flow(flow_of: FlowOf) -> xr.DataArray:
    """Six weeks of New York with the end of winter time in the fifth."""
    return flow_of(vehicles(6 * 7 * 24), "2016-02-08T05", "America/New_York", HOUR)


@pytest.fixture(scope="module")
def init_times(flow: xr.DataArray) -> np.ndarray:
    """Some before, some after the clocks go forward."""
    return CLOCKS_GO_FORWARD + np.array([-30, -2, 0, 1, 20, 100]) * HOUR


def neural(
    name: str, shown: CovariatesConfig | None = None, members: int = 1, history: int = 4
) -> Callable[[xr.DataArray], NeuralForecaster]:
    """How a forecaster of untrained networks is made."""
    shown = shown or CovariatesConfig()

    def make(flow: xr.DataArray) -> NeuralForecaster:
        frames = Frames(2, GRID, history=history, horizon=4, output="identity", day=24)
        config = NETWORKS[name].config.quick(frames)
        context, _ = fit_covariates(flow, shown)
        around = None if shown.raw_flow else CovariateShape(shown.maps, context.features)
        torch.manual_seed(0)
        networks = [build_network(name, config, around) for _ in range(members)]
        with torch.no_grad():
            for network in networks:  # untrained, nothing but the newest frame would count
                for parameter in network.parameters():
                    parameter.add_(0.05 * torch.randn_like(parameter))
        rollouts = tuple(TorchRollout(network, config) for network in networks)
        title = f"{members} {name}, {'plain' if shown.raw_flow else 'in context'}"
        return NeuralForecaster(rollouts, context, title)

    return make


def baseline(name: str) -> Callable[[xr.DataArray], Forecaster]:
    return lambda flow: BASELINES[name].fit(flow, Climatology.fit(flow))


FORECASTERS = {
    **{name: baseline(name) for name in BASELINES},
    **{name: neural(name) for name in NETWORKS},
    "plain": neural("swinlstm-b", RAW_FLOW),
    "ensemble": neural("swinlstm-b", members=2),
}


@pytest.fixture(params=FORECASTERS)
def forecaster(request: pytest.FixtureRequest, flow: xr.DataArray) -> Forecaster:
    return FORECASTERS[request.param](flow[: 4 * 7 * 24])


def forecast(
    forecaster: Forecaster, flow: xr.DataArray, init_times: np.ndarray, horizon: int
) -> xr.DataArray:
    return forecaster(History.of(flow, init_times), horizon)


def test_every_network_stands_under_this_contract() -> None:
    assert NETWORKS.keys() <= FORECASTERS.keys()


def test_a_forecast_is_labelled(
    forecaster: Forecaster, flow: xr.DataArray, init_times: np.ndarray
) -> None:
    result = forecast(forecaster, flow, init_times, 3)
    assert result.dims == ("init_time", "lead_time", "channel", "y", "x")
    assert result.shape == (6, 3, 2, *GRID)
    assert result.name == "flow"
    assert result.dtype == np.float32
    assert result["init_time"].values.tolist() == init_times.tolist()
    assert (result["lead_time"].values == np.array([1, 2, 3]) * HOUR).all()
    assert result["channel"].values.tolist() == ["inflow", "outflow"]
    assert result.attrs == flow.attrs


def test_valid_time_is_init_time_plus_lead_time(
    forecaster: Forecaster, flow: xr.DataArray, init_times: np.ndarray
) -> None:
    result = forecast(forecaster, flow, init_times, 3)
    assert result["valid_time"].dims == ("init_time", "lead_time")
    assert (result["valid_time"] == result["init_time"] + result["lead_time"]).all()


def test_a_forecast_fits_what_it_is_compared_with(
    forecaster: Forecaster, flow: xr.DataArray, init_times: np.ndarray
) -> None:
    result = forecast(forecaster, flow, init_times, 3)
    xr.align(result, windows.future(flow, init_times, 3), join="exact")


def test_a_forecast_is_finite_and_not_negative(
    forecaster: Forecaster, flow: xr.DataArray, init_times: np.ndarray
) -> None:
    result = forecast(forecaster, flow, init_times, 12)
    assert np.isfinite(result.values).all()
    assert (result.values >= 0).all()


def test_horizon_2_is_the_start_of_horizon_4(
    forecaster: Forecaster, flow: xr.DataArray, init_times: np.ndarray
) -> None:
    short, long = (forecast(forecaster, flow, init_times, horizon) for horizon in (2, 4))
    xr.testing.assert_identical(short, long.isel(lead_time=slice(2)))


def test_a_horizon_may_be_longer_than_a_week(
    forecaster: Forecaster, flow: xr.DataArray, init_times: np.ndarray
) -> None:
    result = forecast(forecaster, flow, init_times[:2], 7 * 24 + 5)
    assert result.sizes["lead_time"] == 173
    assert np.isfinite(result.values).all()


def test_a_stack_equals_its_single_windows(
    forecaster: Forecaster, flow: xr.DataArray, init_times: np.ndarray
) -> None:
    stack = forecast(forecaster, flow, init_times, 4)
    single = [forecast(forecaster, flow, init_times[[n]], 4) for n in range(len(init_times))]
    xr.testing.assert_allclose(stack, xr.concat(single, "init_time"), atol=1e-4)


def test_the_same_past_gives_the_same_forecast_whatever_follows(
    forecaster: Forecaster, flow: xr.DataArray, init_times: np.ndarray
) -> None:
    for init_time in init_times:
        other = flow.copy(data=np.where(_after(flow, init_time), 1e3, flow.values))
        one, two = (
            forecast(forecaster, truth.astype(np.float32), init_time[None], 4)
            for truth in (flow, other)
        )
        xr.testing.assert_identical(one, two)


def _after(flow: xr.DataArray, init_time: np.datetime64) -> np.ndarray:
    return (flow["time"].values > init_time)[:, None, None, None]


def test_no_lag_lies_in_the_future(forecaster: Forecaster) -> None:
    for horizon in (1, 4, 24, 200):
        for lags in (forecaster.lags(horizon), forecaster.optional_lags(horizon)):
            assert all(lag >= 0 for lag in lags)
            assert list(lags) == sorted(set(lags), reverse=True)


def test_a_forecast_leaves_its_history_as_it_was(
    forecaster: Forecaster, flow: xr.DataArray, init_times: np.ndarray
) -> None:
    before = flow.copy(deep=True)
    forecaster(History.of(flow, init_times), 4)
    xr.testing.assert_identical(flow, before)


def test_a_forecaster_has_a_name_of_its_own(flow: xr.DataArray) -> None:
    names = [fit(flow).name for fit in FORECASTERS.values()]
    assert len(set(names)) == len(names)


# A network's forecaster


class NoChange(nn.Module):
    """The last anomaly, again and again; keeps what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.shown: list[Tensor] = []

    def forward(self, frames: Tensor, horizon: int, *shown: Tensor) -> Tensor:
        self.shown.append(frames.clone())
        return torch.cat([frames, *[frames[:, -1:]] * (horizon - 1)], dim=1)


def no_change(context: Covariates, seen: RecurrentConfig = SEEN) -> NeuralForecaster:
    return NeuralForecaster((TorchRollout(NoChange(), seen),), context, "no change")


def test_a_network_without_change_carries_the_last_anomaly_on(
    flow: xr.DataArray, init_times: np.ndarray
) -> None:
    context, _ = fit_covariates(flow, ANOMALY)
    ours = forecast(no_change(context), flow, init_times, 3)
    expected = forecast(PlusAnomaly(RecentWeeks(context.expected), 1.0), flow, init_times, 3)
    xr.testing.assert_allclose(ours, expected, atol=1e-4)


def test_a_network_sees_scaled_anomalies_oldest_first(flow_of: FlowOf) -> None:
    # Eight weeks of 6 vehicles, then 8 on a day.
    flow = flow_of([*[6] * 56, 8], step=np.timedelta64(1, "D"))
    scale = np.full((2, 1, 1), 0.5, dtype=np.float32)
    context = Covariates(ANOMALY, Expected.fit(flow), scale, 1.0)
    forecaster = no_change(context, RecurrentConfig(history=3, grid=(1, 1)))
    result = forecast(forecaster, flow, flow["time"].values[[-1]], 1)
    network = forecaster.rollouts[0].network  # type: ignore[attr-defined]
    assert network.shown[0][0, :, 0, 0, 0].tolist() == [0, 0, (8 - 6) / 0.5]
    assert result.values[0, 0, 0, 0, 0] == 6 + 4 * 0.5


def test_the_batches_of_a_long_stack_come_back_in_order(flow: xr.DataArray) -> None:
    init_times = flow["time"].values[24:200]
    context, _ = fit_covariates(flow, ANOMALY)
    ours = forecast(no_change(context), flow, init_times, 1)
    expected = forecast(PlusAnomaly(RecentWeeks(context.expected), 1.0), flow, init_times, 1)
    xr.testing.assert_allclose(ours, expected, atol=1e-4)


def test_the_forecast_of_several_networks_is_their_mean(
    flow: xr.DataArray, init_times: np.ndarray
) -> None:
    three = neural("swinlstm-b", RAW_FLOW, members=3)(flow)
    past = History.of((flow + 100).assign_attrs(flow.attrs), init_times)  # none falls below zero
    single = [dataclasses.replace(three, rollouts=(one,))(past, 4) for one in three.rollouts]
    assert not np.allclose(single[0], single[1], atol=0.1)
    mean = sum(one.values for one in single) / 3
    np.testing.assert_allclose(three(past, 4).values, mean, rtol=1e-5)


def test_without_any_optional_slot_the_forecast_is_the_climatology(
    flow: xr.DataArray, init_times: np.ndarray
) -> None:
    known = flow[: 4 * 7 * 24]
    usual = RecentWeeks(Expected.fit(known))
    times = init_times[:, None] + np.arange(1, 4) * HOUR
    np.testing.assert_allclose(
        usual(History.of(flow[:0], init_times), 3).values,
        usual.expected.climatology.expected(times),
        rtol=1e-5,
    )


def test_a_forecaster_with_stochastic_depth_knows_no_chance(
    flow: xr.DataArray, init_times: np.ndarray
) -> None:
    forecaster = neural("swinlstm-b")(flow)
    rollout = forecaster.rollouts[0]
    assert isinstance(rollout, TorchRollout)
    rollout.network.train()
    one, two = (forecast(forecaster, flow, init_times, 4) for _ in range(2))
    xr.testing.assert_identical(one, two)


def test_a_network_may_see_a_single_slot(flow: xr.DataArray, init_times: np.ndarray) -> None:
    forecaster = neural("swinlstm-b", history=1)(flow)
    assert forecaster.lags(4) == (0,)
    assert forecast(forecaster, flow, init_times, 4).sizes["lead_time"] == 4


def test_the_historical_average_forecasts_by_wall_time(flow: xr.DataArray) -> None:
    average = FORECASTERS["historical-average"](flow)
    result = forecast(average, flow, np.array([CLOCKS_GO_FORWARD - 2 * HOUR]), 4)
    seen, wanted = (
        pd.DatetimeIndex(times).tz_localize("UTC").tz_convert("America/New_York")
        for times in (flow["time"].values, result["valid_time"].values[0])
    )
    for lead, time in enumerate(wanted):
        same = (seen.day_of_week == time.day_of_week) & (seen.hour == time.hour)
        assert np.allclose(result.values[0, lead], flow.values[same].mean(axis=0), atol=1e-4)


@pytest.mark.parametrize("name", ["gpu", "cuda:99", ""])
def test_a_device_that_this_machine_lacks_is_refused(name: str) -> None:
    with pytest.raises(FlowcastError, match=f"no device {name!r}; use --device auto, cpu or cuda"):
        pick_device(name)


def test_any_machine_has_a_cpu_and_a_device_of_choice() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda")
