from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from data import windows
from data.city import City
from data.clock import local
from data.flow import label
from forecasting.baselines import (
    HistoricalAverage,
    Persistence,
    PlusAnomaly,
    RecentWeeks,
    SameSlotLastWeek,
    fit_baselines,
)
from forecasting.covariates.climatology import Climatology
from forecasting.covariates.expected import Expected
from forecasting.forecaster import Forecaster
from forecasting.history import History
from forecasting.metrics import errors_of, sums

FlowOf = Callable[..., xr.DataArray]
HALF_DAY = np.timedelta64(12, "h")
DAY = np.timedelta64(1, "D")
NEW_YORK = "America/New_York"
TEST_SLOTS = 1296


def forecast_at(
    forecaster: Forecaster, flow: xr.DataArray, init_time: str, horizon: int
) -> list[float]:
    """The first cell's forecast from one init_time, lead by lead."""
    init_times = np.array([init_time], "datetime64[s]")
    return forecaster(History.of(flow, init_times), horizon)[0, :, 0, 0, 0].values.tolist()


def test_persistence_repeats_the_newest_slot(flow_of: FlowOf) -> None:
    flow = flow_of([3, 1, 4, 1, 5])
    assert forecast_at(Persistence(), flow, "2016-01-04T02", 3) == [4, 4, 4]


def test_the_historical_average_is_the_mean_of_weekday_and_slot(flow_of: FlowOf) -> None:
    # Mondays 1 and 3, Tuesdays 10 and 30, then a Monday far from its mean.
    flow = flow_of([1, 10, 0, 0, 0, 0, 0, 3, 30, 0, 0, 0, 0, 8, 77], step=DAY)
    average = HistoricalAverage(Climatology.fit(flow[:13]))
    assert forecast_at(average, flow, "2016-01-17", 2) == [2, 20]


def test_the_average_and_anomaly_adds_a_share_of_the_newest_difference(flow_of: FlowOf) -> None:
    flow = flow_of([1, 10, 0, 0, 0, 0, 0, 3, 30, 0, 0, 0, 0, 0, 7], step=DAY)
    climatology = Climatology.fit(flow[:14])
    # The newest Monday has 7 where 2 is the mean: 0.8 * 5 is 4, 0.5 * 5 is 2.5.
    assert forecast_at(PlusAnomaly(HistoricalAverage(climatology)), flow, "2016-01-18", 2) == [
        24,
        4,
    ]
    assert forecast_at(PlusAnomaly(HistoricalAverage(climatology), 0.5), flow, "2016-01-18", 1) == [
        22.5
    ]


def test_a_forecast_is_never_below_zero(flow_of: FlowOf) -> None:
    flow = flow_of([50, 10, 0, 0, 0, 0, 0, 0], step=DAY)
    forecaster = PlusAnomaly(HistoricalAverage(Climatology.fit(flow[:7])))
    # 0 where 50 is the mean: 10 - 0.8 * 50 would be -30.
    assert forecast_at(forecaster, flow, "2016-01-11", 1) == [0]


def test_same_slot_last_week_looks_a_week_before_each_lead(flow_of: FlowOf) -> None:
    flow = flow_of(range(20), step=HALF_DAY)
    forecaster = SameSlotLastWeek.fit(flow)
    assert forecaster.lags(2) == (13, 12)
    assert forecast_at(forecaster, flow, "2016-01-13T00", 2) == [18 + 1 - 14, 18 + 2 - 14]


def test_same_slot_last_week_goes_back_further_beyond_a_week(flow_of: FlowOf) -> None:
    flow = flow_of(range(40), step=DAY)
    forecaster = SameSlotLastWeek.fit(flow)
    expected = [*range(24, 31), *range(24, 31), 24]
    assert forecast_at(forecaster, flow, "2016-02-03", 15) == expected


# Mondays of 10, 20, 30 and 40, Tuesdays of 1, 2, 3 and 4, then a Monday of 50: all lie within
# 1.4826 times their median deviation and the root of their median and 1, so none is drawn in, and
# weeks count half after six.
MONDAYS = [v for week in range(1, 5) for v in (10 * week, week, *[0] * 5)]
WEIGHTS = [0.5 ** (weeks / 6) for weeks in (4, 3, 2, 1)]
MONDAY = sum(w * v for w, v in zip(WEIGHTS, (10, 20, 30, 40), strict=True)) / sum(WEIGHTS)


