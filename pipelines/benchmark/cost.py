"""Benchmark of cost: time and memory of networks side by side, each in a process of its own."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context

import numpy as np
import torch

from data.errors import FlowcastError
from forecasting.networks import NETWORKS, entry_of
from forecasting.networks.base import Frames
from forecasting.profiling import cost
from forecasting.training.hardware import PRECISIONS, pick_device
from pipelines.benchmark.plan import SCALES

REFERENCE = 64
"""Side of the frames that the sizes of the networks are those for."""
Series = dict[str, tuple[list[float], list[float]]]
"""Lines to draw: x and y by label."""


@dataclass(frozen=True)
class Cost:
    """What one network takes on one grid.

    Attributes:
        network: key in `NETWORKS`.
        side: cells along the side of a frame.
        device: where it ran.
        parameters: trainable ones.
        multiply_adds: of a forecast of one sequence.
        forecast_seconds: median, one sequence.
        training_seconds: median, one step on one sequence.
        forecast_bytes: the most memory that building and forecasting took beyond what stood before.
        training_bytes: the same with a training step.
        failed: why there are no figures, "" where there are.
        axis: what is varied in the series that it is part of, key in `AXES` of `benchmark_growth`.
        history: frames that are seen.
        horizon: frames that are forecast.
        cities: forecast one after the other; a forecast is then a round of them, stored.
        precision: of matrix products, key in `PRECISIONS`.
        peak: multiply-adds a second of a large matrix product, measured in the same process.
        forecast_share: of that peak that the forecast reaches.
        training_share: of that peak that the training step reaches.
    """

    network: str
    side: int
    device: str
    parameters: int = 0
    multiply_adds: int = 0
    forecast_seconds: float = float("nan")
    training_seconds: float = float("nan")
    forecast_bytes: int = 0
    training_bytes: int = 0
    failed: str = ""
    axis: str = "grid"
    history: int = 0
    horizon: int = 0
    cities: int = 1
    precision: str = "float32"
    peak: float = float("nan")
    forecast_share: float = float("nan")
    training_share: float = float("nan")

    @property
    def label(self) -> str:
        """Returns what was measured, for people."""
        what = f"{self.network} {self.side}x{self.side}"
        if self.axis == "grid":
            return what
        return f"{what}, {self.axis} {getattr(self, self.axis)}"

    @property
    def size(self) -> float:
        """Returns the number that is varied: cells of a frame, frames, cities."""
        return float(self.side**2 if self.axis == "grid" else getattr(self, self.axis))


def costs(
    networks: Sequence[str],
    sides: Sequence[int],
    *,
    scale: str = "quick",
    history: int = 10,
    horizon: int = 10,
    device: str = "auto",
    precision: str = "float32",
) -> Iterator[Cost]:
    """Measures each network on square frames of one channel and yields the figures one by one.

    Every network has the patch and the widths that it has for frames of 64x64 cells, whatever the
    grid, so that what grows is the work and not the size.

    Args:
        networks: keys in `NETWORKS`.
        sides: cells along the side of the frames.
        scale: which size of the networks, `quick` or `paper`.
        history: frames that they see.
        horizon: frames that they forecast.
        device: `auto`, `cpu`, `cuda`.
        precision: key in `PRECISIONS`.

    Raises:
        FlowcastError: there is no such network or device.
    """
    check(networks, scale, precision)
    place = pick_device(device)
    for side in sides:
        for name in networks:
            blank = Cost(name, side, str(place), history=history, horizon=horizon)
            yield measured(replace(blank, precision=precision), scale)


def check(networks: Sequence[str], scale: str, precision: str) -> None:
    """Refuses what there is not.

    Raises:
        FlowcastError: there is no such network, scale or precision.
    """
    for name in networks:
        entry_of(name)
    if scale not in SCALES:
        raise FlowcastError(f"there is no scale {scale!r}; there is {', '.join(SCALES)}")
    if precision not in PRECISIONS:
        raise FlowcastError(
            f"there is no precision {precision!r}; there is {', '.join(PRECISIONS)}"
        )


def measured(
    blank: Cost, scale: str, measure: Callable[[Cost, str, int], Cost] | None = None
) -> Cost:
    """Returns `blank` with its figures, measured in a process of its own, or why there are none.

    Args:
        blank: what to measure, and on what device.
        scale: which size of the networks, `quick` or `paper`.
        measure: what measures, given the threads as well; a network by itself if None.
    """
    # A process of its own: the peak of memory is one figure for a whole process.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            threads = torch.get_num_threads()
            return pool.submit(measure or _measure, blank, scale, threads).result()
        except (BrokenProcessPool, RuntimeError, MemoryError) as error:
            reason, *_ = str(error).splitlines() or ["out of memory"]
            return replace(blank, failed=reason)


def cost_series(rows: Sequence[Cost]) -> dict[str, Series]:
    """Returns what to draw of costs: by figure and network, the figure against the side of the grid."""
    figures: dict[str, Callable[[Cost], float]] = {
        "forecast, ms": lambda row: row.forecast_seconds * 1e3,
        "training step, ms": lambda row: row.training_seconds * 1e3,
        "memory to train, MiB": lambda row: row.training_bytes / 2**20,
        "multiply-adds, G": lambda row: row.multiply_adds / 1e9,
    }
    good = [row for row in rows if not row.failed]
    return {
        panel: {
            name: (
                [float(row.side) for row in good if row.network == name],
                [figure(row) for row in good if row.network == name],
            )
            for name in dict.fromkeys(row.network for row in good)
        }
        for panel, figure in figures.items()
    }


def cost_markdown(rows: Sequence[Cost]) -> str:
    """Returns costs as a table."""
    lines = [
        "| network | grid | device | parameters | multiply-adds, G | forecast, ms | training step, ms "
        "| memory to forecast, MiB | memory to train, MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        start = f"| {row.network} | {row.side}x{row.side} | {row.device} "
        if row.failed:
            lines.append(f"{start}| failed: {row.failed} ||||||")
            continue
        lines.append(
            f"{start}| {row.parameters:,} | {row.multiply_adds / 1e9:.3f} "
            f"| {row.forecast_seconds * 1e3:.1f} | {row.training_seconds * 1e3:.1f} "
            f"| {row.forecast_bytes / 2**20:.0f} | {row.training_bytes / 2**20:.0f} |"
        )
    return "\n".join(lines) + "\n"


def growth(sides: Sequence[float], values: Sequence[float]) -> float:
    """Returns how a figure grows with the number of cells: see `exponent`."""
    return exponent([side**2 for side in sides], values)


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Returns how values grow with sizes: the exponent fitted to their logarithms.

    1 is proportional to the size, 2 to its square; nan with fewer than two figures.
    """
    known = [(size, value) for size, value in zip(sizes, values, strict=True) if value > 0]
    if len(known) < 2:
        return float("nan")
    logarithms, figures = np.log(np.asarray(known, dtype=float)).T
    return float(np.polyfit(logarithms, figures, 1)[0])


def _measure(blank: Cost, scale: str, threads: int) -> Cost:
    torch.set_num_threads(threads)
    place = torch.device(blank.device)
    frames = Frames(1, (blank.side, blank.side), blank.history, blank.horizon)
    config_class = NETWORKS[blank.network].config
    usual = replace(frames, grid=(REFERENCE, REFERENCE))
    sized = config_class.paper(usual) if scale == "paper" else config_class.quick(usual)
    config = replace(sized, grid=frames.grid)
    before = cost.peak_memory(place)
    network = NETWORKS[blank.network].build(config).to(place)
    past, horizon = cost.seen(config, frames, 1, place), frames.horizon
    low = PRECISIONS[blank.precision]
    with torch.autocast(place.type, low, enabled=low != torch.float32):
        forecast = cost.forecast_seconds(network, past, horizon)
        forecast_bytes = cost.peak_memory(place) - before
        training = cost.training_seconds(network, past, horizon)
        training_bytes = cost.peak_memory(place) - before
    peak = cost.matrix_peak(place, low)
    work = cost.multiply_adds(network, past, horizon)
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
