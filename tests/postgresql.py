"""A PostgreSQL of the tests' own: Debian's programs, a temporary folder, the loopback."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

USER = "postgres"


def programs() -> Path | None:
    """Returns the folder with `initdb` and `pg_ctl`, None where PostgreSQL is not installed."""
    if found := shutil.which("initdb"):
        return Path(found).parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return folders[-1].parent if folders else None


@contextmanager
def server() -> Iterator[str]:
    """Gives the URL of a server that runs as long as this lasts, without the name of a database."""
    data = Path(tempfile.mkdtemp(prefix="flowcast-pg-"))  # the server's user must reach it
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if os.geteuid() == 0:
        shutil.chown(data, USER)
    options = f"-p {port} -k '' -c listen_addresses=127.0.0.1 -c fsync=off"
    try:
        _as_user("initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync")
        _as_user("pg_ctl", "-D", data, "-o", options, "-l", data / "log", "-w", "start")
        yield f"postgresql+psycopg://{USER}@127.0.0.1:{port}"
    finally:
        _as_user("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(data, ignore_errors=True)


def _as_user(program: str, *arguments: object) -> None:
    """Runs one of the programs, which refuse to be run by root."""
    folder = programs()
    assert folder is not None
    command = [str(folder / program), *map(str, arguments)]
    user = USER if os.geteuid() == 0 else None
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", user=user, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
