"""Memory and cores of this process; needs no torch."""

import os
import re
import resource
from contextlib import suppress
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_memory_of_process() -> int:
    """Returns the most bytes of memory that this process has taken so far."""
    # getrusage of a child process includes the peak of its parent.
    known = _status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if known is None else known


def begin_peak() -> int:
    """Resets the peak, where the system can, and returns the bytes taken now."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    known = _status("VmRSS")
    return peak_memory_of_process() if known is None else known


def available_cores() -> int:
    """Returns the cores that this process may use."""
    usable = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(usable(0)) if usable else os.cpu_count() or 1


def _status(key: str) -> int | None:
    if not STATUS.exists():
        return None
    found = re.search(rf"{key}:\s+(\d+) kB", STATUS.read_text())
    return int(found[1]) * 1024 if found else None
