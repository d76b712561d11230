"""The machine that a benchmark ran on, and the most that its matrix products reach."""

import os
import platform
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

from forecasting.profiling.memory import available_cores


@dataclass(frozen=True)
class Machine:
    """What the figures of a benchmark depend on.

    Attributes:
        processor: its name.
        cores: that this process may use.
        device: name of the GPU, or `cpu`.
        threads: of the CPU that torch computes with where nothing else is said.
        peaks: multiply-adds a second of a large matrix product, by precision.
        versions: of Python and of the libraries.
        load: processes that wanted to run in the minute before the benchmark, 0 on a quiet machine;
            nan where the system does not tell. Threads that wait for one another suffer most by others.
    """

    processor: str
    cores: int
    device: str
    threads: int
    peaks: dict[str, float]
    versions: dict[str, str]
    load: float = float("nan")


def machine(device: str, threads: int) -> Machine:
    """Returns this machine's facts, its peaks as measured now, in a process of its own.

    Args:
        device: `cpu` or `cuda`.
        threads: of the CPU.
    """
    import torch

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        peaks = pool.submit(_peaks, device, threads).result()
    return Machine(
        processor(),
        available_cores(),
        torch.cuda.get_device_name() if device == "cuda" else "cpu",
        threads,
        peaks,
        {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "onnxruntime", "numpy")},
        },
        load,
    )


def processor() -> str:
    """Returns the name of the CPU."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _peaks(device: str, threads: int) -> dict[str, float]:
    import torch

    from forecasting.profiling import cost
    from forecasting.training.hardware import PRECISIONS

    torch.set_num_threads(threads)
    place = torch.device(device)
    return {name: cost.matrix_peak(place, dtype) for name, dtype in PRECISIONS.items()}
