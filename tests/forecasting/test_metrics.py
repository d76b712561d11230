import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from forecasting.metrics import errors_of, rmse, rmse_by_lead, sums

DIMS = ("init_time", "lead_time", "channel", "y", "x")
HOUR = np.timedelta64(3600, "s")


def flow(values: object) -> xr.DataArray:
    """Two windows, two leads, both channels, one cell: `values` has shape (2, 2, 2)."""
    return xr.DataArray(
        np.asarray(values, dtype=np.float32).reshape(2, 2, 2, 1, 1),
        dims=DIMS,
        coords={
            "init_time": np.datetime64("2016-01-04", "s") + np.arange(2) * HOUR,
            "lead_time": np.arange(1, 3) * HOUR,
            "channel": ["inflow", "outflow"],
        },
    )


def errors(forecast: xr.DataArray, observed: xr.DataArray, above: float = 10) -> xr.Dataset:
    return errors_of(sums(forecast, observed, above))


OBSERVED = flow([[[10, 20], [40, 100]], [[20, 5], [50, 200]]])
FORECAST = flow([[[13, 20], [40, 90]], [[24, 9], [40, 200]]])
# Errors:          3   0    0  -10       4   4   -10   0


def value(table: xr.Dataset, name: str, lead: int | None, channel: str) -> float:
    """One entry; lead None is all leads together."""
    row = -1 if lead is None else lead - 1
    return float(table[name].isel(lead_time=row).sel(channel=channel))


def test_the_root_is_taken_after_the_mean() -> None:
    # Not the mean of the windows' own roots, which would be (2.12 + 4) / 2 and (7.07 + 7.07) / 2.
    roots = [(41 / 4) ** 0.5, (200 / 4) ** 0.5]
    both = errors(FORECAST, OBSERVED)["rmse"].sel(channel="both").values
    assert both == pytest.approx([*roots, (241 / 8) ** 0.5])
    assert rmse_by_lead(sums(FORECAST, OBSERVED)) == pytest.approx(
        {"lead 1": roots[0], "lead 2": roots[1], "all": (241 / 8) ** 0.5}
    )


def test_a_root_of_no_errors_is_not_known() -> None:
    found = rmse(np.array([18.0, 0.0]), np.array([2.0, 0.0]))
    assert found[0] == 3
    assert np.isnan(found[1])


def test_missing_cells_are_left_out() -> None:
    holed = OBSERVED.copy()
    holed[0, 1, 1] = np.nan
    table = errors(FORECAST, holed)
    assert value(table, "rmse", None, "both") == pytest.approx((141 / 7) ** 0.5)
    assert value(table, "mae", None, "both") == pytest.approx(21 / 7)


def test_large_flows_are_squared_without_loss() -> None:
    table = errors(flow(np.full((2, 2, 2), 1e6 + 0.5)), flow(np.full((2, 2, 2), 1e6)))
    assert value(table, "rmse", None, "both") == pytest.approx(0.5)


def test_the_table_tells_each_lead_and_channel() -> None:
    table = errors(FORECAST, OBSERVED)
    assert value(table, "rmse", 1, "inflow") == pytest.approx((25 / 2) ** 0.5)
    assert value(table, "rmse", 1, "outflow") == pytest.approx((16 / 2) ** 0.5)
    assert value(table, "rmse", 2, "inflow") == pytest.approx((100 / 2) ** 0.5)
    assert value(table, "mae", 2, "outflow") == pytest.approx(5)


def test_the_table_tells_leads_and_channels_together() -> None:
    table = errors(FORECAST, OBSERVED)
    assert value(table, "rmse", 1, "both") == pytest.approx((41 / 4) ** 0.5)
    assert value(table, "mae", 2, "both") == pytest.approx(5)
    assert value(table, "rmse", None, "inflow") == pytest.approx((125 / 4) ** 0.5)
    assert value(table, "mae", None, "outflow") == pytest.approx(14 / 4)
    assert value(table, "rmse", None, "both") == pytest.approx((241 / 8) ** 0.5)


