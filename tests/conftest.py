"""Fixtures and settings that all tests share."""

import gc
import hashlib
import json
import os
import resource
import shutil
import struct
import uuid
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import settings

from tests.postgresql import programs, server

if TYPE_CHECKING:
    from data.store.store import Store

settings.register_profile("flowcast", deadline=None)
settings.load_profile("flowcast")
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collects without searches for garbage, which took half of the time; what is loaded then stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def flowcast_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own for every test."""
    home = tmp_path / "home"
    monkeypatch.setenv("FLOWCAST_HOME", str(home))
    monkeypatch.delenv("FLOWCAST_STORE", raising=False)
    return home


ON_A_FILE = {"path", "small_files", "few_pages", "on_sqlite"}
"""Fixtures of tests that look at the file of SQLite itself, or would learn nothing by another."""


@pytest.fixture
def on_sqlite() -> None:
    """Lets a test run on SQLite alone."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Lets what stands on a store run on both databases."""
    if "database" in metafunc.fixturenames:
        on_a_file = ON_A_FILE & {*metafunc.fixturenames}
        kinds = ["sqlite"] if on_a_file else ["sqlite", "postgresql"]
        metafunc.parametrize("database", kinds, indirect=True)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL of this session's own."""
    if programs() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with server() as url:
        yield url


