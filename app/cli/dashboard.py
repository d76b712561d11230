"""`forecast dashboard`: starts the Streamlit server, by default for this host only."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.terminal import ERR
from data.city import load_city
from data.paths import secrets_file

REPLAYED = "FLOWCAST_REPLAYED"
"""Environment variable: the present time is the end of a city's newest slot, for replayed archives."""
REFRESH = "FLOWCAST_REFRESH"
"""Environment variable: seconds from one refresh of the pages to the next."""


def dashboard(
    city: Annotated[
        str,
        typer.Option(
            "--city", metavar="CITY", show_default="the first with flow", help="Open this city."
        ),
    ] = "",
    port: Annotated[
        int, typer.Option(min=1, max=65535, metavar="PORT", help="Listen on this port.")
    ] = 8501,
    address: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Listen on this address; 0.0.0.0: on all networks."),
    ] = "127.0.0.1",
    refresh: Annotated[
        float,
        typer.Option(min=1, max=3600, metavar="SECONDS", help="Refresh the pages this often."),
    ] = 60.0,
    replayed: Annotated[
        bool,
        typer.Option(
            "--replayed",
            help="Take the end of the newest slot as the present time, for a replayed archive.",
        ),
    ] = False,
) -> None:
    """Serve the dashboard: forecasts, hot spots, accuracy, runs and data, in a browser."""
    os.environ[REFRESH] = f"{refresh:g}"
    if replayed:
        os.environ[REPLAYED] = "1"
    query = f"/?city={load_city(city).name}" if city else ""
    ERR.print(f"the dashboard: http://{address}:{port}{query} (Ctrl-C ends it)", markup=False)
    # The server replaces this process, so that it receives the signals itself.
    os.execv(sys.executable, [sys.executable, *command(port, address)])


def command(port: int, address: str) -> list[str]:
    """Returns the arguments for Python that start the server; pages load nothing from other hosts."""
    options = {
        "server.port": port,
        "server.address": address,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "server.enableStaticServing": "false",
        "server.maxUploadSize": 1,
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "client.showErrorLinks": "false",
        "runner.magicEnabled": "false",
        # Garbage collection after each run takes three times as long as the run.
        "runner.postScriptGC": "false",
        "theme.base": "light",
        "theme.primaryColor": "#0b5a8f",
        "secrets.files": str(secrets_file()),
    }
    named = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    script = Path(__file__).parents[1] / "streamlit_app.py"
    # -P: a data.py or app.py where the command is called is not ours.
    return ["-P", "-m", "streamlit", "run", str(script), *named]
