"""Cost: how time and memory grow along an axis, each measurement in a process of its own."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from data.errors import check_known
from data.store.store import Store
from forecasting.networks import DEFAULT, NETWORKS
from forecasting.networks.base import Frames
from forecasting.profiling import cost
from forecasting.profiling.memory import begin_peak, peak_memory_of_process
from forecasting.training.hardware import PRECISIONS, pick_device
from pipelines.benchmark.plan import SCALES
from pipelines.benchmark.speed.city import temporary_home
from pipelines.forecast.live import forecast
from pipelines.markdown_table import markdown_table

AXES = {
    "grid": "cells of a frame",
    "history": "frames that are seen",
    "horizon": "frames that are forecast",
    "cities": "cities, forecast one after the other",
}
"""What may be varied, and in what it is counted."""
FRAMES, CITIES = (2, 4, 8, 16, 32), (1, 2, 4, 8, 16)
SIDE, CITY_HORIZON, CITY_WEEKS = 32, 4, 5
REFERENCE_SIDE = 64
"""Side of the frames whose network size all grids have, so that the work grows and not the size."""


@dataclass(frozen=True)
class Cost:
    """What one network takes; times are medians, of one sequence, and bytes are peaks of memory."""

    network: str
    side: int  # cells along the side of a frame
    device: str
    parameters: int = 0
    multiply_adds: int = 0  # of a forecast of one sequence
    forecast_seconds: float = math.nan
    training_seconds: float = math.nan  # of one step
    forecast_bytes: int = 0  # of building and forecasting
    training_bytes: int = 0  # the same with a training step
    failed: str = ""  # why there are no figures
    axis: str = "grid"  # that is varied, key in `AXES`
    history: int = 0
    horizon: int = 0
    cities: int = 1  # more than one: a forecast is a round of them, stored
    precision: str = "float32"
    peak: float = math.nan  # multiply-adds a second of a large matrix product, in the same process
    forecast_share: float = math.nan  # of the peak
    training_share: float = math.nan

    @property
    def grid(self) -> str:
        """Cells of a frame, for people."""
        return f"{self.side}x{self.side}"

    @property
    def label(self) -> str:
        """What was measured, for people."""
        varied = "" if self.axis == "grid" else f", {self.axis} {getattr(self, self.axis)}"
        return f"{self.network} {self.grid}{varied}"

    @property
    def size(self) -> float:
        """The number that is varied: cells of a frame, frames, cities."""
        return float(self.side**2 if self.axis == "grid" else getattr(self, self.axis))


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


def costs(
    along: Sequence[str],
    networks: Sequence[str],
    sides: Sequence[int],
    *,
    scale: str = "quick",
    history: int = 10,
    horizon: int = 10,
    device: str = "auto",
    precision: str = "float32",
) -> Iterator[Cost]:
    """Measures along each axis, on square frames of one channel, and yields the figures one by one.

    Args:
        along: keys in `AXES`.
        networks: for the axis `grid`; the others measure the default network, `cities` a champion.
        sides: cells along the side of the frames, for `grid`; elsewhere frames have 32x32 cells.
        scale: which size of the networks, `quick` or `paper`.
        history: frames that are seen, where these are not varied.
        horizon: frames that are forecast, where these are not varied.
        device: `auto`, `cpu`, `cuda`.
        precision: key in `PRECISIONS`.

    Raises:
        FlowcastError: there is no such axis, network, scale, precision or device.
    """
    check_known("axis", along, AXES)
    check_known("network", networks, NETWORKS)
    check_known("scale", [scale], SCALES)
    check_known("precision", [precision], PRECISIONS)
    frames: dict[str, Any] = {"history": history, "horizon": horizon, "precision": precision}
    blank = Cost(DEFAULT, SIDE, str(pick_device(device)), **frames)
    city = Cost(DEFAULT, SIDE, "cpu", axis="cities", horizon=CITY_HORIZON)
    rows = {
        "grid": [replace(blank, network=name, side=side) for side in sides for name in networks],
        "history": [replace(blank, axis="history", history=count) for count in FRAMES],
        "horizon": [replace(blank, axis="horizon", horizon=count) for count in FRAMES],
        "cities": [replace(city, cities=count) for count in CITIES],
    }
    yield from (measured(row, scale) for axis in AXES if axis in along for row in rows[axis])


def measured(blank: Cost, scale: str) -> Cost:
    """Returns `blank` with its figures, or with why there are none."""
    measure = _city_round if blank.axis == "cities" else _network
    # A process of its own: the peak of memory is one figure for a whole process.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(measure, blank, scale, torch.get_num_threads()).result()
        except (BrokenProcessPool, RuntimeError, MemoryError) as error:
            reason, *_ = str(error).splitlines() or ["out of memory"]
            return replace(blank, failed=reason)


def _network(blank: Cost, scale: str, threads: int) -> Cost:
    torch.set_num_threads(threads)
    place, low = torch.device(blank.device), PRECISIONS[blank.precision]
    frames = Frames(1, (REFERENCE_SIDE, REFERENCE_SIDE), blank.history, blank.horizon)
    sizes = NETWORKS[blank.network].config
    config = sizes.paper(frames) if scale == "paper" else sizes.quick(frames)
    frames = replace(frames, grid=(blank.side, blank.side))
    config = replace(config, grid=frames.grid)
    before = cost.peak_memory(place)
    network = NETWORKS[blank.network].build(config).to(place)
    past, horizon = cost.seen(config, frames, 1, place), blank.horizon
    with torch.autocast(place.type, low, enabled=low != torch.float32):
        forecast = cost.forecast_seconds(network, past, horizon)
        forecast_bytes = cost.peak_memory(place) - before
        training = cost.training_seconds(network, past, horizon)
        training_bytes = cost.peak_memory(place) - before
    peak, work = cost.matrix_peak(place, low), cost.multiply_adds(network, past, horizon)
    return replace(
        blank,
        device=torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu",
        parameters=cost.parameters(network),
        multiply_adds=work,
        forecast_seconds=forecast,
        training_seconds=training,
        forecast_bytes=forecast_bytes,
        training_bytes=training_bytes,
        peak=peak,
        forecast_share=work / forecast / peak,
        training_share=cost.training_multiply_adds(network, past, horizon) / training / peak,
    )


def _city_round(blank: Cost, scale: str, threads: int) -> Cost:
    """Returns what a scheduled round takes: each city's archive read, forecast made and stored."""
    torch.set_num_threads(threads)
    cities = temporary_home(blank.cities, blank.side, CITY_WEEKS)
    store = Store()
    before = begin_peak()
    seconds = cost.median_seconds(
        lambda: [forecast(store, city, blank.horizon) for city in cities], torch.device("cpu")
    )
    memory = max(0, peak_memory_of_process() - before)
    return replace(blank, forecast_seconds=seconds, forecast_bytes=memory)


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Returns how values grow with sizes: the exponent fitted to their logarithms.

    1 is proportional to the size, 2 to its square; nan with fewer than two figures.
    """
    known = [(size, value) for size, value in zip(sizes, values, strict=True) if value > 0]
    if len(known) < 2:
        return math.nan
    logarithms, figures = np.log(np.asarray(known, dtype=float)).T
    return float(np.polyfit(logarithms, figures, 1)[0])


def cost_panels(rows: Sequence[Cost]) -> list[Panel]:
    """Returns what to draw: each figure against each axis, where there is one."""
    panels = []
    for (axis, x_label), (title, figure) in product(AXES.items(), FIGURES.items()):
        lines: dict[str, tuple[list[float], list[float]]] = {}
        for row in rows:
            if row.axis == axis and not row.failed and figure(row) > 0:
                sizes, values = lines.setdefault(row.network, ([], []))
                sizes.append(row.size)
                values.append(figure(row))
        if lines:
            grown = {name: exponent(*line) for name, line in lines.items()}
            panels.append(Panel(title, x_label, lines, grown))
    return panels


def cost_markdown(rows: Sequence[Cost]) -> str:
    """Returns the figures axis by axis, the share of the matrix peak, and the fitted exponents."""
    by_axis = {axis: [row for row in rows if row.axis == axis] for axis in AXES}
    parts = [_figures(axis, of_axis) for axis, of_axis in by_axis.items() if of_axis]
    if known := [row for row in rows if math.isfinite(row.peak)]:
        parts.append(
            f"Part of the matrix peak that one sequence reaches, in {known[0].precision}; the peak was "
            f"{max(2 * row.peak for row in known) / 1e9:,.0f} GFLOP/s at most.\n"
        )
        columns = ["network", "side", "history", "horizon", "forecast_share", "training_share"]
        shares = pd.DataFrame(known)[columns]
        shares["side"] = [row.grid for row in known]
        shares[columns[4:]] = shares[columns[4:]].map("{:.0%}".format)
        shares.columns = pd.Index(
            [*["network", "grid"], *columns[2:4], "forecast", "training step"]
        )
        parts.append(markdown_table(shares, ["grid"]))
    powers = [
        (
            *(panel.title.partition(",")[0], panel.x_label, name),
            f"{_power(panel.exponents[name])} ({_power(exponent(sizes[-2:], values[-2:]))})",
        )
        for panel in cost_panels(rows)
        for name, (sizes, values) in panel.lines.items()
    ]
    if powers:
        parts.append(
            "How a figure grows, as a power of what is varied: fitted to all sizes (and between the two "
            "largest, where a constant part weighs least).\n"
        )
        table = pd.DataFrame(powers, columns=["figure", "with", "network", "power"])
        parts.append(markdown_table(table, ["with", "network"]))
    return "\n".join(parts)


def _figures(axis: str, rows: Sequence[Cost]) -> str:
    """Returns the table of an axis; a failure stands where its first figure would."""
    lines = []
    for row in rows:
        line: dict[str, str] = {"network": row.network, "grid": row.grid}
        line |= {"device": row.device} if axis == "grid" else {AXES[axis]: f"{row.size:g}"}
        line["parameters"] = f"{row.parameters:,}" if row.parameters else ""
        line["multiply-adds, G"] = f"{row.multiply_adds / 1e9:.3f}" if row.multiply_adds else ""
        figures = {title: figure(row) for title, figure in FIGURES.items()}
        line |= {title: f"{value:,.1f}" if value > 0 else "" for title, value in figures.items()}
        lines.append(line | ({"forecast, ms": f"failed: {row.failed}"} if row.failed else {}))
    frame = pd.DataFrame(lines)
    return markdown_table(frame.loc[:, (frame != "").any()], ["grid", "device"])


def _power(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "-"
