"""Charts: arrays and tables -> Altair and pydeck charts of the dashboard; they know of no page.

Colors are perceptually uniform and safe for the color-blind; what has no value is gray, never 0.
Every number that is drawn stands in a tooltip too. Times are drawn as the city's clocks showed
them, whatever zone the browser is in.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeVar

import altair as alt
import numpy as np
import pandas as pd
import pydeck
from matplotlib import colormaps
from matplotlib.colors import to_hex

from app.charts.maps import COLORS, MISSING, rooted
from data.city import City

DIVERGING = "redblue"  # its ends the other way round, so that more is red
OBSERVED, FORECAST, LAST_WEEK = "#000000", "#0072b2", "#b85c00"
"""Colors of lines: dark enough to be read on white, and told apart by the color-blind."""
FRAME_WIDTH = 430
FRAME_PLOT, FRAME_REST = 330, 95
"""Pixels of a map: at most in width; of its cells in width, about, and of axis and legend in height."""
MARKED = "#e6007e"  # of no scale of colors here
WHOLE = alt.Scale(paddingInner=0, paddingOuter=0, round=True)
"""Of cells: whole pixels, without seams between them."""
MOST_TICKS = 8
INK = "#31333f"
"""Of all that is written on axes and legends: Streamlit's own gray is too faint on white to be read."""
Charted = TypeVar("Charted", alt.Chart, alt.LayerChart)


def cells(frame: np.ndarray, **more: np.ndarray) -> pd.DataFrame:
    """Returns a row for each cell: `y`, `x`, `flow` and further columns.

    Args:
        frame: vehicles per step, dims `(y, x)`; NaN where there is no value.
        more: arrays of the same dims, by the name of their column.
    """
    y, x = np.indices(frame.shape)
    columns = {name: np.asarray(each, np.float64).ravel() for name, each in more.items()}
    flow = np.asarray(frame, np.float64).ravel()
    return pd.DataFrame({"y": y.ravel(), "x": x.ravel(), "flow": flow, **columns})


def flow_map(
    table: pd.DataFrame,
    city: City,
    top: float,
    *,
    tooltips: Mapping[str, str] | None = None,
    marked: tuple[int, int] | None = None,
) -> alt.Chart:
    """Returns a map of flow on a fixed scale from 0 to `top`, above which the color stays.

    Args:
        table: as `cells` returns it.
        city: for its grid and the side that row 0 lies on.
        top: vehicles per step.
        tooltips: names for people of further columns.
        marked: row and column of a cell that is framed.
    """
    # By the root, as counts spread: a quiet hour can be read on the scale of the busiest.
    scale = alt.Scale(type="sqrt", scheme=COLORS, domain=[0, top], clamp=True)
    return _map(table, city, scale, ("vehicles per step", "above", top), tooltips or {}, marked)


def difference_map(
    table: pd.DataFrame,
    city: City,
    span: float,
    *,
    tooltips: Mapping[str, str] | None = None,
    marked: tuple[int, int] | None = None,
) -> alt.Chart:
    """Returns a map of differences in diverging colors with 0 in their middle.

    Args:
        table: as `cells` returns it, `flow` the difference in vehicles per step.
        city: for its grid and the side that row 0 lies on.
        span: difference at which the colors end, either way.
        tooltips: names for people of further columns.
        marked: row and column of a cell that is framed.
    """
    scale = alt.Scale(
        type="sqrt",
        scheme=DIVERGING,
        reverse=True,
        domain=[-span, span],
        domainMid=0,
        clamp=True,
    )
    return _map(table, city, scale, ("difference", "beyond", span), tooltips or {}, marked)


