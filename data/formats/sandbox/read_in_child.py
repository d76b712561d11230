"""Reads HDF5 files in a child process with limits: nothing else opens an HDF5 file of others.

A file of 21 KB can declare 15 GiB, name another file as its data, or crash the library. The child
(`child_process.py`) streams what it read to a temporary file of the parent; whatever happens to it is one
sentence here.
"""

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from data.errors import FlowcastError, NotNowError
from data.formats.reading import OtherFormat
from data.formats.sandbox.exit_codes import GIB, OTHER_FORMAT, REFUSED


@dataclass(frozen=True)
class Limits:
    """What reading a file may cost.

    Attributes:
        declared: bytes that its values may have as float32.
        memory: bytes of address space of the child.
        seconds: time of the child.
    """

    declared: int = 2 * GIB
    memory: int = 3 * GIB
    seconds: float = 300


LIMITS = Limits()
CHILD = "data.formats.sandbox.child_process"
DISK_FULL = f"[Errno {errno.ENOSPC}]"
MIN_FREE_BYTES = 2**16
OUTSIDE_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM)
"""Signals of a service that is stopped, or of a machine without memory; no file causes them."""


class Contents(NamedTuple):
    """What a file holds.

    Attributes:
        values: float32, as they are, also negative or not finite: dims `(slots, channel, y, x)` of a
            flow, `(slots, variable)` of weather.
        dates: bytes of fixed length, one a slot.
        content: the root's attribute of that name, else empty.
    """

    values: np.ndarray
    dates: np.ndarray
    content: str


def read_flow_in_child(path: Path, grid: tuple[int, int], limits: Limits = LIMITS) -> Contents:
    """Returns `data` and `date` of a file in the TaxiBJ layout with this grid, read by a child process.

    Raises:
        OtherFormat: it is a file of weather.
        NotNowError: the child was ended from outside, or the disk is full.
        FlowcastError: the file is refused, damaged, or costs more than the limits.
    """
    return _read(path, "flow", grid, limits)


def read_weather_in_child(path: Path, limits: Limits = LIMITS) -> Contents:
    """Returns the weather of a file like `BJ_Meteorology.h5`, read by a child process.

    Raises:
        NotNowError: the child was ended from outside, or the disk is full.
        FlowcastError: the file is refused, damaged, or costs more than the limits.
    """
    return _read(path, "weather", (), limits)


def read_array_in_child(path: Path, limits: Limits = LIMITS) -> np.ndarray:
    """Returns the array of frames in an HDF5 file, float32, read by a child process.

    Args:
        path: of a file with the dataset `data`, or with no other than one, of 4 or 5 dims.
        limits: what it may cost.

    Raises:
        NotNowError: the child was ended from outside, or the disk is full.
        FlowcastError: the file is refused, damaged, or costs more than the limits.
    """
    return _read(path, "array", (), limits).values


def _read(path: Path, content: str, grid: tuple[int, ...], limits: Limits) -> Contents:
    """Returns what the child streams of a file."""
    if not path.is_file():
        raise FlowcastError(f"{path} is no file; name an HDF5 file")
    bounds = (limits.memory, math.ceil(limits.seconds), limits.declared, *grid)
    command = [sys.executable, "-P", "-W", "ignore", "-m", CHILD, content]
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            code = subprocess.run(
                [*command, os.fspath(path.absolute()), *map(str, bounds)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env=_environment(),
                timeout=limits.seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            raise FlowcastError(_too_much(path, limits, "out of time")) from None
        output.seek(0)
        errors.seek(0)
        if code == 0:
            return _contents(output)
        message = errors.read(4096).decode("utf-8", "replace").strip()
        # On a full disk there may be no room for the sentence either.
        full = (
            DISK_FULL in message or shutil.disk_usage(tempfile.gettempdir()).free < MIN_FREE_BYTES
        )
    if code == OTHER_FORMAT:
        raise OtherFormat(f"{path} holds weather, not flow; name a file of flow")
    if full:
        raise NotNowError(
            f"no space is left in {tempfile.gettempdir()} to read {path}; make room and try again"
        )
    if -code in OUTSIDE_SIGNALS:
        raise NotNowError(
            f"the process that read {path} was ended from outside ({signal.Signals(-code).name}); "
            f"try again"
        )
    if code == REFUSED:
        raise FlowcastError(f"{path} {message}")
    end = signal.Signals(-code).name if code < 0 else (message.splitlines() or [f"code {code}"])[-1]
    raise FlowcastError(_too_much(path, limits, end))


def _environment() -> dict[str, str]:
    """Returns an environment in which HDF5 loads no plugin and NumPy starts no threads."""
    ours = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, ours)),
        "HDF5_PLUGIN_PATH": os.devnull,
        "HDF5_PLUGIN_PRELOAD": "::",
        "HDF5_USE_FILE_LOCKING": "FALSE",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def _too_much(path: Path, limits: Limits, end: str) -> str:
    return (
        f"{path} could not be read within {limits.memory / GIB:.3g} GiB and {limits.seconds:g} s "
        f"({end}); it is damaged or meant to harm: get it anew from its source"
    )


def _contents(output: IO[bytes]) -> Contents:
    content = json.loads(output.readline())["content"]
    values = np.load(output, allow_pickle=False)
    return Contents(values, np.load(output, allow_pickle=False), content)
