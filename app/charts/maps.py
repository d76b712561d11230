"""Maps: a forecast -> a matplotlib figure for files."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import FuncNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from app.text import COVERAGE, evenly_spaced, value_with_interval
from data.city import City
from data.clock import local
from data.intervals import intervals_of

MAX_MAPS = 5
COLORS = "viridis"  # perceptually uniform, and readable by the color-blind
DIVERGING_COLORS = "RdBu_r"
MISSING = "#bdbdbd"


def forecast_maps(forecast: xr.DataArray, city: City, newest: xr.DataArray | None = None) -> Figure:
    """Returns maps of a forecast: a row a channel, a column a lead, one color scale a channel.

    Where it has prediction intervals, the busiest cell of each map is framed and its interval is below.

    Args:
        forecast: dims `(init_time, lead_time, channel, y, x)`, one init_time, vehicles per step.
        city: for the title, the time zone and the side of row 0.
        newest: the newest observed frame `(channel, y, x)`, drawn first. None where it is missing.
    """
    frames = forecast.isel(init_time=0)
    leads = evenly_spaced(frames.sizes["lead_time"], MAX_MAPS)
    channels = [str(name) for name in forecast["channel"].values]
    columns = len(leads) + (newest is not None)
    rows, width = city.grid
    size = (2.6 * columns + 1.4, len(channels) * (2.6 * min(rows / width, 2) + 0.35) + 1.1)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(channels), columns, squeeze=False)
    times = local(frames["valid_time"].values[leads], frames.attrs["timezone"])
    observed = local(forecast["init_time"].values, frames.attrs["timezone"])[0]
    for row, channel in zip(axes, channels, strict=True):
        maps = [
            (f"forecast {time:%a %d %b %H:%M}", frames.isel(lead_time=lead).sel(channel=channel))
            for time, lead in zip(times, leads, strict=True)
        ]
        if newest is not None:
            maps.insert(0, (f"observed {observed:%a %d %b %H:%M}", newest.sel(channel=channel)))
        top = max(float(frame.max()) for _, frame in maps) or 1.0
        for ax, (title, frame) in zip(row, maps, strict=True):
            image = draw_map(ax, frame.values, (0, top), title, city)
            _mark_busiest(ax, frame)
        row[0].set_ylabel(channel, fontsize=11)
        figure.colorbar(image, ax=list(row), label="vehicles per step", shrink=0.9)
    figure.suptitle(f"{city.title}: forecast by {forecast.attrs['forecaster']}", fontsize=12)
    figure.supxlabel(_footer(forecast), fontsize=8)
    return figure


def frame_map(
    frame: np.ndarray,
    city: City,
    limits: tuple[float, float],
    title: str,
    colors: str = COLORS,
    footer: str = "",
) -> Figure:
    """Returns one map with a color scale by the square root of flow.

    Args:
        frame: dims `(y, x)`, vehicles per step, NaN where there is no value.
        city: for the side of row 0.
        limits: flow at the ends of the color scale.
        title: above it.
        colors: a color map of matplotlib.
        footer: below it.
    """
    rows, width = frame.shape
    figure = Figure(figsize=(6, 5.2 * min(max(rows / width, 0.4), 1.6) + 0.8), layout="constrained")
    ax = figure.subplots()
    image = _draw(ax, frame, city, cmap=colors, norm=root_scale(limits))
    ax.set_title(title.replace("$", r"\$"), fontsize=10)
    ax.set_xlabel("column")
    ax.set_ylabel("row")
    figure.colorbar(image, ax=ax, label="vehicles per step")
    figure.supxlabel(footer.replace("$", r"\$"), fontsize=7)
    return figure


def root_scale(limits: tuple[float, float]) -> FuncNorm:
    """Returns a scale by the square root of flow, on either side of 0, as the spread of counts."""

    def root(flow: np.ndarray) -> np.ndarray:
        return np.asarray(np.sign(flow) * np.sqrt(np.abs(flow)))

    def square(value: np.ndarray) -> np.ndarray:
        return np.asarray(np.sign(value) * np.square(value))

    return FuncNorm((root, square), *limits, clip=True)


def draw_map(
    ax: Axes,
    frame: np.ndarray,
    limits: tuple[float, float],
    title: str,
    city: City,
    colors: str = COLORS,
) -> AxesImage:
    """Draws one map without ticks, dims `(y, x)`, into axes; cells without a value are gray."""
    image = _draw(ax, frame, city, cmap=colors, vmin=limits[0], vmax=limits[1])
    ax.set_title(title, fontsize=9)
    ax.set_xticks([])
    ax.set_yticks([])
    return image


def _draw(ax: Axes, frame: np.ndarray, city: City, **scale: object) -> AxesImage:
    """Draws a frame with row 0 on its side; cells without a value are gray."""
    ax.set_facecolor(MISSING)
    origin = "upper" if city.row0 == "north" else "lower"
    return ax.imshow(frame, origin=origin, interpolation="nearest", **scale)  # type: ignore[arg-type]


def _mark_busiest(ax: Axes, frame: xr.DataArray) -> None:
    """Frames the busiest cell of a forecast, and writes its flow and interval below the map."""
    if intervals_of(frame) is None or not np.isfinite(frame.values).any():
        return
    row, column = map(int, np.unravel_index(np.nanargmax(frame.values), frame.shape))
    for color, width in (("white", 2.4), ("black", 1)):
        corner = (column - 0.5, row - 0.5)
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, color=color, linewidth=width))
    ax.set_xlabel(value_with_interval(frame.isel(y=row, x=column)), fontsize=9)


def _footer(forecast: xr.DataArray) -> str:
    model = forecast.attrs["model_version"]
    framed = f"framed: the busiest cell, with its {100 * COVERAGE:.0f} % prediction interval"
    parts = [
        *([framed] if intervals_of(forecast) is not None else []),
        f"times in {forecast.attrs['timezone']}",
        f"model {model}" if model else "no model",
        f"flowcast {forecast.attrs['code_version']}",
    ]
    return ", ".join(parts)
