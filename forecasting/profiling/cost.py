"""Cost: what a network takes, in parameters, multiply-adds, time and memory."""

import os
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._C._autograd import DeviceType
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity
from torch.profiler import profile as record
from torch.utils.flop_counter import FlopCounterMode

from forecasting.networks.base import Frames, NetworkConfig
from forecasting.profiling.memory import begin_peak, peak_memory_of_process

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


def training_multiply_adds(network: nn.Module, past: Tensor, horizon: int) -> int:
    """Returns the multiply-adds of one forecast and its backward pass, as above."""
    network.train()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network(past, horizon).square().mean().backward()
    network.zero_grad()
    return int(counter.get_total_flops()) // 2


def matrix_peak(device: torch.device, precision: torch.dtype) -> float:
    """Returns the multiply-adds a second of a large matrix product: the most that is possible.

    Args:
        device: that computes; on the CPU with as many threads as torch is set to.
        precision: of the matrices.
    """
    side = 8192 if device.type == "cuda" else 2048
    left, right = (torch.randn(side, side, device=device).to(precision) for _ in range(2))
    out = torch.empty_like(left)

    def product() -> None:
        torch.mm(left, right, out=out)

    return side**3 / min(timed(product, device))


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
    """Resets `peak_memory`, where the system can, to what is taken now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        begin_peak()


def peak_memory(device: torch.device) -> int:
    """Returns the most bytes taken: of the GPU by torch, else of memory by the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_memory_of_process()


def median_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Returns the median time of `work`, done once to warm up and then for a second or so."""
    return statistics.median(timed(work, device))


def timed(work: Callable[[], object], device: torch.device) -> list[float]:
    """Returns the seconds of `work`, again and again for a second or so, after a first time."""
    work()
    times: list[float] = []
    while len(times) < REPEATS or (sum(times) < SECONDS and len(times) < 100):
        _wait(device)
        begun = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - begun)
    return times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


PRODUCTS = ("mm", "conv", "attention", "linear", "gemm", "cutlass", "xmma", "nvjet", "fmha", "dot")
"""What the names of matrix products have in them, as operators on the CPU and as kernels on a GPU."""


def profile(work: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Returns launches of one piece of work and the part of its time in matrix products.

    On a GPU a launch is a kernel or a captured graph that the CPU starts, and time is the kernels';
    on the CPU it is an operator that computes, and time is its own, without what it calls.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # its own lines on stderr help nobody
    work()
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with record(activities=activities) as recorded:
        work()
    return _on_gpu(recorded) if device.type == "cuda" else _on_cpu(recorded)


def _on_gpu(recorded: record) -> dict[str, float]:
    events = recorded.events() or []
    kernels = [event for event in events if event.device_type == DeviceType.CUDA]
    starts = [
        event
        for event in events
        if event.name.startswith(("cudaLaunch", "cudaGraphLaunch", "cuLaunch"))
    ]
    return _shares([(event.name, event.device_time) for event in kernels], len(starts))


def _on_cpu(recorded: record) -> dict[str, float]:
    averages = [one for one in recorded.key_averages() if one.self_cpu_time_total > 0]
    launches = sum(one.count for one in averages)
    return _shares([(one.key, one.self_cpu_time_total) for one in averages], launches)


def _shares(times: list[tuple[str, float]], launches: int) -> dict[str, float]:
    whole = sum(time for _, time in times)
    products = sum(time for name, time in times if any(part in name for part in PRODUCTS))
    part = products / whole if whole else float("nan")
    return {"launches": float(launches), "product_share": part}
