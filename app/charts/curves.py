"""Curves: results -> matplotlib figures of lines; they know of no files.

Lines are in the colors of Okabe and Ito with markers: people who are color-blind can tell all of
them apart.
"""

import math
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from forecasting.benchmarks.frame_metrics import METRICS
from pipelines.benchmark.cost import Panel

MAX_MARKERS, MAX_TICKS = 40, 8
LABEL_WIDTH, TITLE_WIDTH = 80, 60  # characters in a line
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
PANELS_IN_A_ROW, GROWTH_PANELS_IN_A_ROW = 3, 4

Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]


def learning_curve(epochs: Sequence[Mapping[str, Any]]) -> Figure:
    """Returns the training loss (logarithmic) above the validation error, the chosen epoch marked.

    Args:
        epochs: `epochs` of a result: each with `number`, `loss`, `validation`, `best`, of which the
            last best one is the chosen one.
    """
    figure = Figure(figsize=(7, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    numbers = [epoch["number"] for epoch in epochs]
    best = [epoch for epoch in epochs if epoch["best"]]
    for ax, key, color in ((above, "loss", SERIES[0]), (below, "validation", SERIES[1])):
        values = [_number(epoch[key]) for epoch in epochs]
        marker = "o" if len(epochs) <= MAX_MARKERS else None
        ax.plot(numbers, values, color=color, marker=marker, markersize=4, label=key)
        tidy(ax)
    _logarithmic(above.yaxis)
    above.set_ylabel("training loss (log)")
    below.set_ylabel("validation error")
    below.set_xlabel("epoch")
    below.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if best:
        chosen = best[-1]
        for ax in (above, below):
            ax.axvline(chosen["number"], color="#555555", linestyle=":", linewidth=1.2)
        below.plot(
            chosen["number"],
            _number(chosen["validation"]),
            linestyle="none",
            marker="*",
            markersize=14,
            color="black",
            label=f"chosen: epoch {chosen['number']}, {_number(chosen['validation']):.4g}",
        )
        below.legend(fontsize=9, frameon=False)
    figure.suptitle("Training", fontsize=12)
    return figure


def by_frame(
    results: Mapping[str, Mapping[str, Any]], metric: str = "mse", title: str = ""
) -> Figure:
    """Returns a metric by forecast frame, a line for each result.

    Args:
        results: label to the content of a `result.json`; of persistence `{"scores":
            result["persistence"]}`.
        metric: key in `METRICS`.
        title: of the figure; the metric's name if empty.
    """
    known = METRICS[metric]
    values = {
        label: [_number(value) for value in result["scores"][metric]["by_frame"]]
        for label, result in results.items()
    }
    return lines(
        {label: (range(1, len(line) + 1), line) for label, line in values.items()},
        "forecast frame",
        f"{known.label}, {known.unit}" if known.unit else known.label,
        title or f"{known.label} by frame ({known.better} is better)",
    )


def lines(
    series: Series,
    x_label: str,
    y_label: str,
    title: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
) -> Figure:
    """Returns a line for each series, told apart by color and by marker.

    Args:
        series: label to x and y.
        x_label: with its unit.
        y_label: with its unit.
        title: of the figure.
        log_x: whether x is logarithmic.
        log_y: whether y is logarithmic.
    """
    figure = Figure(figsize=(7, 4 + 0.2 * _lines_below(list(series))), layout="constrained")
    ax = figure.subplots()
    _draw(ax, series, list(series), log_x=log_x, log_y=log_y)
    ax.set(xlabel=x_label, ylabel=y_label)
    ax.set_title(fill(title, TITLE_WIDTH), fontsize=12)
    _legend(figure, [ax])
    return figure


def panels(series: Mapping[str, Series], x_label: str, title: str) -> Figure:
    """Returns a panel of lines for each entry; a label has one color in all of them.

    Args:
        series: name of the panel, the figure with its unit, to the series in it.
        x_label: with its unit, the same for all.
        title: of the figure.
    """
    labels = list(dict.fromkeys(label for lines_of in series.values() for label in lines_of))
    figure, axes = _grid(len(series), PANELS_IN_A_ROW, (4, 3.2), labels, title)
    for ax, (name, lines_of) in zip(axes, series.items(), strict=True):
        _draw(ax, lines_of, labels)
        ax.set_title(name, fontsize=10)
        ax.set_xlabel(x_label, fontsize=9)
    _legend(figure, axes)
    return figure


def growth(panels_of: Sequence[Panel], title: str) -> Figure:
    """Returns a panel for each figure and axis, all logarithmic, with the fitted powers in it."""
    labels = list(dict.fromkeys(label for panel in panels_of for label in panel.lines))
    figure, axes = _grid(len(panels_of), GROWTH_PANELS_IN_A_ROW, (3.6, 3), labels, title)
    for ax, panel in zip(axes, panels_of, strict=True):
        _draw(ax, panel.lines, labels, log_x=True, log_y=True)
        ax.set_title(panel.title, fontsize=10)
        ax.set_xlabel(panel.x_label, fontsize=9)
        powers = [f"power {panel.exponents[label]:.2f}" for label in panel.lines]
        ax.legend(ax.get_lines(), powers, loc="upper left", fontsize=7, frameon=False)
        low, high = ax.get_ylim()
        # Room above the lines for their powers.
        ax.set_ylim(low, high * (high / low) ** (0.1 + 0.08 * len(powers)))
    _legend(figure, axes)
    return figure


def _grid(
    count: int, abreast: int, size: tuple[float, float], labels: Sequence[str], title: str
) -> tuple[Figure, list[Axes]]:
    """Returns a figure with `count` panels of a size in inches, and room for a legend below them."""
    columns = min(count, abreast)
    rows = -(-count // abreast)
    height = size[1] * rows + 0.8 + 0.2 * _lines_below(labels)
    figure = Figure(figsize=(size[0] * columns + 0.5, height), layout="constrained")
    if not count:
        return figure, []
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for ax in axes[count:]:
        ax.remove()
    figure.suptitle(fill(title, TITLE_WIDTH * columns), fontsize=12)
    return figure, list(axes[:count])


def _draw(
    ax: Axes,
    series: Series,
    labels: Sequence[str],
    *,
    log_x: bool = False,
    log_y: bool = False,
) -> None:
    """Draws the series, each in the color of its place among `labels`."""
    for label, (x, y) in series.items():
        place = labels.index(label)
        ax.plot(
            list(x),
            list(y),
            label=fill(label, LABEL_WIDTH),
            color=SERIES[place % len(SERIES)],
            marker=MARKERS[place % len(MARKERS)] if len(x) <= MAX_MARKERS else None,
            linestyle=("-", "--", ":")[place // len(SERIES) % 3],
            markersize=5,
        )
    at = sorted({float(value) for x, _ in series.values() for value in x})
    if log_x:
        _logarithmic(ax.xaxis, at if len(at) <= MAX_TICKS else ())
    elif all(value.is_integer() for value in at):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if log_y:
        _logarithmic(ax.yaxis)
    if not any(math.isfinite(value) for _, y in series.values() for value in y):
        ax.text(0.5, 0.5, "no values", transform=ax.transAxes, ha="center", va="center")
    tidy(ax)


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """Names every line once, below the figure and off the lines."""
    handles: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="outside lower left",
            fontsize=9,
            frameon=False,
        )


def _lines_below(labels: Sequence[str]) -> int:
    return sum(fill(label, LABEL_WIDTH).count("\n") + 1 for label in labels)


def _number(value: float | None) -> float:
    """Returns the value, NaN where JSON has null."""
    return math.nan if value is None else float(value)


def tidy(ax: Axes) -> None:
    """Gives axes a light grid and no frame at the top and on the right."""
    ax.grid(color="#dddddd", linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)


def _logarithmic(axis: XAxis | YAxis, ticks: Sequence[float] = ()) -> None:
    """Makes an axis logarithmic with plain numbers at `ticks`, or else at 1, 2 and 5 of a decade."""
    set_scale = axis.axes.set_xscale if isinstance(axis, XAxis) else axis.axes.set_yscale
    set_scale("log")
    axis.set_major_locator(FixedLocator(ticks) if ticks else LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axis.set_minor_formatter(NullFormatter())