def _map(
    table: pd.DataFrame,
    city: City,
    scale: alt.Scale,
    named: tuple[str, str, float],
    tooltips: Mapping[str, str],
    marked: tuple[int, int] | None,
) -> alt.Chart:
    rows, columns = city.grid
    order = "ascending" if city.row0 == "north" else "descending"
    title, past, end = named
    legend = alt.Legend(
        title=f"{title}; {past} {_number(end)} the color stays",
        titleLimit=340,
        orient="bottom",
        gradientLength=180,
        tickCount=4,
        labelOverlap="greedy",
        labelSeparation=6,
        offset=2,
    )
    picked = alt.selection_point(name="cell", fields=["y", "x"], on="click", clear=False)
    at = marked or (-1, -1)
    is_marked = f"datum.y == {int(at[0])} && datum.x == {int(at[1])}"
    return _inked(
        alt.Chart(table)
        .mark_rect(stroke=MARKED, invalid=None, aria=False)
        .encode(
            alt.Y("y:O", sort=order, axis=_ticks("row", rows), scale=WHOLE),
            alt.X("x:O", axis=_ticks("column", columns), scale=WHOLE),
            color=alt.condition(
                "isValid(datum.flow)",
                alt.Color("flow:Q", scale=scale, legend=legend),
                alt.value(MISSING),
            ),
            strokeWidth=alt.StrokeWidthValue(
                0,
                condition=[{"test": is_marked, "value": 3}, {"test": "datum.spot", "value": 1}],
            ),
            tooltip=[
                alt.Tooltip("y:O", title="row"),
                alt.Tooltip("x:O", title="column"),
                alt.Tooltip("flow:Q", title=title, format=",.1f"),
                *(
                    alt.Tooltip(f"{name}:Q", title=text, format=",.1f")
                    for name, text in tooltips.items()
                ),
            ],
        )
        .add_params(picked)
        .properties(height=frame_height(city))
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _inked(chart: Charted) -> Charted:
    """Returns a chart whose axes and legends can be read."""
    dark = {"labelColor": INK, "titleColor": INK}
    return chart.configure_axis(**dark).configure_legend(**dark)


def frame_height(city: City) -> int:
    """Returns the pixels of a map's height at which its cells are about square."""
    rows, columns = city.grid
    return round(FRAME_PLOT * min(max(rows / columns, 0.4), 1.6)) + FRAME_REST


def _ticks(title: str, count: int) -> alt.Axis:
    """Returns an axis with some of its numbers."""
    every = max(1, -(-count // MOST_TICKS))
    return alt.Axis(
        title=title, titlePadding=2, values=[*range(0, count, every)], labelAngle=0, domain=False
    )


def flow_deck(
    table: pd.DataFrame,
    city: City,
    colors: str,
    limits: tuple[float, float],
    *,
    tooltips: Mapping[str, str] | None = None,
    overlay: Mapping[str, Any] | None = None,
    marked: tuple[int, int] | None = None,
) -> pydeck.Deck:
    """Returns the grid in its place on earth, which asks no outside server for a background.

    Args:
        table: as `cells` returns it.
        city: with a `bbox`.
        colors: name of a color map of matplotlib's.
        limits: flow at its ends, vehicles per step.
        tooltips: names for people of further columns.
        overlay: GeoJSON that is drawn over it, such as the lines of streets.
        marked: row and column of a cell that is framed.

    Raises:
        ValueError: the city has no bbox.
    """
    if city.bbox is None:
        raise ValueError(f"{city.name} has no bbox")
    west, south, east, north = city.bbox
    rows, columns = city.grid
    down = table["y"].to_numpy() if city.row0 == "north" else rows - 1 - table["y"].to_numpy()
    height, width = (north - south) / rows, (east - west) / columns
    left, top = west + table["x"].to_numpy() * width, north - down * height
    corners = [
        [[x, y], [x + width, y], [x + width, y - height], [x, y - height]]
        for x, y in zip(left.tolist(), top.tolist(), strict=True)
    ]
    flow = table["flow"].to_numpy()
    share = np.asarray(rooted(limits)(np.nan_to_num(flow)))
    color = (255 * colormaps[colors](share)[:, :3]).astype(int)
    color[~np.isfinite(flow)] = _parts(MISSING)
    at = marked or (-1, -1)
    framed = ((table["y"] == at[0]) & (table["x"] == at[1])).to_numpy()
    spots = table["spot"].to_numpy() if "spot" in table else np.zeros(len(table), dtype=bool)
    shown = pd.DataFrame(
        {
            **{"y": table["y"], "x": table["x"], "corners": corners, "color": color.tolist()},
            "line": np.where(framed, 400, np.where(spots, 100, 0)),
            "told": _told(flow),
            "more": _more(table, tooltips or {}),
        }
    )
    layers = [
        pydeck.Layer(
            "PolygonLayer",
            shown,
            id="cells",
            get_polygon="corners",
            get_fill_color="color",
            get_line_color=_parts(MARKED),
            get_line_width="line",
            line_width_max_pixels=3,
            opacity=1,  # as the scale below it
            pickable=True,
            auto_highlight=True,
        )
    ]
    if overlay is not None:
        layers.append(
            pydeck.Layer(
                "GeoJsonLayer",
                dict(overlay),
                id="overlay",
                filled=False,
                stroked=True,
                get_line_color=[60, 60, 60],
                line_width_min_pixels=1,
            )
        )
    # Web Mercator shows 360 degrees on 512 pixels at zoom 0.
    tall = (north - south) / np.cos(np.radians((north + south) / 2))
    zoom = float(np.log2(min(280 * 360 / (512 * (east - west)), 300 * 360 / (512 * tall))))
    return pydeck.Deck(
        layers,
        initial_view_state=pydeck.ViewState(
            longitude=(west + east) / 2, latitude=(south + north) / 2, zoom=zoom
        ),
        map_provider=None,  # and no map_style, which would ask a host elsewhere
        height=frame_height(city),
        tooltip={"text": "row {y}, column {x}: {told}{more}"},
    )


def _parts(color: str) -> list[int]:
    """Returns red, green and blue of `#rrggbb`."""
    return [int(color[at : at + 2], 16) for at in (1, 3, 5)]


def _told(values: np.ndarray) -> list[str]:
    return [f"{one:,.1f}" if np.isfinite(one) else "no value" for one in values]


def _more(table: pd.DataFrame, tooltips: Mapping[str, str]) -> list[str]:
    """Returns what the tooltip of each cell tells besides its flow, a line each."""
    lines = [
        [f"\n{text} {value}" for value in _told(table[name].to_numpy())]
        for name, text in tooltips.items()
    ]
    return ["".join(of_cell) for of_cell in zip(*lines, strict=True)] or [""] * len(table)


def scale_bar(city: City, colors: str, limits: tuple[float, float]) -> str:
    """Returns the scale of `flow_deck`, and where it lies, as HTML.

    Args:
        city: with a `bbox`.
        colors: name of a color map of matplotlib's.
        limits: flow at its ends, vehicles per step.
    """
    flows = np.linspace(*limits, 33)
    stops = ", ".join(to_hex(color) for color in colormaps[colors](rooted(limits)(flows)))
    ticks = "".join(f"<span>{flow:,.0f}</span>" for flow in np.linspace(*limits, 5))
    west, south, east, north = city.bbox or (0, 0, 0, 0)
    return (
        f'<div style="height:10px;background:linear-gradient(to right, {stops})"></div>'
        f'<div style="display:flex;justify-content:space-between;font-size:0.8rem">{ticks}</div>'
        f'<div style="font-size:0.8rem">vehicles per step; beyond the ends the color stays</div>'
        f'<div style="font-size:0.8rem">{_degrees(west, east, "west", "east")}, '
        f"{_degrees(south, north, 'south', 'north')}</div>"
    )


def _degrees(first: float, last: float, below: str, above: str) -> str:
    """Returns from where to where something lies, in words rather than signs."""
    sides = [below if one < 0 else above for one in (first, last)]
    if sides[0] == sides[1]:
        return f"{abs(first):g} to {abs(last):g} degrees {sides[0]}"
    return f"{abs(first):g} degrees {sides[0]} to {abs(last):g} degrees {sides[1]}"


@lru_cache(512)
def map_spec(
    city: City,
    limits: tuple[float, float],
    tooltips: tuple[tuple[str, str], ...],
    marked: tuple[int, int] | None,
) -> dict[str, Any]:
    """Returns a map without its data, for Vega-Lite; Altair takes long to check what is always the same.

    Args:
        city: for its grid and the side that row 0 lies on.
        limits: flow at the ends of the colors; below zero the map is one of differences.
        tooltips: columns and their names for people.
        marked: row and column of a cell that is framed.
    """
    empty = cells(np.empty((0, 0)), **{name: np.empty((0, 0)) for name, _ in tooltips})
    make = difference_map if limits[0] < 0 else flow_map
    chart = make(empty, city, limits[1], tooltips=dict(tooltips), marked=marked).to_dict()
    spec: dict[str, Any] = {key: chart[key] for key in chart if key not in ("data", "datasets")}
    return spec
