"""Fixtures and settings that all tests share."""

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("flowcast", deadline=None)
settings.load_profile("flowcast")
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def flowcast_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own for every test."""
    home = tmp_path / "home"
    monkeypatch.setenv("FLOWCAST_HOME", str(home))
    return home


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow past 256 KiB: a full disk that needs no rights."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**18, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real data, or a skip that says how to name it."""
    named = os.environ.get("FLOWCAST_TEST_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; name its folder in FLOWCAST_TEST_DATA")
    return folder


SMALL = """
title = "Small town"
timezone = "America/New_York"
step = "1h"
grid = [6, 5]
test_days = 7
validation_days = 4
"""
"""A simulated city of five weeks: 840 slots from 3 March 2025, daylight saving on the 9th."""


@pytest.fixture(scope="session")
def _trained_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the city `small`, ingested and trained for two epochs; made once."""
    from data.city import load_city
    from data.simulation_files import write_simulation
    from data.store import Store
    from forecasting.training import TrainingConfig
    from pipelines.ingest import ingest
    from pipelines.train import train

    home = tmp_path_factory.mktemp("trained") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWCAST_HOME", str(home))
        (home / "cities").mkdir(parents=True)
        (home / "cities" / "small.toml").write_text(SMALL)
        city = load_city("small")
        write_simulation(home / "files", city, weeks=5, seed=1)
        store = Store()
        list(ingest(store, city, [home / "files"]))
        list(train(store, city, TrainingConfig(epochs=2), device="cpu"))
        store.close()
    return home


@pytest.fixture
def small_home(_trained_home: Path, flowcast_home: Path) -> Path:
    """A copy of the home with the trained city `small`, for one test."""
    shutil.copytree(_trained_home, flowcast_home)
    return flowcast_home
