"""Where runtime files live: the user's folder for flowcast, never the repository."""

import os
from pathlib import Path

import platformdirs


def home() -> Path:
    """Returns `FLOWCAST_HOME`, or the platform's folder for user data."""
    named = os.environ.get("FLOWCAST_HOME")
    return Path(named).expanduser() if named else platformdirs.user_data_path("flowcast")
