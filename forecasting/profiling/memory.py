"""Memory: what a process takes and took at most, in bytes. Needs no torch."""

import re
import resource
from contextlib import suppress
from pathlib import Path

STATUS, MEMORY = Path("/proc/self/status"), Path("/proc/meminfo")


def peak_memory_of_process() -> int:
    """Returns the most bytes of memory that this process has taken so far."""
    # What getrusage tells of a process that another one started has that one's peak in it.
    known = _status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if known is None else known


def begin_peak() -> int:
    """Lets the peak begin anew, where the system can, and returns the bytes that it begins with."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    known = _status("VmRSS")
    return peak_memory_of_process() if known is None else known


def available_memory() -> int | None:
    """Returns the bytes that further processes may take, None where the system does not tell."""
    if not MEMORY.exists():
        return None
    found = re.search(r"MemAvailable:\s+(\d+) kB", MEMORY.read_text())
    return int(found[1]) * 1024 if found else None


def _status(key: str) -> int | None:
    if not STATUS.exists():
        return None
    found = re.search(rf"{key}:\s+(\d+) kB", STATUS.read_text())
    return int(found[1]) * 1024 if found else None