def test_busy_cells_are_those_with_more_observed_vehicles_than_the_limit() -> None:
    table = errors(FORECAST, OBSERVED)
    # 10 and 5 are not above 10: their errors 3 and 4 are not counted.
    assert value(table, "rmse_busy", None, "both") == pytest.approx((216 / 6) ** 0.5)
    assert value(table, "mae_busy", None, "both") == pytest.approx(24 / 6)
    shares = 10 / 100 + 4 / 20 + 10 / 50
    assert value(table, "mape_busy", None, "both") == pytest.approx(100 * shares / 6)
    assert value(table, "mae_busy", 1, "inflow") == pytest.approx(4)
    assert value(errors(FORECAST, OBSERVED, above=4), "mae_busy", 1, "inflow") == pytest.approx(3.5)


def test_without_a_busy_cell_there_is_no_busy_error() -> None:
    table = errors(FORECAST, OBSERVED, above=1000)
    assert np.isnan(table["rmse_busy"]).all()
    assert np.isnan(table["mape_busy"]).all()
    assert np.isfinite(table["rmse"]).all()


def test_no_flow_at_all_is_no_error_of_infinite_percent() -> None:
    table = errors(FORECAST, flow(np.zeros((2, 2, 2))))
    assert np.isnan(table["mape_busy"]).all()


def test_the_table_has_a_row_a_lead_and_one_for_all() -> None:
    table = errors(FORECAST.assign_coords(valid_time=("init_time", [0, 1])), OBSERVED)
    assert table.sizes == {"lead_time": 3, "channel": 3}
    assert table["channel"].values.tolist() == ["inflow", "outflow", "both"]
    assert table["lead_time"].values[:2].tolist() == OBSERVED["lead_time"].values.tolist()
    assert np.isnat(table["lead_time"].values[2])


@given(seed=st.integers(0, 100), cut=st.integers(1, 11))
def test_the_sums_of_two_stacks_make_the_errors_of_both(seed: int, cut: int) -> None:
    rng = np.random.default_rng(seed)
    observed, forecast = (
        xr.DataArray(
            rng.uniform(0, 30, (12, 3, 2, 2, 2)).astype(np.float32), dims=DIMS
        ).assign_coords(lead_time=np.arange(1, 4) * HOUR, channel=["inflow", "outflow"])
        for _ in range(2)
    )
    observed[rng.integers(12), 0, 1] = np.nan
    parts = errors_of(sums(forecast[:cut], observed[:cut]) + sums(forecast[cut:], observed[cut:]))
    whole = errors(forecast, observed)
    xr.testing.assert_allclose(parts, whole, rtol=1e-12)
    busy = observed.values[:, 1, 0] > 10
    distance = abs(forecast.values.astype(np.float64) - observed.values)[:, 1, 0][busy]
    assert value(whole, "rmse_busy", 2, "inflow") == pytest.approx((distance**2).mean() ** 0.5)
    shares = distance / observed.values[:, 1, 0][busy]
    assert value(whole, "mape_busy", 2, "inflow") == pytest.approx(100 * shares.mean())
    mean = np.nanmean((forecast.values.astype(np.float64) - observed.values) ** 2)
    assert value(whole, "rmse", None, "both") == pytest.approx(mean**0.5, rel=1e-9)


vehicles = arrays(np.float32, (2, 2, 2), elements=st.floats(0, 2000, width=32))


@given(forecast=vehicles, observed=vehicles)
def test_rmse_is_never_below_mae_and_both_are_symmetric(
    forecast: np.ndarray, observed: np.ndarray
) -> None:
    a, b = flow(forecast), flow(observed)
    one, two, none = errors(a, b), errors(b, a), errors(a, a)
    assert (one["rmse"] >= one["mae"] - 1e-6).all()
    xr.testing.assert_allclose(one[["rmse", "mae"]], two[["rmse", "mae"]])
    assert not none["rmse"].any()