@pytest.fixture
def database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of database that stores are made in: a file of the home, or a new one of PostgreSQL."""
    kind: str = request.param
    if kind == "postgresql":
        url = request.getfixturevalue("postgresql")
        name = f"test_{uuid.uuid4().hex}"
        engine = sa.create_engine(f"{url}/postgres", isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        engine.dispose()
        monkeypatch.setenv("FLOWCAST_STORE", f"{url}/{name}")
    return kind


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


@pytest.fixture
def encode() -> Callable[..., Path]:
    """A function that writes frames as a video, without loss by default."""
    av = pytest.importorskip("av")

    def write(
        path: Path, frames: np.ndarray, pixels: str = "gray", codec: str = "ffv1", **options: str
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(path, "w") as container:
            stream = container.add_stream(codec, rate=Fraction(25), options=options)
            first = av.VideoFrame.from_ndarray(frames[0], format=pixels)
            stream.width, stream.height, stream.pix_fmt = first.width, first.height, pixels
            for frame in frames:
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=pixels)
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        return path

    return write


@pytest.fixture
def write_digits() -> Callable[..., Path]:
    """A function that writes MNIST's two files with square digits, each of a light of its own.

    40 to train on have the lights 1 .. 40, 12 to test on 101 .. 112; `lighter` adds to all.
    """

    def write(folder: Path, lighter: int = 0) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, first, count in (("train", 1, 40), ("t10k", 101, 12)):
            digits = np.zeros((count, 28, 28), dtype=np.uint8)
            digits[:, 6:22, 6:22] = first + lighter + np.arange(count)[:, None, None]
            header = struct.pack(">4I", 2051, count, 28, 28)
            (folder / f"{name}-images-idx3-ubyte").write_bytes(header + digits.tobytes())
        return folder

    return write


@pytest.fixture
def write_kth(encode: Callable[..., Path]) -> Callable[..., Path]:
    """A function that writes two KTH clips of noise, of persons 1 and 17, 70 and 40 frames."""

    def write(folder: Path, seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        lines = []
        for name, count in (("person01_boxing_d1", 70), ("person17_jogging_d2", 40)):
            frames = rng.integers(0, 256, (count, 16, 16), dtype=np.uint8)
            encode(folder / f"{name}_uncomp.avi", frames)
            lines.append(f"{name} frames 1-{count}\n")
        (folder / "sequences.txt").write_text("".join(lines))
        return folder

    return write


SMALL = """
title = "Small town"
timezone = "America/New_York"
step = "1h"
grid = [6, 5]
test_days = 7
validation_days = 4
"""
"""A simulated city of five weeks: 840 slots from 3 March 2025, daylight saving on the 9th."""


MakeOnce = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """A function that lets one of the processes that share the tests make a home for all of them.

    Nothing may change it then: tests work on copies.
    """
    own = tmp_path_factory.getbasetemp()
    root = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def make(name: str, fill: Callable[[Path], None]) -> Path:
        folder = root / f"{name}-home"
        with filelock.FileLock(root / f"{name}.lock"):
            if not folder.exists():
                half = root / f"{name}-half"
                shutil.rmtree(half, ignore_errors=True)  # of a process that failed
                with pytest.MonkeyPatch.context() as patch:
                    patch.setenv("FLOWCAST_HOME", str(half))
                    patch.delenv("FLOWCAST_STORE", raising=False)
                    fill(half)
                half.rename(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def _trained_home(make_once: MakeOnce) -> Path:
    """A home with the city `small`, ingested and trained for two epochs."""
    return make_once("trained", _train_small)


def _train_small(home: Path) -> None:
    from data.city import load_city
    from data.simulation.files import write_simulation
    from data.store.store import Store
    from forecasting.city.recipe import Recipe
    from forecasting.training.hardware import Computing
    from pipelines.ingest.files import ingest
    from pipelines.train.city import RunOptions, train

    (home / "cities").mkdir(parents=True)
    (home / "cities" / "small.toml").write_text(SMALL)
    city = load_city("small")
    write_simulation(home / "files", city, weeks=5, seed=1)
    store = Store()
    list(ingest(store, city, [home / "files"]))
    recipe = Recipe.from_options(ensemble_size=1, refit=False, trees=False, epochs=2)
    list(train(store, city, recipe, options=RunOptions(Computing("cpu"))))
    store.close()


@pytest.fixture
def small_home(_trained_home: Path, flowcast_home: Path) -> Path:
    """A copy of the home with the trained city `small`, for one test."""
    shutil.copytree(_trained_home, flowcast_home)
    return flowcast_home


@pytest.fixture(scope="session")
def _lived_in_home(_trained_home: Path, make_once: MakeOnce) -> Path:
    """A home whose city `small-live` was played for a day, a step after each slot."""

    def live(home: Path) -> None:
        import time

        from data.city import load_city
        from data.store.store import Store
        from pipelines.ingest.replay import from_archive, play, store_past, target_city
        from pipelines.operate.update import update

        shutil.copytree(_trained_home, home)
        store, source = Store(), load_city("small")
        city = target_city(source, "small-live")
        _, flow = store_past(store, source, city, from_archive(store, source, None))
        for now in play(flow[:26], city):
            update(store, city, now, horizon=3, wall=time.time() + 60)
        store.close()

    return make_once("lived-in", live)


@pytest.fixture
def lived_in(_lived_in_home: Path, flowcast_home: Path) -> Path:
    """A copy of the home with the city `small-live`, for one test."""
    shutil.copytree(_lived_in_home, flowcast_home)
    return flowcast_home


@pytest.fixture
def small_store(database: str, small_home: Path) -> "Iterator[Store]":
    """The store with the trained city `small`, on either database."""
    yield from _opened(database, small_home)


@pytest.fixture
def lived_in_store(database: str, lived_in: Path) -> "Iterator[Store]":
    """The store with the city `small-live`, on either database."""
    yield from _opened(database, lived_in)


def _opened(database: str, home: Path) -> "Iterator[Store]":
    """Opens the store of a home, on PostgreSQL one that holds the same."""
    from data.store.store import Store

    store = Store()
    if database == "postgresql":
        _copy(home / "flowcast.db", os.environ["FLOWCAST_STORE"])
        (home / "flowcast.db").unlink()
    yield store
    store.close()


def _copy(path: Path, url: str) -> None:
    """Copies all that a database of SQLite holds into one of PostgreSQL."""
    from data.store.schema import METADATA

    source, target = sa.create_engine(f"sqlite:///{path}"), sa.create_engine(url)
    with source.connect() as old, target.begin() as new:
        for table in METADATA.sorted_tables:
            if rows := [dict(row) for row in old.execute(sa.select(table)).mappings()]:
                new.execute(sa.insert(table), rows)
            if "id" in table.c:  # whose numbers go on behind those that are there
                name = f"pg_get_serial_sequence('{table.name}', 'id')"
                new.execute(
                    sa.text(
                        f"SELECT setval({name}, coalesce(max(id), 0) + 1, false) FROM {table.name}"
                    )
                )
    for engine in (source, target):
        engine.dispose()


@pytest.fixture(scope="session")
def _calibrated_home(_trained_home: Path, make_once: MakeOnce) -> Path:
    """A home with the trained city `small`, whose champion is calibrated on its validation days."""

    def calibrate(home: Path) -> None:
        shutil.copytree(_trained_home, home)
        _calibrate_small()

    return make_once("calibrated", calibrate)


@pytest.fixture
def calibrated_home(_calibrated_home: Path, flowcast_home: Path) -> Path:
    """A copy of the home whose champion is calibrated, for one test."""
    shutil.copytree(_calibrated_home, flowcast_home)
    return flowcast_home


def _calibrate_small() -> None:
    from safetensors.numpy import load, save

    from data import windows
    from data.city import load_city
    from data.flow import split
    from data.paths import models_root
    from data.store.schema import JUDGEMENT
    from data.store.store import Store
    from forecasting.intervals.conformal import calibrated
    from forecasting.registry.versions import load_version

    city, store = load_city("small"), Store()
    version = str(store.promotions.champion(city))
    forecaster = load_version(models_root(), city, version)
    parts = split(store.flow.read(city), city)
    known = store.flow.read(city, last=parts.validation["time"].values[-1])
    init_times = windows.whole(known, forecaster.lags(4), 4)
    init_times = init_times[init_times >= parts.train["time"].values[-1]]
    bands = calibrated(forecaster, known, init_times, 4).to_tensors()
    weights = models_root() / "small" / version / "weights.safetensors"
    manifest = weights.with_name("manifest.json")
    tensors = {
        name: value
        for name, value in load(weights.read_bytes()).items()
        if not name.startswith("bands.")
    }
    weights.write_bytes(save(tensors | {f"bands.{name}": one for name, one in bands.items()}))
    fields = json.loads(manifest.read_text())
    fields["weights_sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(fields))
    with store._database.write() as connection:  # as if it had been judged so
        digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
        connection.execute(sa.update(JUDGEMENT).values(manifest_sha256=digest))
    store.close()
