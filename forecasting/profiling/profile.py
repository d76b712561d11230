"""Profile: where the time of one piece of work goes, and how often it launches something."""

import os
from collections.abc import Callable

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity
from torch.profiler import profile as record

PRODUCTS = ("mm", "conv", "attention", "linear", "gemm", "cutlass", "xmma", "nvjet", "fmha", "dot")
"""What the names of matrix products have in them, as operators on the CPU and as kernels on a GPU."""


def profile(work: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Returns launches of one piece of work and the share of its time in matrix products.

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
    share = products / whole if whole else float("nan")
    return {"launches": float(launches), "product_share": share}
