"""A user's modules that are named like ours keep working beside flowcast."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.dashboard import command

ROOT = Path(__file__).parents[2]
OURS = """
flow = flowcast.city("small").flow()
forecast = flowcast.load("small").forecast(flow, horizon=2)
assert forecast.sizes["lead_time"] == 2
"""
LIGHT = """
with flowcast.own_packages():
    import data, data.errors
    assert data.errors.FlowcastError.__module__ == "data.errors"
    assert not hasattr(data, "flow")
"""
"""As OURS does, without what takes long to load."""
THEIRS = """
import data
assert data.flow() == "theirs", data
assert data.__file__.startswith(HERE), data.__file__
"""
INSIDE = """
from data.loader import load
import data.loader
assert load() == data.loader.load() == "theirs"
"""


def run(folder: Path, code: str, *, module: str = "notebook") -> None:
    """Runs a script as Python does, its own folder first on the path, ours behind it."""
    script = folder / f"{module}.py"
    script.write_text(f"HERE = {str(folder)!r}\n{code}", encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script)]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a module of each of our names."""
    place = tmp_path / "notebooks"
    place.mkdir()
    for name in ("app", "data", "forecasting", "pipelines"):
        (place / f"{name}.py").write_text('def flow():\n    return "theirs"\n')
    return place


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder with a package of each of our names."""
    place = tmp_path / "notebooks"
    for name in ("app", "data", "forecasting", "pipelines"):
        (place / name).mkdir(parents=True)
        (place / name / "__init__.py").write_text('def flow():\n    return "theirs"\n')
        (place / name / "loader.py").write_text('def load():\n    return "theirs"\n')
    return place


def test_a_module_of_the_users_works_before_and_after(small_home: Path, folder: Path) -> None:
    run(folder, THEIRS + "import flowcast\n" + THEIRS + OURS + THEIRS + OURS + THEIRS)


def test_a_module_that_is_imported_after_ours_is_the_users(folder: Path) -> None:
    theirs = THEIRS + "import app, pipelines\nassert app.flow() == pipelines.flow() == 'theirs'\n"
    run(folder, "import flowcast\n" + LIGHT + theirs + LIGHT)


def test_a_package_of_the_users_works_before_and_after(small_home: Path, packages: Path) -> None:
    run(packages, THEIRS + INSIDE + "import flowcast\n" + OURS + THEIRS + INSIDE + OURS)
    run(packages, "import flowcast\n" + LIGHT + THEIRS + INSIDE + LIGHT + INSIDE)


def test_a_folder_of_modules_without_an_init_is_found_once_flowcast_is_imported(
    packages: Path,
) -> None:
    for path in packages.glob("*/__init__.py"):
        path.unlink()
    run(packages, "import flowcast\n" + LIGHT + INSIDE + LIGHT)


def test_a_folder_of_files_is_none_of_the_users_modules(tmp_path: Path) -> None:
    (tmp_path / "notebooks" / "data").mkdir(parents=True)
    (tmp_path / "notebooks" / "data" / "trips.csv").write_text("time\n")
    code = "import flowcast\n" + LIGHT + "from data.errors import FlowcastError\n" + LIGHT
    run(tmp_path / "notebooks", code)


def test_an_error_gives_the_users_module_back(folder: Path) -> None:
    code = """
import flowcast
try:
    with flowcast.own_packages():
        raise KeyError
except KeyError:
    pass
"""
    run(folder, code + THEIRS)


def test_a_script_called_app_can_use_flowcast(folder: Path) -> None:
    run(folder, "import flowcast\n" + LIGHT + "import app\nassert app.HERE\n", module="app")


def test_a_command_and_the_process_that_reads_its_file_find_ours(
    small_home: Path, folder: Path, tmp_path: Path
) -> None:
    """The console script begins in its own folder: the one that it is called in is not looked at."""
    script = tmp_path / "bin" / "forecast"
    script.parent.mkdir()
    script.write_text("from app.cli.main import main\nmain()\n")
    h5 = next((small_home / "files").rglob("*.h5"))
    done = subprocess.run(
        [sys.executable, str(script), "ingest", "--city", "small", str(h5)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr


def test_the_dashboard_does_not_look_into_the_folder_that_it_is_started_in() -> None:
    assert command(8501, "127.0.0.1")[0] == "-P"
