"""A dashboard that runs in a process of its own, on loopback."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.cli.dashboard import REFRESH, REPLAYED, command


@contextmanager
def served(home: Path, refresh: float) -> Iterator[tuple[str, int]]:
    """Serves a home and gives the URL and the number of the process."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    environment = os.environ | {"FLOWCAST_HOME": str(home), REPLAYED: "1", REFRESH: f"{refresh:g}"}
    environment.pop("FLOWCAST_STORE", None)
    process = subprocess.Popen(
        [sys.executable, *command(port, "127.0.0.1")],
        env=environment,
        cwd=Path(__file__).parents[1],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(3000):
            try:
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=1).read()
                break
            except OSError:
                time.sleep(0.2)
        yield url, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(600)
