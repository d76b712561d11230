"""Maps of the dashboard by Altair.

Colors are perceptually uniform and readable by the color-blind; a cell without a value is gray, never 0.
The tooltip has every number that is drawn.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

import altair as alt
import numpy as np
import pandas as pd

from app.charts.maps import COLORS, MISSING
from data.city import City

DIVERGING_SCHEME = "redblue"  # drawn in reverse, so that more is red
MARKED = "#e6007e"
"""Color of frames; no color scale of the dashboard contains it."""
INK = "#31333f"
"""Color of text; Streamlit's gray has too little contrast on white."""
MAP_WIDTH = 430
PLOT_WIDTH, LEGEND_HEIGHT = 330, 95
"""Pixels of the cells, and of axis and legend below them, about."""
CELL_SCALE = alt.Scale(paddingInner=0, paddingOuter=0, round=True)
"""Whole pixels a cell, without seams."""
MAX_TICKS = 8
Chart = TypeVar("Chart", alt.Chart, alt.LayerChart)


def cells(frame: np.ndarray, **more: np.ndarray) -> pd.DataFrame:
    """Returns a row for each cell: `y`, `x`, `flow` and further columns.

    Args:
        frame: vehicles per step, dims `(y, x)`; NaN where there is no value.
        more: arrays of the same dims, by the name of their column.
    """
    y, x = np.indices(frame.shape)
    columns = {
        name: np.asarray(each, np.float64).ravel() for name, each in {"flow": frame, **more}.items()
    }
    return pd.DataFrame({"y": y.ravel(), "x": x.ravel(), **columns})


def flow_map(
    table: pd.DataFrame,
    city: City,
    limits: tuple[float, float],
    *,
    tooltips: Mapping[str, str] | None = None,
    marked: tuple[int, int] | None = None,
) -> alt.Chart:
    """Returns a map on a fixed color scale, by the square root of flow as the spread of counts.

    Args:
        table: as `cells` returns it.
        city: for its grid and the side of row 0.
        limits: flow at the ends of the scale; from below zero the map is one of differences, with
            diverging colors around 0.
        tooltips: titles of further columns.
        marked: row and column of a cell that is framed.
    """
    rows, columns = city.grid
    order = "ascending" if city.row0 == "north" else "descending"
    scale: dict[str, Any] = {"type": "sqrt", "domain": [*limits], "clamp": True}
    if limits[0] < 0:
        title, past = "difference", "beyond"
        scale |= {"scheme": DIVERGING_SCHEME, "reverse": True, "domainMid": 0}
    else:
        title, past = "vehicles per step", "above"
        scale["scheme"] = COLORS
    end = f"{limits[1]:,.0f}" if limits[1] >= 10 else f"{limits[1]:.2g}"
    legend = alt.Legend(
        title=f"{title}; {past} {end} the color stays",
        titleLimit=340,
        orient="bottom",
        gradientLength=180,
        tickCount=4,
        labelOverlap="greedy",
        labelSeparation=6,
        offset=2,
    )
    at = marked or (-1, -1)
    is_marked = f"datum.y == {int(at[0])} && datum.x == {int(at[1])}"
    frames = [{"test": is_marked, "value": 3}, {"test": "datum.spot", "value": 1}]
    numbers = {"flow": title, **(tooltips or {})}
    return readable(
        alt.Chart(table)
        .mark_rect(stroke=MARKED, invalid=None, aria=False)
        .encode(
            alt.Y("y:O", sort=order, axis=_ticks("row", rows), scale=CELL_SCALE),
            alt.X("x:O", axis=_ticks("column", columns), scale=CELL_SCALE),
            color=alt.condition(
                "isValid(datum.flow)",
                alt.Color("flow:Q", scale=alt.Scale(**scale), legend=legend),
                alt.value(MISSING),
            ),
            strokeWidth=alt.StrokeWidthValue(0, condition=frames),
            tooltip=[
                alt.Tooltip("y:O", title="row"),
                alt.Tooltip("x:O", title="column"),
                *(
                    alt.Tooltip(f"{name}:Q", title=text, format=",.1f")
                    for name, text in numbers.items()
                ),
            ],
        )
        .add_params(alt.selection_point(name="cell", fields=["y", "x"], on="click", clear=False))
        .properties(height=map_height(city))
    )


def readable(chart: Chart) -> Chart:
    """Returns a chart with axes and legends in a color of enough contrast."""
    dark = {"labelColor": INK, "titleColor": INK}
    return chart.configure_axis(**dark).configure_legend(**dark)


def map_height(city: City) -> int:
    """Returns the height of a map in pixels at which its cells are about square."""
    rows, columns = city.grid
    return round(PLOT_WIDTH * min(max(rows / columns, 0.4), 1.6)) + LEGEND_HEIGHT


def _ticks(title: str, count: int) -> alt.Axis:
    values = [*range(0, count, max(1, -(-count // MAX_TICKS)))]
    return alt.Axis(title=title, titlePadding=2, values=values, labelAngle=0, domain=False)


@lru_cache(512)
def map_spec(
    city: City,
    limits: tuple[float, float],
    tooltips: tuple[tuple[str, str], ...],
    marked: tuple[int, int] | None,
) -> dict[str, Any]:
    """Returns `flow_map` for Vega-Lite without data; kept, as Altair takes long to check a map.

    Args:
        city: for its grid and the side of row 0.
        limits: flow at the ends of the color scale.
        tooltips: columns and their titles.
        marked: row and column of a cell that is framed.
    """
    empty = cells(np.empty((0, 0)), **{name: np.empty((0, 0)) for name, _ in tooltips})
    chart = flow_map(empty, city, limits, tooltips=dict(tooltips), marked=marked).to_dict()
    return {key: chart[key] for key in chart if key not in ("data", "datasets")}
