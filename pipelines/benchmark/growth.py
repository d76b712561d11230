"""Growth: how time and memory grow with the cells, the frames seen and forecast, and the cities."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from data.errors import FlowcastError
from data.store.store import Store
from forecasting.networks import DEFAULT
from forecasting.profiling import cost
from forecasting.profiling.memory import begin_peak, peak_memory_of_process
from forecasting.training.hardware import pick_device
from pipelines.benchmark.cost import Cost, check, cost_markdown, costs, exponent, measured
from pipelines.benchmark.speed.city import temporary_home
from pipelines.forecast.live import forecast

AXES = {
    "grid": "cells of a frame",
    "history": "frames that are seen",
    "horizon": "frames that are forecast",
    "cities": "cities, forecast one after the other",
}
"""What may be varied, and in what it is counted."""
FRAMES, CITIES = (2, 4, 8, 16, 32), (1, 2, 4, 8, 16)
SIDE, HORIZON, WEEKS = 32, 4, 5

FIGURES: dict[str, Callable[[Cost], float]] = {
    "forecast, ms": lambda row: row.forecast_seconds * 1e3,
    "training step, ms": lambda row: row.training_seconds * 1e3,
    "memory to forecast, MiB": lambda row: row.forecast_bytes / 2**20,
    "memory to train, MiB": lambda row: row.training_bytes / 2**20,
}


class Panel(NamedTuple):
    """A figure against one axis: by network the sizes and the values, and how they grow."""

    title: str
    x_label: str
    lines: dict[str, tuple[list[float], list[float]]]
    exponents: dict[str, float]


def growths(
    along: Sequence[str],
    networks: Sequence[str],
    sides: Sequence[int],
    *,
    scale: str = "quick",
    history: int = 4,
    horizon: int = 4,
    device: str = "auto",
    precision: str = "float32",
) -> Iterator[Cost]:
    """Measures along each axis, all else as it is said here, and yields the figures one by one.

    Args:
        along: keys in `AXES`.
        networks: keys in `NETWORKS`, for the axis `grid`; all else is for the default network, of
            which a city's champion is one.
        sides: cells along the side of the frames, for `grid`; elsewhere frames have 32x32 cells.
        scale: which size of the networks, `quick` or `paper`.
        history: frames that are seen, where these are not varied.
        horizon: frames that are forecast, where these are not varied.
        device: `auto`, `cpu`, `cuda`.
        precision: key in `PRECISIONS`.

    Raises:
        FlowcastError: there is no such axis, network, scale, precision or device.
    """
    if unknown := [axis for axis in along if axis not in AXES]:
        raise FlowcastError(f"there is no axis {unknown[0]!r}; there is {', '.join(AXES)}")
    check(networks, scale, precision)
    place = str(pick_device(device))
    if "grid" in along:
        yield from costs(
            networks,
            sides,
            scale=scale,
            history=history,
            horizon=horizon,
            device=device,
            precision=precision,
        )
    blank = Cost(DEFAULT, SIDE, place, history=history, horizon=horizon, precision=precision)
    for axis in ("history", "horizon"):
        if axis in along:
            for count in FRAMES:
                changed: dict[str, Any] = {axis: count}
                yield measured(replace(blank, axis=axis, **changed), scale)
    if "cities" in along:
        for count in CITIES:
            one = Cost(DEFAULT, SIDE, "cpu", axis="cities", horizon=HORIZON, cities=count)
            yield measured(one, scale, _round)


def growth_panels(rows: Sequence[Cost]) -> list[Panel]:
    """Returns what to draw: each figure against each axis, where there is one."""
    panels = []
    for axis, x_label in AXES.items():
        good = [row for row in rows if row.axis == axis and not row.failed]
        for title, figure in FIGURES.items():
            lines = {
                name: (
                    [row.size for row in good if row.network == name],
                    [figure(row) for row in good if row.network == name],
                )
                for name in dict.fromkeys(row.network for row in good)
            }
            lines = {name: line for name, line in lines.items() if _finite(line[1])}
            if lines:
                grown = {name: exponent(*line) for name, line in lines.items()}
                panels.append(Panel(title, x_label, lines, grown))
    return panels


def growth_markdown(rows: Sequence[Cost]) -> str:
    """Returns the figures axis by axis, and after them the exponents."""
    parts = []
    for axis, counted in AXES.items():
        mine = [row for row in rows if row.axis == axis]
        if mine:
            parts.append(cost_markdown(mine) if axis == "grid" else _table(mine, counted))
    return "\n".join([*parts, shares_markdown(rows), exponents_markdown(rows)])


def shares_markdown(rows: Sequence[Cost]) -> str:
    """Returns the share of the machine's matrix peak that one sequence reaches."""
    known = [row for row in rows if math.isfinite(row.peak)]
    if not known:
        return ""
    lines = [
        f"Share of the matrix peak that one sequence reaches, in {known[0].precision}; the peak was "
        f"{max(2 * row.peak for row in known) / 1e9:,.0f} GFLOP/s at most.",
        "",
        "| network | grid | history | horizon | forecast | training step |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row.network} | {row.side}x{row.side} | {row.history} | {row.horizon} "
            f"| {row.forecast_share:.0%} | {row.training_share:.0%} |"
            for row in known
        ),
    ]
    return "\n".join(lines) + "\n"


def exponents_markdown(rows: Sequence[Cost]) -> str:
    """Returns the fitted exponents, in brackets those of the two largest sizes alone."""
    lines = [
        "How a figure grows, as the power of what is varied: fitted to all sizes (and between the two "
        "largest, where what is the same at all sizes weighs least).",
        "",
        "| figure | with | network | power |",
        "|---|---|---|---|",
    ]
    for panel in growth_panels(rows):
        for name, (sizes, values) in panel.lines.items():
            last = exponent(sizes[-2:], values[-2:])
            lines.append(
                f"| {panel.title.partition(',')[0]} | {panel.x_label} | {name} "
                f"| {_power(panel.exponents[name])} ({_power(last)}) |"
            )
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Cost], counted: str) -> str:
    titles = [title for title, figure in FIGURES.items() if _finite([figure(row) for row in rows])]
    lines = [
        f"| network | grid | {counted} | {' | '.join(titles)} |",
        f"|---|---|---|{'---|' * len(titles)}",
    ]
    for row in rows:
        figures = [f"failed: {row.failed}", *[""] * (len(titles) - 1)]
        if not row.failed:
            figures = [f"{FIGURES[title](row):,.1f}" for title in titles]
        start = f"| {row.network} | {row.side}x{row.side} | {row.size:g} "
        lines.append(f"{start}| {' | '.join(figures)} |")
    return "\n".join(lines) + "\n"


def _round(blank: Cost, scale: str, threads: int) -> Cost:
    """Returns what a scheduled round takes: each city's archive read, forecast made and stored."""
    torch.set_num_threads(threads)
    cities = temporary_home(blank.cities, blank.side, WEEKS)
    store = Store()
    before = begin_peak()

    def work() -> None:
        for city in cities:
            forecast(store, city, blank.horizon)

    seconds = cost.median_seconds(work, torch.device("cpu"))
    taken = max(0, peak_memory_of_process() - before)
    return replace(blank, forecast_seconds=seconds, forecast_bytes=taken)


def _power(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "-"


def _finite(values: Sequence[float]) -> bool:
    return any(math.isfinite(value) and value > 0 for value in values)