def test_recent_weeks_are_a_mean_in_which_the_newest_count_most(flow_of: FlowOf) -> None:
    flow = flow_of([*MONDAYS, 50], step=DAY)
    forecaster = RecentWeeks(Expected.fit(flow[:28]))
    assert round(MONDAY, 2) == 26.44
    assert forecaster.lags(2) == ()
    assert (
        forecaster.optional_lags(2)
        == tuple(sorted({7 * n - d for n in range(1, 9) for d in (1, 2)}))[::-1]
    )
    sunday, monday = "2016-01-31", "2016-02-01"
    assert forecast_at(forecaster, flow, sunday, 2) == pytest.approx([MONDAY, MONDAY / 10])
    # A week later the fifth Monday is known, and counts most.
    weights = [0.5 ** (weeks / 6) for weeks in (5, 4, 3, 2, 1)]
    fifth = sum(w * v for w, v in zip(weights, (10, 20, 30, 40, 50), strict=True)) / sum(weights)
    assert forecast_at(forecaster, flow, monday, 7)[-1] == pytest.approx(fifth)


def test_recent_weeks_and_anomaly_add_a_share_of_the_newest_difference(flow_of: FlowOf) -> None:
    flow = flow_of([*MONDAYS, 50], step=DAY)
    forecaster = PlusAnomaly(RecentWeeks(Expected.fit(flow[:28])))
    assert forecaster.lags(1) == (0,)
    expected = MONDAY / 10 + 0.8 * (50 - MONDAY)
    assert forecast_at(forecaster, flow, "2016-02-01", 1) == pytest.approx([expected])
    half = PlusAnomaly(forecaster.average, 0.5)
    expected = MONDAY / 10 + 0.5 * (50 - MONDAY)
    assert forecast_at(half, flow, "2016-02-01", 1) == pytest.approx([expected])


def test_where_fewer_than_four_weeks_are_known_the_mean_stands_in(flow_of: FlowOf) -> None:
    flow = flow_of([*MONDAYS, 50], step=DAY)
    forecaster = RecentWeeks(Expected.fit(flow[:28]))
    # Of the last two Mondays 30 and 40 are known, and twice the mean of all four, 25, with weight 1.
    near, far = 0.5 ** (1 / 6), 0.5 ** (2 / 6)
    expected = (near * 40 + far * 30 + 2 * 25) / (near + far + 2)
    assert forecast_at(forecaster, flow[14:], "2016-01-31", 1) == pytest.approx([expected])


def hourly(flow_of: FlowOf, start: str, days: int) -> xr.DataArray:
    """A flow of New York whose vehicles count its hours."""
    return flow_of(range(24 * days), start, NEW_YORK)


@pytest.mark.parametrize(
    ("start", "init_time"),
    [
        pytest.param("2016-02-22T05", "2016-03-12T17", id="clocks go forward within the horizon"),
        pytest.param("2016-02-22T05", "2016-03-15T20", id="clocks went forward two days ago"),
        pytest.param("2016-10-17T04", "2016-11-05T16", id="clocks go back within the horizon"),
        pytest.param("2016-10-17T04", "2016-11-08T20", id="clocks went back two days ago"),
    ],
)
@pytest.mark.parametrize("horizon", [4, 30, 24 * 9])
def test_same_slot_last_week_is_by_wall_time_across_daylight_saving(
    flow_of: FlowOf, start: str, init_time: str, horizon: int
) -> None:
    flow = hourly(flow_of, start, 30)
    forecaster = SameSlotLastWeek.fit(flow)
    vehicles = forecast_at(forecaster, flow, init_time, horizon)
    valid = np.datetime64(init_time, "s") + np.arange(1, horizon + 1) * np.timedelta64(1, "h")
    looked_at = flow["time"].values[np.array(vehicles, dtype=int)]
    assert (looked_at <= np.datetime64(init_time)).all()
    wanted, found = (local(time, NEW_YORK).tz_localize(None) for time in (valid, looked_at))
    # 02:00 on 13 March never was, and is what 02:00 on 20 March would look for.
    has_twin = wanted.strftime("%m-%d %H").values != "03-20 02"
    weeks = (wanted - found) / DAY / 7
    assert np.isin(weeks[has_twin], [1, 2]).all()


