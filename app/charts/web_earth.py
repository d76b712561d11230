"""Maps of the dashboard by longitude and latitude, drawn by pydeck without a background from elsewhere."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pydeck
from matplotlib import colormaps
from matplotlib.colors import to_hex

from app.charts.maps import MISSING, root_scale
from app.charts.web_maps import MARKED, map_height
from data.city import City


def earth_map(
    table: pd.DataFrame,
    city: City,
    colors: str,
    limits: tuple[float, float],
    *,
    tooltips: Mapping[str, str] | None = None,
    overlay: Mapping[str, Any] | None = None,
    marked: tuple[int, int] | None = None,
) -> pydeck.Deck:
    """Returns the cells as polygons in degrees.

    Args:
        table: as `app.charts.web_maps.cells` returns it.
        city: with a `bbox`.
        colors: a color map of matplotlib.
        limits: flow at its ends, vehicles per step.
        tooltips: titles of further columns.
        overlay: GeoJSON that is drawn over the cells.
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
    color = colormaps[colors](np.asarray(root_scale(limits)(np.nan_to_num(flow))), bytes=False)
    color = (255 * color[:, :3]).astype(int)
    color[~np.isfinite(flow)] = _rgb(MISSING)
    at = marked or (-1, -1)
    is_marked = ((table["y"] == at[0]) & (table["x"] == at[1])).to_numpy()
    spots = table["spot"].to_numpy() if "spot" in table else np.zeros(len(table), dtype=bool)
    polygons = pd.DataFrame(
        {
            **{"y": table["y"], "x": table["x"], "corners": corners, "color": color.tolist()},
            "line": np.where(is_marked, 400, np.where(spots, 100, 0)),
            "value": _texts(flow),
            "more": _tooltip_lines(table, tooltips or {}),
        }
    )
    layers = [
        pydeck.Layer(
            "PolygonLayer",
            polygons,
            id="cells",
            get_polygon="corners",
            get_fill_color="color",
            get_line_color=_rgb(MARKED),
            get_line_width="line",
            line_width_max_pixels=3,
            opacity=1,  # the same colors as the scale below it
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
        map_provider=None,  # and no map_style, which would ask another host
        height=map_height(city),
        tooltip={"text": "row {y}, column {x}: {value}{more}"},
    )


def _rgb(color: str) -> list[int]:
    return [int(color[at : at + 2], 16) for at in (1, 3, 5)]


def _texts(values: np.ndarray) -> list[str]:
    return [f"{one:,.1f}" if np.isfinite(one) else "no value" for one in values]


def _tooltip_lines(table: pd.DataFrame, tooltips: Mapping[str, str]) -> list[str]:
    """Returns the further lines of each cell's tooltip."""
    lines = [
        [f"\n{text} {value}" for value in _texts(table[name].to_numpy())]
        for name, text in tooltips.items()
    ]
    return ["".join(of_cell) for of_cell in zip(*lines, strict=True)] or [""] * len(table)


def color_bar(city: City, colors: str, limits: tuple[float, float]) -> str:
    """Returns the color scale of `earth_map`, and its extent in degrees, as HTML.

    Args:
        city: with a `bbox`.
        colors: a color map of matplotlib.
        limits: flow at its ends, vehicles per step.
    """
    flows = np.linspace(*limits, 33)
    stops = ", ".join(to_hex(color) for color in colormaps[colors](root_scale(limits)(flows)))
    ticks = "".join(f"<span>{flow:,.0f}</span>" for flow in np.linspace(*limits, 5))
    west, south, east, north = city.bbox or (0, 0, 0, 0)
    return (
        f'<div style="height:10px;background:linear-gradient(to right, {stops})"></div>'
        f'<div style="display:flex;justify-content:space-between;font-size:0.8rem">{ticks}</div>'
        f'<div style="font-size:0.8rem">vehicles per step; beyond the ends the color stays</div>'
        f'<div style="font-size:0.8rem">{_extent(west, east, "west", "east")}, '
        f"{_extent(south, north, 'south', 'north')}</div>"
    )


def _extent(first: float, last: float, below: str, above: str) -> str:
    """Returns an extent in words: `74.02 to 73.87 degrees west`."""
    sides = [below if one < 0 else above for one in (first, last)]
    if sides[0] == sides[1]:
        return f"{abs(first):g} to {abs(last):g} degrees {sides[0]}"
    return f"{abs(first):g} degrees {sides[0]} to {abs(last):g} degrees {sides[1]}"
