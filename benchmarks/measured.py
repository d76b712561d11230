"""What scripts that measure write: the machine, and their figures as JSON and for people."""

import json
import os
import platform
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Returns what figures were measured on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
    }


def on(facts: dict[str, Any]) -> str:
    """Returns what `machine` told, for people."""
    return f"{facts['cores']} cores, load {facts['load']:.1f} at the end, Python {facts['python']}"


def keep(folder: Path, name: str, result: dict[str, Any], text: str) -> None:
    """Writes the figures as `NAME.json` and `NAME.md` into a folder, and prints the text."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / f"{name}.md").write_text(text)
    print(text)  # noqa: T201
