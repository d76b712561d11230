"""Prediction intervals on a forecast: they are cut with it, and pack without harm."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from data.intervals import NAMES, intervals_of, pack, unpack, with_intervals, without_intervals

FORECAST = xr.DataArray(
    np.arange(12, dtype=np.float32).reshape(1, 2, 1, 2, 3),
    dims=("init_time", "lead_time", "channel", "y", "x"),
    coords={"channel": ["inflow"]},
    name="flow",
    attrs={"city": "toy"},
)
VALUES = np.arange(72, dtype=np.float32).reshape(3, 2, 1, 2, 1, 2, 3)


def test_the_coordinates_are_named_after_edge_and_coverage() -> None:
    assert NAMES == ("lower_50", "upper_50", "lower_80", "upper_80", "lower_95", "upper_95")


def test_a_forecast_carries_its_bands_through_a_cut() -> None:
    forecast = with_intervals(FORECAST, VALUES)
    around = intervals_of(forecast)
    assert around is not None
    np.testing.assert_array_equal(around.values, VALUES)
    cell = intervals_of(forecast.isel(init_time=0, lead_time=1, y=1, x=2).sel(channel="inflow"))
    assert cell is not None
    assert cell.dims == ("coverage", "edge")
    np.testing.assert_array_equal(cell.sel(coverage=0.8), VALUES[1, :, 0, 1, 0, 1, 2])
    assert without_intervals(forecast).identical(FORECAST)


def test_a_forecast_without_bands_has_none() -> None:
    assert intervals_of(FORECAST) is None


@given(st.lists(st.floats(0, 4e9, width=32), min_size=6, max_size=6))
def test_packed_bands_are_off_by_no_more_than_a_thousandth(edges: list[float]) -> None:
    values = np.array(edges, dtype=np.float32).reshape(3, 2, 1)
    read = unpack(pack(values), (1,))
    # Below 1e-7 roots are subnormal numbers of float16.
    np.testing.assert_allclose(read, values, rtol=1e-3, atol=1e-7)
    assert (read[values == 0] == 0).all()
    assert len(pack(values)) * 2 == values.nbytes


@pytest.mark.parametrize("values", [np.linspace(0, 2000, 6), np.full(6, 7.3)])
def test_packing_keeps_the_order_of_edges(values: np.ndarray) -> None:
    read = unpack(pack(values.reshape(3, 2, 1)), (1,)).ravel()
    assert (np.diff(read) >= 0).all()
