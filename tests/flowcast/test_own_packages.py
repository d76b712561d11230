"""A user's modules that are named like ours keep working beside flowcast."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = """
flow = flowcast.city("small").flow()
forecast = flowcast.load("small").forecast(flow, horizon=2)
assert forecast.sizes["lead_time"] == 2
"""
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


def test_a_module_that_is_imported_after_ours_is_the_users(small_home: Path, folder: Path) -> None:
    run(
        folder,
        "import flowcast\n" + OURS + THEIRS + "import app, pipelines\nassert app.flow()\n" + OURS,
    )


def test_a_package_of_the_users_works_before_and_after(small_home: Path, packages: Path) -> None:
    code = THEIRS + INSIDE + "import flowcast\n" + OURS + THEIRS + INSIDE + OURS
    run(packages, code)
    run(packages, "import flowcast\n" + OURS + THEIRS + INSIDE + OURS + INSIDE)


def test_a_folder_of_modules_without_an_init_is_found_once_flowcast_is_imported(
    small_home: Path, packages: Path
) -> None:
    for path in packages.glob("*/__init__.py"):
        path.unlink()
    run(packages, "import flowcast\n" + OURS + INSIDE + OURS)


def test_a_folder_of_files_is_none_of_the_users_modules(small_home: Path, tmp_path: Path) -> None:
    (tmp_path / "notebooks" / "data").mkdir(parents=True)
    (tmp_path / "notebooks" / "data" / "trips.csv").write_text("time\n")
    code = (
        "import flowcast\n" + OURS + "from data.city import load_city\nload_city('small')\n" + OURS
    )
    run(tmp_path / "notebooks", code)


def test_an_error_gives_the_users_module_back(folder: Path) -> None:
    code = """
import flowcast
try:
    flowcast.load("paris")
except flowcast.FlowcastError as error:
    assert "no city" in str(error)
"""
    run(folder, code + THEIRS)


def test_a_script_called_app_can_use_flowcast(small_home: Path, folder: Path) -> None:
    run(folder, "import flowcast\n" + OURS + "import app\n", module="app")


def test_the_command_and_the_processes_that_it_starts_find_ours(
    small_home: Path, folder: Path, tmp_path: Path
) -> None:
    """The console script begins in its own folder: the one that it is called in is not looked at."""
    script = tmp_path / "bin" / "forecast"
    script.parent.mkdir()
    script.write_text("from app.cli.main import main\nmain()\n")
    h5 = next((small_home / "files").rglob("*.h5"))
    for arguments in (
        ["--city", "small", "--horizon", "2"],
        ["ingest", "--city", "small", str(h5)],
        ["dashboard", "--help"],
    ):
        subprocess.run(
            [sys.executable, str(script), *arguments],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            cwd=folder,
            check=True,
            capture_output=True,
        )
