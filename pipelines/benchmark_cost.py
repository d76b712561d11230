"""Benchmark of cost: time and memory of networks side by side, each in a process of its own."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import torch

from data.errors import FlowcastError
from forecasting import cost
from forecasting.computing import pick_device
from forecasting.models import NETWORKS
from forecasting.models.network import Frames
from pipelines.benchmark_plan import SCALES

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


def costs(
    networks: Sequence[str],
    sides: Sequence[int],
    *,
    scale: str = "quick",
    history: int = 10,
    horizon: int = 10,
    device: str = "auto",
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

    Raises:
        FlowcastError: there is no such network or device.
    """
    place = pick_device(device)
    if unknown := [name for name in networks if name not in NETWORKS]:
        raise FlowcastError(f"there is no network {unknown[0]!r}; there is {', '.join(NETWORKS)}")
    if scale not in SCALES:
        raise FlowcastError(f"there is no scale {scale!r}; there is {', '.join(SCALES)}")
    threads = torch.get_num_threads()
    for side in sides:
        for name in networks:
            frames = Frames(1, (side, side), history, horizon)
            # A process of its own: the peak of memory is one figure for a whole process.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                try:
                    yield pool.submit(_measure, name, frames, scale, str(place), threads).result()
                except (BrokenProcessPool, RuntimeError, MemoryError) as error:
                    reason, *_ = str(error).splitlines() or ["out of memory"]
                    yield Cost(name, side, str(place), failed=reason)


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
    """Returns how a figure grows with the number of cells: the exponent fitted to their logarithms.

    1 is proportional to the cells, 2 to their square; nan with fewer than two figures.
    """
    known = [(side**2, value) for side, value in zip(sides, values, strict=True) if value > 0]
    if len(known) < 2:
        return float("nan")
    cells, figures = np.log(np.asarray(known)).T
    return float(np.polyfit(cells, figures, 1)[0])


def _measure(name: str, frames: Frames, scale: str, device: str, threads: int) -> Cost:
    torch.set_num_threads(threads)
    place = torch.device(device)
    config_class = NETWORKS[name].config
    usual = dataclasses.replace(frames, grid=(REFERENCE, REFERENCE))
    sized = config_class.paper(usual) if scale == "paper" else config_class.quick(usual)
    config = dataclasses.replace(sized, grid=frames.grid)
    before = cost.peak_memory(place)
    network = NETWORKS[name].build(config).to(place)
    past, horizon = cost.seen(config, frames, 1, place), frames.horizon
    forecast = cost.forecast_seconds(network, past, horizon)
    forecast_bytes = cost.peak_memory(place) - before
    training = cost.training_seconds(network, past, horizon)
    training_bytes = cost.peak_memory(place) - before
    return Cost(
        name,
        frames.grid[0],
        torch.cuda.get_device_name(place) if place.type == "cuda" else "cpu",
        cost.parameters(network),
        cost.multiply_adds(network, past, horizon),
        forecast,
        training,
        forecast_bytes,
        training_bytes,
    )
