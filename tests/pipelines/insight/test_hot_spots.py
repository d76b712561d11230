import numpy as np
import xarray as xr

from data.intervals import with_intervals
from pipelines.insight.hot_spots import COLUMNS, hot_spots

TIMES = np.array(["2025-06-02T09:00", "2025-06-02T10:00"], "datetime64[s]")  # a Monday


def made(inflow: list[list[float]], band: np.ndarray | None = None) -> xr.DataArray:
    """A forecast of two hours for a row of cells."""
    values = np.zeros((1, 2, 2, 1, len(inflow[0])), np.float32)
    values[0, :, 0, 0] = inflow
    forecast = xr.DataArray(
        values,
        dims=("init_time", "lead_time", "channel", "y", "x"),
        coords={
            "init_time": TIMES[:1] - np.timedelta64(1, "h"),
            "lead_time": np.array([1, 2]) * np.timedelta64(1, "h"),
            "channel": ["inflow", "outflow"],
            "valid_time": (("init_time", "lead_time"), TIMES[None]),
        },
        attrs={"timezone": "UTC"},
    )
    return forecast if band is None else with_intervals(forecast, band)


def usual(high: float, cells: int, weeks: int = 10) -> xr.Dataset:
    dims = ("time", "channel", "y", "x")
    shape = (2, 2, 1, cells)
    return xr.Dataset(
        {
            "mean": (dims, np.full(shape, high / 2)),
            "high": (dims, np.full(shape, high)),
            "weeks": ("time", np.full(2, weeks)),
        },
        {"time": TIMES, "channel": ["inflow", "outflow"]},
    )


def test_cells_above_what_is_usual_are_ranked_by_how_far_each_at_its_worst_hour() -> None:
    found = hot_spots(made([[5, 30, 12], [5, 20, 40]]), usual(10, 3), "inflow")
    assert [*found.columns] == [*COLUMNS]
    assert found[["x", "lead", "flow"]].to_numpy().tolist() == [[2, 2, 40], [1, 1, 30]]
    assert found["limit"].tolist() == [10, 10]
    assert found["usual"].tolist() == [5, 5]
    assert found["reason"][0] == "30.0 above 10.0, the 95th percentile of 10 Mondays"
    assert np.isnan(found["lower"]).all()


def test_the_threshold_of_an_operator_counts_where_it_is_lower_or_nothing_else_is_known() -> None:
    found = hot_spots(made([[5, 30], [5, 20]]), usual(np.nan, 2), "inflow", threshold=25)
    assert found[["x", "lead"]].to_numpy().tolist() == [[1, 1]]
    assert found["reason"].tolist() == ["5 above the threshold of 25"]
    assert hot_spots(made([[5, 30], [5, 20]]), usual(np.nan, 2), "inflow").empty
    both = hot_spots(made([[5, 30], [5, 20]]), usual(28, 2), "inflow", threshold=10)
    assert both["limit"].tolist() == [10]  # it is further above its own threshold
    assert both["reason"].tolist() == ["2.0 above the 95th percentile, 20 above the threshold"]


def test_a_low_threshold_hides_no_cell_that_is_unusual() -> None:
    high = usual(200, 3)
    high["high"][..., 2] = 10
    flow = [[150, 120, 30], [20, 20, 35]]
    edges = np.zeros((3, 2, 1, 2, 2, 1, 3), np.float32)
    edges[:, 0], edges[:, 1] = np.array([140.0, 3, 20])[None, None], 300
    found = hot_spots(made(flow, edges), high, "inflow", threshold=5)
    assert found[["x", "lead"]].to_numpy().tolist() == [[2, 2], [0, 1], [1, 1]]
    without = hot_spots(made(flow), high, "inflow", threshold=5)
    assert without["x"].tolist() == [2, 0, 1]  # by its forecast alone it passes both limits


def test_nearly_empty_cells_are_no_hot_spots_and_bands_above_the_limit_come_first() -> None:
    assert hot_spots(made([[0.9, 0.5], [0.2, 0]]), usual(0, 2), "inflow").empty
    edges = np.zeros((3, 2, 1, 2, 2, 1, 2), np.float32)
    edges[:, 0], edges[:, 1] = 11, 60
    edges[..., 0, 0, 1], edges[:, 1] = 4, 60
    found = hot_spots(made([[20, 30], [5, 5]], edges), usual(10, 2), "inflow")
    assert found[["x", "lower", "upper"]].to_numpy().tolist() == [[0, 11, 60], [1, 4, 60]]
