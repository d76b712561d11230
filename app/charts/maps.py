"""Maps: a forecast -> a matplotlib figure for files; pure functions that know of no files and no pages."""

from typing import Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import FuncNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from app.text import SHOWN, between, evenly_spaced
from data.city import City
from data.clock import local
from data.intervals import intervals_of

MOST_MAPS = 5
COLORS = "viridis"  # perceptually uniform and safe for the color-blind
MISSING = "#bdbdbd"


def forecast_maps(forecast: xr.DataArray, city: City, newest: xr.DataArray | None = None) -> Figure:
    """Returns maps of a forecast: a row a channel, a column a lead, all of a channel on one scale.

    Where it has bands, the busiest cell of each map is framed and told below with its band.

    Args:
        forecast: dims `(init_time, lead_time, channel, y, x)`, one init_time, vehicles per step.
        city: for the title, the zone and the side that row 0 lies on.
        newest: the newest observed frame `(channel, y, x)`, drawn first. None where it is missing.
    """
    frames = forecast.isel(init_time=0)
    leads = evenly_spaced(frames.sizes["lead_time"], MOST_MAPS)
    channels = [str(name) for name in forecast["channel"].values]
    columns = len(leads) + (newest is not None)
    rows, width = city.grid
    size = (2.6 * columns + 1.4, len(channels) * (2.6 * min(rows / width, 2) + 0.35) + 1.1)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(channels), columns, squeeze=False)
    for row, channel in zip(axes, channels, strict=True):
        maps = [
            (_title(frames, lead), frames.isel(lead_time=lead).sel(channel=channel))
            for lead in leads
        ]
        if newest is not None:
            maps.insert(0, (_observed_title(forecast), newest.sel(channel=channel)))
        top = max(float(frame.max()) for _, frame in maps) or 1.0
        images = [
            draw_map(ax, frame.values, (0, top), title, city)
            for ax, (title, frame) in zip(row, maps, strict=True)
        ]
        for ax, (_, frame) in zip(row, maps, strict=True):
            _mark_busiest(ax, frame)
        row[0].set_ylabel(channel, fontsize=11)
        figure.colorbar(images[-1], ax=list(row), label="vehicles per step", shrink=0.9)
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
    """Returns one map with its scale, on which colors change by the root.

    Args:
        frame: dims `(y, x)`, vehicles per step, NaN where there is no value.
        city: for the side that row 0 lies on.
        limits: flow at the ends of the colors.
        title: above it.
        colors: a color map of matplotlib's.
        footer: below it.
    """
    rows, width = frame.shape
    figure = Figure(figsize=(6, 5.2 * min(max(rows / width, 0.4), 1.6) + 0.8), layout="constrained")
    ax = figure.subplots()
    ax.set_facecolor(MISSING)
    image = ax.imshow(
        frame,
        cmap=colors,
        norm=rooted(limits),
        origin="upper" if city.row0 == "north" else "lower",
        interpolation="nearest",
    )
    ax.set_title(title.replace("$", r"\$"), fontsize=10)
    ax.set_xlabel("column")
    ax.set_ylabel("row")
    figure.colorbar(image, ax=ax, label="vehicles per step")
    figure.supxlabel(footer.replace("$", r"\$"), fontsize=7)
    return figure


def rooted(limits: tuple[float, float]) -> FuncNorm:
    """Returns the scale that goes by the root of flow, either way from 0, as counts spread."""

    def root(flow: np.ndarray) -> np.ndarray:
        return np.asarray(np.sign(flow) * np.sqrt(np.abs(flow)))

    def square(share: np.ndarray) -> np.ndarray:
        return np.asarray(np.sign(share) * np.square(share))

    return FuncNorm((root, square), *limits, clip=True)


def draw_map(
    ax: Axes,
    frame: np.ndarray,
    limits: tuple[float, float],
    title: str,
    city: City,
    colors: str = COLORS,
) -> AxesImage:
    """Draws one map, dims `(y, x)`, into axes; cells without a value are gray."""
    ax.set_facecolor(MISSING)
    origin: Literal["upper", "lower"] = "upper" if city.row0 == "north" else "lower"
    image = ax.imshow(
        frame, colors, vmin=limits[0], vmax=limits[1], origin=origin, interpolation="nearest"
    )
    ax.set_title(title, fontsize=9)
    ax.set_xticks([])
    ax.set_yticks([])
    return image


def _mark_busiest(ax: Axes, frame: xr.DataArray) -> None:
    """Frames the busiest cell of a forecast with bands, and writes its flow and band below the map."""
    if intervals_of(frame) is None or not np.isfinite(frame.values).any():
        return
    row, column = map(int, np.unravel_index(np.nanargmax(frame.values), frame.shape))
    for color, width in (("white", 2.4), ("black", 1)):
        corner = (column - 0.5, row - 0.5)
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, color=color, linewidth=width))
    ax.set_xlabel(between(frame.isel(y=row, x=column)), fontsize=9)


def _title(frames: xr.DataArray, lead: int) -> str:
    at = frames["valid_time"].values[[lead]]
    return f"forecast {local(at, frames.attrs['timezone'])[0]:%a %d %b %H:%M}"


def _observed_title(forecast: xr.DataArray) -> str:
    at = forecast["init_time"].values
    return f"observed {local(at, forecast.attrs['timezone'])[0]:%a %d %b %H:%M}"


def _footer(forecast: xr.DataArray) -> str:
    model = forecast.attrs["model_version"]
    framed = f"framed: the busiest cell, {100 * SHOWN:.0f} % of what comes lies between"
    parts = [
        *([framed] if intervals_of(forecast) is not None else []),
        f"times in {forecast.attrs['timezone']}",
        f"model {model}" if model else "no model",
        f"flowcast {forecast.attrs['code_version']}",
    ]
    return ", ".join(parts)
