"""Frames: samples of a benchmark -> a matplotlib figure or an animation; they know of no files.

Values are drawn in gray or viridis, errors in a diverging map with white at 0.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from PIL import Image, ImageDraw, ImageFont

from app.charts.maps import COLORS, MISSING
from app.text import evenly_spaced

MAX_FRAMES = 10
ERRORS = "RdBu_r"
PANEL_PIXELS = 224  # pixels, about, along the longer side of a frame in an animation
GAP, LINE_HEIGHT = 12, 20  # pixels between its panels and for a line of text
FRAME_MS, LAST_FRAME_MS = 300, 1500


def strips(
    past: np.ndarray,
    observed: np.ndarray,
    forecast: np.ndarray,
    names: Sequence[str],
    channels: Sequence[str] = (),
) -> Figure:
    """Returns samples as rows of frames: input, truth, forecast and the forecast's error.

    Of long sequences the frames are evenly chosen. One channel is drawn in gray and three as a
    colored picture, both from 0 to 1; the channels of others have rows and a scale of their own.
    All errors of the figure share one scale; that of a colored picture is the mean of its channels.

    Args:
        past: `(n, t, c, y, x)` in [0, 1].
        observed: `(n, h, c, y, x)`.
        forecast: the same dims, not yet clipped.
        names: of the samples.
        channels: names of the channels where they are drawn one by one.
    """
    views = [
        (", ".join(filter(None, (name, view.name))), view)
        for name, seen, truth, predicted in zip(names, past, observed, forecast, strict=True)
        for view in _views(seen, truth, predicted, channels)
    ]
    columns = min(max(past.shape[1], observed.shape[1]), MAX_FRAMES)
    height = min(max(past.shape[-2] / past.shape[-1], 0.4), 2.5)
    figure = Figure(figsize=(columns + 1.8, len(views) * (4 * height + 0.85)), layout="constrained")
    top = _largest_error([view for _, view in views])
    panels = np.atleast_1d(np.asarray(figure.subfigures(len(views), 1)))
    for panel, (title, view) in zip(panels, views, strict=True):
        panel.suptitle(title, fontsize=10)
        _strip(panel, view, columns, top)
    return figure


def animation(
    past: np.ndarray, observed: np.ndarray, forecast: np.ndarray, channels: Sequence[str] = ()
) -> bytes:
    """Returns an animated GIF of a sample: the truth, the forecast and its error side by side.

    During the input the first two show the same frames and the third is empty. Small grids are
    enlarged cell by cell; colors are as in `strips`.

    Args:
        past: `(t, c, y, x)` in [0, 1].
        observed: `(h, c, y, x)`.
        forecast: the same dims, not yet clipped.
        channels: names of the channels where they are drawn one by one, one below the other.
    """
    views = list(_views(past, observed, forecast, channels))
    history, horizon = len(past), len(observed)
    pages = [_page(views, number, history, horizon) for number in range(history + horizon)]
    width, height = pages[0].size
    tall = Image.new("RGB", (width, height * len(pages)))
    for number, page in enumerate(pages):
        tall.paste(page, (0, number * height))
    # One palette for all frames: with one each, colors that stand still would flicker.
    reduced = tall.quantize(256, dither=Image.Dither.NONE)
    frames = [
        reduced.crop((0, number * height, width, (number + 1) * height))
        for number in range(len(pages))
    ]
    file = io.BytesIO()
    frames[0].save(
        file,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=[FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS],
        loop=0,
    )
    return file.getvalue()


@dataclass(frozen=True)
class _View:
    """What is drawn of a sample as one: `(t, y, x)`, or `(t, y, x, 3)` for a colored picture."""

    name: str
    past: np.ndarray
    truth: np.ndarray
    forecast: np.ndarray
    colors: str
    top: float

    @property
    def error(self) -> np.ndarray:
        """Forecast less truth, `(t, y, x)`."""
        error: np.ndarray = self.forecast.astype(np.float64) - self.truth
        return np.mean(error, axis=-1) if error.ndim == 4 else error


def _views(
    past: np.ndarray, observed: np.ndarray, forecast: np.ndarray, channels: Sequence[str]
) -> Iterator[_View]:
    """Gives the views of a sample: one of a gray or colored picture, else one a channel."""
    count = past.shape[1]
    if count == 1:
        yield _View("", past[:, 0], observed[:, 0], forecast[:, 0], "gray", 1.0)
    elif count == 3:
        seen, truth, predicted = (np.moveaxis(each, 1, -1) for each in (past, observed, forecast))
        yield _View("", seen, truth, predicted, "gray", 1.0)
    else:
        names = channels or [f"channel {at + 1}" for at in range(count)]
        for at, name in zip(range(count), names, strict=True):
            seen, truth, predicted = past[:, at], observed[:, at], forecast[:, at]
            top = float(np.fmax(seen.max(), truth.max())) or 1.0
            yield _View(name, seen, truth, predicted, COLORS, top)


def _largest_error(views: Sequence[_View]) -> float:
    return max(float(np.nan_to_num(abs(view.error)).max()) for view in views) or 1.0


def _strip(panel: SubFigure, view: _View, columns: int, top: float) -> None:
    """Draws the four rows of a view, and beside them the scales of its values and of its errors."""
    grid = panel.add_gridspec(4, columns + 1, width_ratios=[1] * columns + [0.1])
    values = (0.0, view.top)
    rows = (
        ("input", view.past, view.colors, values, 1 - len(view.past)),
        ("truth", view.truth, view.colors, values, 1),
        ("forecast", view.forecast, view.colors, values, 1),
        ("error", view.error, ERRORS, (-top, top), 1),
    )
    images = {}
    for place, (label, frames, colors, limits, first) in enumerate(rows):
        for column, at in enumerate(evenly_spaced(len(frames), columns)):
            ax = panel.add_subplot(grid[place, column])
            images[label] = _frame(ax, frames[at], colors, limits)
            if label in ("input", "truth"):
                ax.set_title(f"{first + at:+d}" if first + at else "0", fontsize=7, pad=2)
            if column == 0:
                ax.set_ylabel(label, fontsize=8)
    if view.colors == COLORS:
        panel.colorbar(images["truth"], cax=panel.add_subplot(grid[:3, -1]))
    panel.colorbar(images["error"], cax=panel.add_subplot(grid[3, -1]))
    for ax in panel.axes:
        ax.tick_params(labelsize=7)


def _frame(ax: Axes, frame: np.ndarray, colors: str, limits: tuple[float, float]) -> AxesImage:
    """Draws a frame; cells without a value are gray; a picture has colors of its own."""
    drawn = frame.clip(0, 1) if frame.ndim == 3 else frame
    low, high = limits
    ax.set_facecolor(MISSING)
    image = ax.imshow(drawn, cmap=colors, vmin=low, vmax=high, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    return image


def _page(views: Sequence[_View], number: int, history: int, horizon: int) -> Image.Image:
    """Returns a frame of the animation: a line of text, a row of panels a view, a line of text."""
    top = _largest_error(views)
    rows = [_panels(view, number, top) for view in views]
    height, width = rows[0][0].shape[:2]
    size = (
        3 * width + 4 * GAP,
        len(rows) * (height + LINE_HEIGHT) + 2 * LINE_HEIGHT + GAP,
    )
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(13)
    at = number - history
    text = f"input {number + 1} of {history}" if at < 0 else f"forecast {at + 1} of {horizon}"
    draw.text((GAP, GAP // 2), text, "black", font)
    for place, (view, row) in enumerate(zip(views, rows, strict=True)):
        y = LINE_HEIGHT + GAP // 2 + place * (height + LINE_HEIGHT)
        for column, (label, panel) in enumerate(
            zip(("truth", "forecast", "error"), row, strict=True)
        ):
            x = GAP + column * (width + GAP)
            name = ", ".join(filter(None, (label, view.name)))
            draw.text((x, y + 2), name, "black", font)
            page.paste(Image.fromarray(panel), (x, y + LINE_HEIGHT))
    foot = f"error from {-top:.2g} (blue) to {top:.2g} (red)"
    draw.text((GAP, size[1] - LINE_HEIGHT), foot, "black", font)
    return page


def _panels(view: _View, number: int, top: float) -> list[np.ndarray]:
    """Returns truth, forecast and error of a frame, enlarged, `(y, x, 3)` in 8 bits."""
    at = number - len(view.past)
    if at < 0:
        seen = _rgb(view.past[number], view.colors, 0.0, view.top)
        return [_enlarged(panel) for panel in (seen, seen, np.full_like(seen, 238))]
    truth, forecast = (
        _rgb(frames[at], view.colors, 0.0, view.top) for frames in (view.truth, view.forecast)
    )
    error = _rgb(view.error[at], ERRORS, -top, top)
    return [_enlarged(panel) for panel in (truth, forecast, error)]


def _rgb(frame: np.ndarray, colors: str, low: float, high: float) -> np.ndarray:
    """Returns a frame's colors `(y, x, 3)` in 8 bits."""
    if frame.ndim == 3:
        picture: np.ndarray = 255 * np.nan_to_num(frame).clip(0, 1)
        return picture.round().astype(np.uint8)
    color_map = colormaps[colors].with_extremes(bad=MISSING)
    return np.asarray(color_map((frame - low) / (high - low), bytes=True))[..., :3]


def _enlarged(panel: np.ndarray) -> np.ndarray:
    times = max(1, round(PANEL_PIXELS / max(panel.shape[:2])))
    return panel.repeat(times, axis=0).repeat(times, axis=1)