def test_at_a_lead_of_a_week_moved_clocks_never_ask_for_the_future(flow_of: FlowOf) -> None:
    flow = hourly(flow_of, "2016-02-22T05", 30)
    forecaster = SameSlotLastWeek.fit(flow)
    week = 7 * 24
    # From 10 March 12:00 EST (hour 419 of the flow): at lead 167 it is 12:00 EDT on 17 March, a
    # week after the newest slot; at lead 168 it is 13:00, which only 3 March has.
    vehicles = forecast_at(forecaster, flow, "2016-03-10T17", week)
    newest = int((np.datetime64("2016-03-10T17") - flow["time"].values[0]) / np.timedelta64(1, "h"))
    assert vehicles[-2:] == [newest, newest + 1 - week]


@pytest.mark.parametrize("step", [np.timedelta64(n, "h") for n in (4, 8, 12, 24)], ids=str)
def test_an_hour_of_daylight_saving_moves_no_long_step(
    flow_of: FlowOf, step: np.timedelta64
) -> None:
    # The clocks go back on 6 November; slots keep their number, an hour being less than half a step.
    flow = flow_of(range(14 * int(DAY / step)), "2016-11-01T04", NEW_YORK, step)
    forecaster = SameSlotLastWeek.fit(flow)
    week = 7 * int(DAY / step)
    assert forecaster.lags(1) == (week - 1,)
    init_time = str(flow["time"].values[week])
    assert forecast_at(forecaster, flow, init_time, 2) == [1, 2]


def test_same_slot_last_week_needs_more_slots_only_where_clocks_move(flow_of: FlowOf) -> None:
    flow = flow_of([1, 2], timezone="Asia/Shanghai")
    assert SameSlotLastWeek.fit(flow).lags(2) == (167, 166)
    flow = flow_of([1, 2], timezone=NEW_YORK)
    assert SameSlotLastWeek.fit(flow).lags(2) == (168, 167, 166, 165)


@pytest.fixture(scope="session")
def raw(real_data: Path) -> xr.DataArray:
    """The rows of the file of New York, one after another as if clocks were never moved."""
    path = real_data / "nyc-taxi" / "NYC16_M16x12_T30_InOut.h5"
    if not path.is_file():
        pytest.skip(f"no taxis of New York in {path}")
    with h5py.File(path) as file:
        values = file["data"][:]
    step = np.timedelta64(30, "m")
    time = np.datetime64("2016-01-01", "s") + np.arange(len(values)) * step
    return label(values, time, City("raw", "Raw rows", "UTC", step, (16, 12)))


@pytest.fixture(scope="session")
def scores(raw: xr.DataArray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """RMSE and MAE of each baseline at leads 1 to 4, over the windows whose future is tested."""
    assert raw.sizes["time"] == 4320
    before, first = raw[:-TEST_SLOTS], raw["time"].values[-TEST_SLOTS - 1]
    table = {}
    for name, forecaster in fit_baselines(before).items():
        init_times = windows.whole(raw, sorted({*forecaster.lags(4), *range(4)}), 4)
        init_times = init_times[init_times >= first]
        forecast = forecaster(History.of(raw, init_times), 4)
        observed = windows.future(raw, init_times, 4)
        errors = errors_of(sums(forecast, observed))[["rmse", "mae"]].isel(lead_time=slice(4))
        table[name] = tuple(one.sel(channel="both").values for one in errors.values())
    return table


@pytest.mark.parametrize(
    ("name", "lead", "published_rmse", "published_mae", "within"),
    [
        ("persistence", 1, 17.34, 5.57, 0.01),
        ("persistence", 4, 43.10, 12.99, 0.01),
        ("last-week", 1, 17.42, 5.27, 0.005),
        ("last-week", 4, 17.42, 5.27, 0.005),
        ("historical-average", 1, 15.94, 4.88, 0.005),
        ("historical-average", 4, 15.94, 4.88, 0.005),
        ("average-and-anomaly", 1, 11.65, 3.92, 0.01),
        ("average-and-anomaly", 4, 15.44, 4.91, 0.04),
    ],
)
def test_errors_on_the_taxis_of_new_york_are_those_measured_before(
    scores: dict[str, tuple[np.ndarray, np.ndarray]],
    name: str,
    lead: int,
    published_rmse: float,
    published_mae: float,
    within: float,
) -> None:
    by_rmse, by_mae = scores[name]
    assert by_rmse[lead - 1] == pytest.approx(published_rmse, rel=within)
    assert by_mae[lead - 1] == pytest.approx(published_mae, rel=within)
