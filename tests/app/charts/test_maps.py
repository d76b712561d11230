"""Charts as functions of arrays: what is drawn is what the arrays hold."""

import dataclasses

import numpy as np
import pytest
import xarray as xr
from matplotlib.patches import Rectangle

from app.charts.maps import forecast_maps
from app.text import evenly_spaced
from data.city import load_city
from data.flow import CHANNELS
from data.intervals import with_intervals
from forecasting.forecaster import label_forecast
from forecasting.history import History

CITY = dataclasses.replace(load_city("bj"), grid=(3, 4))


def small_forecast(horizon: int) -> xr.DataArray:
    flow = xr.DataArray(
        np.zeros((0, 2, 3, 4)),
        dims=("time", "channel", "y", "x"),
        coords={"time": np.array([], "datetime64[s]"), "channel": list(CHANNELS)},
        attrs={"city": "bj", "timezone": "Asia/Shanghai", "step": 1800},
    )
    history = History.of(flow, np.array(["2016-01-01T00:00"], "datetime64[s]"))
    values = np.arange(horizon * 24, dtype=np.float32).reshape(1, horizon, 2, 3, 4)
    forecast = label_forecast(values, history)
    forecast.attrs |= {"forecaster": "persistence", "model_version": "", "code_version": "1"}
    return forecast


def test_each_lead_has_a_map_of_its_values_on_the_channel_s_one_scale() -> None:
    forecast = small_forecast(3)
    figure = forecast_maps(forecast, CITY)
    images = [image for axes in figure.axes for image in axes.get_images()]
    assert len(images) == 6
    np.testing.assert_array_equal(images[1].get_array(), forecast.values[0, 1, 0])
    assert {image.get_clim() for image in images[:3]} == {(0.0, 59.0)}  # 48 + 11
    assert {image.get_clim() for image in images[3:]} == {(0.0, 71.0)}


def test_times_are_the_city_s() -> None:
    titles = [axes.get_title() for axes in forecast_maps(small_forecast(2), CITY).axes]
    assert titles[:2] == ["forecast Fri 01 Jan 08:30", "forecast Fri 01 Jan 09:00"]


def test_the_newest_observed_frame_comes_first() -> None:
    newest = xr.DataArray(
        np.full((2, 3, 4), 100.0), dims=("channel", "y", "x"), coords={"channel": list(CHANNELS)}
    )
    figure = forecast_maps(small_forecast(2), CITY, newest)
    assert figure.axes[0].get_title() == "observed Fri 01 Jan 08:00"
    assert figure.axes[0].get_images()[0].get_clim() == (0.0, 100.0)


@pytest.mark.parametrize(("row0", "upper"), [("north", True), ("south", False)])
def test_row_0_lies_on_the_side_that_the_city_says(row0: str, upper: bool) -> None:
    city = dataclasses.replace(CITY, row0=row0)
    axes = forecast_maps(small_forecast(1), city).axes[0]
    bottom, top = axes.get_ylim()
    assert bool(bottom > top) is upper


def test_a_missing_cell_is_gray_and_not_zero() -> None:
    forecast = small_forecast(1)
    forecast[0, 0, 0, 1, 1] = np.nan
    image = forecast_maps(forecast, CITY).axes[0].get_images()[0]
    assert np.isnan(np.ma.filled(image.get_array(), np.nan)[1, 1])
    assert image.axes is not None
    assert image.axes.get_facecolor()[:3] == pytest.approx((0.741, 0.741, 0.741), abs=0.001)


def test_a_long_horizon_is_drawn_at_leads_from_the_first_to_the_last() -> None:
    assert evenly_spaced(4, 5) == [0, 1, 2, 3]
    assert evenly_spaced(9, 5) == [0, 2, 4, 6, 8]
    assert len(forecast_maps(small_forecast(30), CITY).axes) == 2 * 5 + 2


def test_the_busiest_cell_is_framed_and_told_with_its_band() -> None:
    forecast = small_forecast(2)
    assert not any(axes.patches for axes in forecast_maps(forecast, CITY).axes)
    edges = np.stack([forecast.values - 5, forecast.values + 7]).clip(0)
    axes = forecast_maps(with_intervals(forecast, np.stack([edges] * 3)), CITY).axes
    # The last cell is the busiest: row 2, column 3, of inflow 11 and 35, of outflow 23 and 47.
    assert [ax.get_xlabel() for ax in axes[:4]] == [
        "11 (6 to 18)",
        "35 (30 to 42)",
        "23 (18 to 30)",
        "47 (42 to 54)",
    ]
    frame = axes[0].patches[0]
    assert isinstance(frame, Rectangle)
    assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((2.5, 1.5), 1, 1)
