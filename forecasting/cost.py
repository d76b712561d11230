"""Cost: what a network takes, in parameters, multiply-adds, time and memory."""

import re
import resource
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from forecasting.models.network import Frames, NetworkConfig

REPEATS = 5
SECONDS = 1.0


def parameters(network: nn.Module) -> int:
    """Returns the number of trainable parameters."""
    return sum(value.numel() for value in network.parameters() if value.requires_grad)


def multiply_adds(network: nn.Module, past: Tensor, horizon: int) -> int:
    """Returns the multiply-adds of matrix products, convolutions and attention in one forecast.

    Half of what torch counts as floating-point operations; the tables of the field print them as
    FLOPs.

    Args:
        network: on any device.
        past: of one sequence, `(1, t, c, y, x)`.
        horizon: frames to forecast.
    """
    network.eval()
    # Torch does not count the attention of every device; as matrix products it is the same on all.
    products = sdpa_kernel(SDPBackend.MATH)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), products:
        network(past, horizon)
    return int(counter.get_total_flops()) // 2


def seen(config: NetworkConfig, frames: Frames, batch: int, device: torch.device) -> Tensor:
    """Returns a random past `(batch, t, c, y, x)` with as many frames as the network sees."""
    length = len(config.lags(frames.horizon))
    return torch.rand(batch, length, frames.channels, *frames.grid, device=device)


def forecast_seconds(network: nn.Module, past: Tensor, horizon: int) -> float:
    """Returns the median seconds of a forecast of all sequences in `past`."""
    network.eval()

    def forecast() -> None:
        with torch.inference_mode():
            network(past, horizon)

    return median_seconds(forecast, past.device)


def training_seconds(network: nn.Module, past: Tensor, horizon: int) -> float:
    """Returns the median seconds of a training step, its update of the weights included."""
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-6)

    def step() -> None:
        optimizer.zero_grad()
        outputs = network(past, horizon)
        F.mse_loss(outputs, torch.zeros_like(outputs)).backward()
        optimizer.step()

    return median_seconds(step, past.device)


def reset_peak_memory(device: torch.device) -> None:
    """Lets `peak_memory` begin anew, where the system can: with what is taken now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int:
    """Returns the most bytes taken: of the GPU by torch, else of memory by the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # What getrusage tells of a process that another one started has that one's peak in it.
    status = Path("/proc/self/status")
    if status.exists() and (peak := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(peak[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def median_seconds(work: Callable[[], None], device: torch.device) -> float:
    """Returns the median time of `work`, done once to warm up and then for a second or so."""
    work()
    times: list[float] = []
    while len(times) < REPEATS or (sum(times) < SECONDS and len(times) < 100):
        _wait(device)
        begun = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
