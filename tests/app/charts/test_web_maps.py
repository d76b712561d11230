import numpy as np
import pandas as pd
import pytest

from app.charts.web_earth import color_bar, earth_map
from app.charts.web_lines import (
    LINES,
    PALETTE,
    calendar_chart,
    calibration_chart,
    clock_milliseconds,
    errors_chart,
    history_chart,
    totals_chart,
)
from app.charts.web_maps import (
    MARKED,
    cells,
    flow_map,
    map_spec,
)
from data.city import City

CITY = City("toy", "Toy", "UTC", np.timedelta64(3600, "s"), (2, 3), bbox=(0, 10, 3, 12))
FRAME = np.array([[0, 1, 2], [3, np.nan, 400]])


def luminance(color: str) -> float:
    """Relative luminance after WCAG 2.2."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_row_0_is_drawn_on_the_side_that_the_city_says() -> None:
    table = cells(FRAME)
    north = flow_map(table, CITY, (0, 10)).to_dict()
    south = flow_map(table, City(**{**vars(CITY), "row0": "south"}), (0, 10)).to_dict()
    assert north["encoding"]["y"]["sort"] == "ascending"
    assert south["encoding"]["y"]["sort"] == "descending"


def test_the_scale_is_fixed_and_missing_cells_are_gray_whatever_the_values() -> None:
    for frame in (FRAME, FRAME * 0):
        color = flow_map(cells(frame), CITY, (0, 10)).to_dict()["encoding"]["color"]
        assert color["condition"]["scale"]["domain"] == [0, 10]
        assert color["condition"]["test"] == "isValid(datum.flow)"
        assert color["value"] == "#bdbdbd"


def test_differences_have_0_in_the_middle_of_their_colors() -> None:
    scale = flow_map(cells(FRAME), CITY, (-5, 5)).to_dict()["encoding"]["color"]["condition"][
        "scale"
    ]
    assert (scale["domain"], scale["domainMid"]) == ([-5, 5], 0)


def test_every_map_tells_its_numbers_and_takes_a_click() -> None:
    chart = flow_map(
        cells(FRAME, usual=FRAME), CITY, (0, 10), tooltips={"usual": "usual"}
    ).to_dict()
    assert [one["field"] for one in chart["encoding"]["tooltip"]] == ["y", "x", "flow", "usual"]
    assert chart["params"][0]["select"]["fields"] == ["y", "x"]


def test_on_earth_cells_lie_in_the_bbox_row_0_in_the_north_and_nothing_is_asked_elsewhere() -> None:
    deck = earth_map(cells(FRAME), CITY, "viridis", (0, 400))
    rows = deck.layers[0].data
    assert rows[0]["corners"] == [[0, 12], [1, 12], [1, 11], [0, 11]]
    assert rows[5]["corners"] == [[2, 11], [3, 11], [3, 10], [2, 10]]
    assert rows[4]["value"] == "no value"
    assert rows[4]["color"] == [0xBD, 0xBD, 0xBD]
    assert rows[5]["color"] == [253, 231, 36]  # the end of viridis
    assert rows[5]["more"] == ""
    assert deck.map_provider is None
    south = earth_map(cells(FRAME), City(**{**vars(CITY), "row0": "south"}), "viridis", (0, 400))
    assert south.layers[0].data[0]["corners"][0] == [0, 11]
    with pytest.raises(ValueError, match="no bbox"):
        earth_map(cells(FRAME), City(**{**vars(CITY), "bbox": None}), "viridis", (0, 1))


def test_on_earth_a_cell_tells_as_much_as_on_the_flat_map_in_the_same_colors() -> None:
    table = cells(FRAME, usual=FRAME * 2, lower=FRAME)
    tips = {"usual": "usual", "lower": "80 % interval from"}
    deck = earth_map(table, CITY, "viridis", (0, 400), tooltips=tips, marked=(0, 1))
    layer = deck.layers[0]
    assert layer.data[1]["more"] == "\nusual 2.0\n80 % interval from 1.0"
    assert layer.data[4]["more"] == "\nusual no value\n80 % interval from no value"
    assert layer.opacity == 1  # as the scale below it
    assert "#" + "".join(f"{part:02x}" for part in layer.get_line_color) == MARKED


@pytest.mark.parametrize(
    ("bbox", "told"),
    [
        ((-74.02, 40.7, -73.87, 40.85), "74.02 to 73.87 degrees west, 40.7 to 40.85 degrees north"),
        ((-1, -2, 1, 2), "1 degrees west to 1 degrees east, 2 degrees south to 2 degrees north"),
    ],
)
def test_the_place_on_earth_is_told_in_words(bbox: tuple[float, ...], told: str) -> None:
    assert told in color_bar(City(**{**vars(CITY), "bbox": bbox}), "viridis", (0, 400))


def test_axes_and_legends_can_be_read_on_white() -> None:
    table = cells(FRAME)
    rows = {"clock": [0.0], "at": ["then"], "series": ["observed"], "flow": [1.0]}
    history = pd.DataFrame({**rows, "lower": [np.nan], "upper": [np.nan]})
    days = pd.DataFrame({"clock": [0.0], "day": ["d"], "channel": ["inflow"], "vehicles": [1.0]})
    errors = pd.DataFrame({"ahead": ["30 min"], "forecaster": ["a"], "rmse": [1.0]})
    held = pd.DataFrame({"lead": ["30 min"], "nominal": [0.8], "coverage": [0.79]})
    one = {"day": ["2025-06-02"], "week": ["2025-06-02"], "weekday": ["Mon"]}
    calendar = pd.DataFrame({**one, "slots": [24], "share": [1.0]})
    charts = [
        flow_map(table, CITY, (0, 10)).to_dict(),
        flow_map(table, CITY, (-5, 5)).to_dict(),
        map_spec(CITY, (0, 10), (), None),
        history_chart(history, 0.0).to_dict(),
        totals_chart(days).to_dict(),
        errors_chart(errors, "ahead", "by lead", ["30 min"]).to_dict(),
        calibration_chart(held).to_dict(),
        calendar_chart(calendar).to_dict(),
    ]
    for chart in charts:
        for part in ("axis", "legend"):
            for name in ("labelColor", "titleColor"):
                color = chart["config"][part][name]
                assert 1.05 / (luminance(color) + 0.05) >= 4.5


def test_no_band_is_drawn_over_a_gap() -> None:
    rows = {"clock": [0.0, 1.0, 2.0], "at": ["a", "b", "c"], "series": ["forecast"] * 3}
    values = np.array([1, np.nan, 3])
    table = pd.DataFrame({**rows, "flow": values, "lower": values - 1, "upper": values + 1})
    area = history_chart(table).to_dict()["layer"][0]
    assert area["mark"]["type"] == "area"
    # Vega-Lite breaks a path at a row without a value, but only where the row is there.
    assert [one["filter"] for one in area["transform"]] == ["datum.series === 'forecast'"]


def test_a_legend_names_what_is_drawn_alone() -> None:
    rows = {"clock": [0.0, 0.0], "at": ["a", "a"], "series": ["observed", "forecast"]}
    table = pd.DataFrame({**rows, "flow": [1.0, 2.0], "lower": [np.nan] * 2, "upper": [np.nan] * 2})
    lines = history_chart(table).to_dict()["layer"][-1]
    for channel in ("color", "strokeDash"):
        assert lines["encoding"][channel]["scale"]["domain"] == ["observed", "forecast"]
        assert len(lines["encoding"][channel]["scale"]["range"]) == 2


def test_legends_say_that_colors_end() -> None:
    title = flow_map(cells(FRAME), CITY, (0, 10)).to_dict()["encoding"]["color"]["condition"][
        "legend"
    ]
    assert title["title"] == "vehicles per step; above 10 the color stays"


def test_calibration_is_drawn_from_nothing_to_all() -> None:
    held = pd.DataFrame({"lead": ["30 min"], "nominal": [0.8], "coverage": [0.2]})
    for layer in calibration_chart(held).to_dict()["layer"]:
        assert layer["encoding"]["y"]["scale"]["domain"] == [0, 1]


def test_lines_can_be_read_on_white() -> None:
    for color in (*PALETTE, *(color for color, _ in LINES.values())):
        assert 1.05 / (luminance(color) + 0.05) >= 4.5


def test_times_are_drawn_as_clocks_showed_them_whatever_the_browsers_zone() -> None:
    assert clock_milliseconds(np.array(["1970-01-02T00:00"], "datetime64[s]")).tolist() == [
        86_400_000
    ]
    rows = {"clock": [0.0], "at": ["then"], "series": ["observed"], "flow": [1.0]}
    table = pd.DataFrame({**rows, "lower": [np.nan], "upper": [np.nan]})
    for layer in history_chart(table, 0.0).to_dict()["layer"]:
        assert layer["encoding"]["x"]["scale"] == {"type": "utc"}
    days = pd.DataFrame({"clock": [0.0], "day": ["d"], "channel": ["inflow"], "vehicles": [1.0]})
    assert totals_chart(days).to_dict()["encoding"]["x"]["scale"] == {"type": "utc"}


def test_the_other_charts_are_whole() -> None:
    errors = pd.DataFrame({"ahead": ["30 min"], "forecaster": ["a"], "rmse": [1.0]})
    assert errors_chart(errors, "ahead", "by lead", ["30 min"]).to_dict()
    held = pd.DataFrame({"lead": ["30 min"], "nominal": [0.8], "coverage": [0.79]})
    assert calibration_chart(held).to_dict()
    calendar = pd.DataFrame(
        {
            **{"day": ["2025-06-02"], "week": ["2025-06-02"], "weekday": ["Mon"]},
            **{"slots": [24], "share": [1.0]},
        }
    )
    assert calendar_chart(calendar).to_dict()["encoding"]["x"]["axis"]["values"] == ["2025-06-02"]
