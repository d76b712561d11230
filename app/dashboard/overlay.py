"""Overlay: the GeoJSON beside a city's TOML, checked before a browser draws it over a map."""

import json
from collections.abc import Mapping
from typing import Any

from data.city import City
from data.paths import overlay_file

MAX_BYTES = 5 * 2**20
MAX_COORDINATE = 1e6
"""More than any degree, or height in meters."""
DEPTHS = {
    "Point": 1,
    **{"LineString": 2, "MultiPoint": 2, "Polygon": 3, "MultiLineString": 3, "MultiPolygon": 4},
}
"""How deep the lists of coordinates of a geometry are nested (RFC 7946, 3.1)."""


def read_overlay(city: City) -> tuple[Mapping[str, Any] | None, str]:
    """Returns the features that can be drawn, and what is wrong with the file, "" for nothing."""
    path = overlay_file(city.name)
    if not path.is_file():
        return None, ""
    if path.stat().st_size > MAX_BYTES:
        return None, f"{path.name} has more than 5 MB; simplify its lines"
    try:
        features = _drawable(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return None, f"{path.name} is not JSON that can be read"
    if features is None:
        return None, f"{path.name} is not a GeoJSON FeatureCollection of points, lines or polygons"
    return {"type": "FeatureCollection", "features": features}, ""


def _drawable(content: Any) -> list[Any] | None:
    """Returns the features with a geometry (RFC 7946, 3.2), None where one cannot be drawn."""
    if not isinstance(content, dict) or content.get("type") != "FeatureCollection":
        return None
    features = content.get("features")
    if not isinstance(features, list) or not all(isinstance(one, dict) for one in features):
        return None
    located = [one for one in features if one.get("geometry", "") is not None]
    return located if all(_is_geometry(one.get("geometry")) for one in located) else None


def _is_geometry(shape: Any) -> bool:
    return (
        isinstance(shape, dict)
        and shape.get("type") in DEPTHS
        and _is_nested(shape.get("coordinates"), DEPTHS[shape["type"]])
    )


def _is_nested(value: Any, depth: int) -> bool:
    """Returns whether `value` is finite numbers in lists that are nested `depth` deep."""
    if depth == 0:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and -MAX_COORDINATE < value < MAX_COORDINATE  # false for NaN
    return (
        isinstance(value, list) and bool(value) and all(_is_nested(one, depth - 1) for one in value)
    )
