import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest
import sqlalchemy as sa

from data.city import City, load_city
from data.errors import FlowcastError, StoreError
from data.files import sha256
from data.formats.taxibj import write_taxibj
from data.simulation.files import write_simulation
from data.simulation.simulate import simulate
from data.store.ingests import Added
from data.store.store import Store
from pipelines.ingest import files as ingesting
from pipelines.ingest.files import ingest

TOY = """
title = "Toy town"
timezone = "America/New_York"
step = "30min"
grid = [6, 5]
"""


@pytest.fixture
def city(flowcast_home: Path) -> City:
    """A city that a user described."""
    folder = flowcast_home / "cities"
    folder.mkdir(parents=True)
    (folder / "toy.toml").write_text(TOY)
    return load_city("toy")


@pytest.fixture
def store(flowcast_home: Path) -> Iterator[Store]:
    store = Store()
    yield store
    store.close()


class Week(NamedTuple):
    """A week of flow and its file."""

    path: Path
    time: np.ndarray
    values: np.ndarray


@pytest.fixture
def weeks(tmp_path: Path, city: City) -> list[Week]:
    """Three weeks of flow, a file each."""
    return [week_of(tmp_path / f"week{number}.h5", city, number) for number in range(3)]


def week_of(path: Path, city: City, number: int, slots: int = 336) -> Week:
    rng = np.random.default_rng(number)
    start = np.datetime64("2016-01-01T05:00", "s")
    time = start + (slots * number + np.arange(slots)) * city.step
    values = rng.poisson(30, (slots, 2, *city.grid)).astype("uint16")
    write_taxibj(path, values, time, city)
    return Week(path, time, values)


# The story


def test_a_simulated_city_is_stored_exactly_as_it_was_drawn(
    store: Store, city: City, tmp_path: Path
) -> None:
    # the third week begins on 17 March 2025; the clocks went forward on the 9th
    write_simulation(tmp_path / "files", city, weeks=3, seed=4)
    simulation = simulate(city, weeks=3, seed=4)
    assert len(simulation.time) == 3 * 7 * 48 - 2

    first = list(ingest(store, city, [tmp_path / "files"]))
    assert Counter(file.series for file in first) == {"observed": 1, "expected": 1}
    assert [file.added for file in first] == 2 * [Added(1006, 0, 0)]
    assert [(file.refused, file.repairs) for file in first] == 2 * [("", {})]
    observed, expected = store.flow.read(city), store.flow.read(city, "expected")
    for flow, drawn in ((observed, simulation.counts), (expected, simulation.expected)):
        assert (flow["time"].values == simulation.time).all()
        assert flow.values.tobytes() == drawn.tobytes()

    again = list(ingest(store, city, [tmp_path / "files"]))
    assert [file.added for file in again] == 2 * [Added(0, 1006, 0)]
    assert store.flow.read(city).identical(observed)
    assert store.flow.read(city, "expected").identical(expected)


def test_the_ledger_knows_each_file_by_its_hash(
    store: Store, city: City, weeks: list[Week]
) -> None:
    list(ingest(store, city, [week.path for week in weeks]))
    ledger = store.ingests.table(city)
    assert ledger["source"].tolist() == [str(week.path) for week in weeks]
    assert ledger["sha256"].tolist() == [sha256(week.path) for week in weeks]
    assert ledger["added"].tolist() == [336, 336, 336]


def test_files_may_come_in_any_order_and_one_by_one(
    store: Store, city: City, weeks: list[Week]
) -> None:
    for week in reversed(weeks):
        assert [file.added.added for file in ingest(store, city, [week.path])] == [336]
    assert (store.flow.read(city).values == np.concatenate([week.values for week in weeks])).all()


def test_a_corrected_file_is_refused_unless_it_is_to_replace(
    store: Store, city: City, weeks: list[Week]
) -> None:
    old = weeks[0]
    list(ingest(store, city, [old.path]))
    corrected = old.values.copy()
    corrected[[5, 100]] += 1
    write_taxibj(old.path, corrected, old.time, city)

    (refused,) = ingest(store, city, [old.path])
    # slot 5 of the day begins at 02:30
    assert "2 slots are stored with other values, the first 2016-01-01 02:30" in refused.refused
    assert refused.added == Added(0, 0, 0)
    assert (store.flow.read(city).values == old.values).all()
    assert store.flow.revisions(city).empty

    (replaced,) = ingest(store, city, [old.path], replace=True)
    assert replaced.added == Added(0, 334, 2)
    assert (store.flow.read(city).values == corrected).all()
    revisions = store.flow.revisions(city)
    assert (revisions["time"] == old.time[[5, 100]]).all()
    assert (np.stack(revisions["frame"].tolist()) == old.values[[5, 100]]).all()
    assert store.ingests.table(city)["outcome"].tolist() == ["stored", "refused", "stored"]


# Weather beside the flow


def test_a_folder_s_weather_is_taken_with_its_flow(
    store: Store, city: City, weeks: list[Week], tmp_path: Path
) -> None:
    (tmp_path / "calendar_weather.csv").write_text("date,rain,day\n1-1-2016,0.5,5\n2-1-2016,T,6\n")
    (tmp_path / "trips.csv").write_text("zone,trips\n1,5\n")  # no weather: not taken
    with h5py.File(tmp_path / "z_meteo.h5", "w") as file:
        file["date"] = np.array([b"2016010101"])
        file["Temperature"], file["WindSpeed"] = np.array([3.5]), np.array([7.0])
        file["Weather"] = np.eye(17)[:1]
    results = list(ingest(store, city, [tmp_path]))
    assert [file.series for file in results] == ["weather", *3 * ["observed"], "weather"]
    assert results[0].variables == ("rain",)
    assert results[0].repairs == {"trace": 1}
    assert [file.added for file in results[::4]] == [Added(2, 0, 0), Added(1, 0, 0)]
    assert store.flow.read(city).sizes["time"] == 3 * 336
    weather = store.weather.read(city)
    # midnight of the 2nd and the 3rd, and 00:30 of the 1st when its first slot is over
    known_at = ["2016-01-01T05:30", "2016-01-02T05:00", "2016-01-03T05:00"]
    assert (weather["time"].values == np.array(known_at, dtype="datetime64[s]")).all()
    expected = np.array([np.nan, 0.5, 0.005], dtype=np.float32)
    np.testing.assert_array_equal(weather.sel(variable="rain"), expected)
    np.testing.assert_array_equal(weather.sel(variable="sunny"), [1, np.nan, np.nan])
    again = ingest(store, city, [results[0].path, results[-1].path])
    assert [file.added for file in again] == [Added(0, 2, 0), Added(0, 1, 0)]


def test_a_file_of_weather_that_is_wrong_is_refused_and_recorded(
    store: Store, city: City, tmp_path: Path
) -> None:
    path = tmp_path / "weather.csv"
    path.write_text("time,rain\n2016-01-01T00:00,wet\n2016-01-01T01:00,1\n")
    (refused,) = ingest(store, city, [path])
    assert "the first 'wet', that are no numbers" in refused.refused
    assert store.ingests.table(city)["message"].tolist() == [refused.refused]
    assert store.weather.read(city).size == 0


# Refusals


def test_a_bad_file_is_refused_and_recorded_and_the_others_are_stored(
    store: Store, city: City, weeks: list[Week]
) -> None:
    weeks[1].path.write_bytes(weeks[1].path.read_bytes()[:5000])
    results = list(ingest(store, city, [week.path for week in weeks]))
    assert [file.added.added for file in results] == [336, 0, 336]
    assert [bool(file.refused) for file in results] == [False, True, False]
    assert results[1].refused.startswith(f"{weeks[1].path} ")
    assert "\n" not in results[1].refused
    ledger = store.ingests.table(city)
    assert ledger["outcome"].tolist() == ["stored", "refused", "stored"]
    assert ledger["message"].tolist() == ["", results[1].refused, ""]
    assert (store.flow.read(city)["time"].values == np.r_[weeks[0].time, weeks[2].time]).all()


def test_what_a_file_needed_is_told_and_recorded(
    store: Store, city: City, weeks: list[Week]
) -> None:
    values = weeks[0].values.astype(float)
    values[3, 0, 0, 0] = -2
    values[7, 1, 2, 2] = np.nan
    order = np.r_[1, 0, 2:336]
    with h5py.File(weeks[0].path, "r+") as file:
        dates = file["date"][:]
        del file["data"], file["date"]
        file["data"], file["date"] = values[order], dates[order]
    (result,) = ingest(store, city, [weeks[0].path])
    repairs = {"negative": 1, "not_finite": 1, "unsorted": 1}
    assert (result.added, result.repairs) == (Added(335, 0, 0), repairs)
    assert store.ingests.table(city)["repairs"].tolist() == [repairs]
    values[3, 0, 0, 0] = 0
    assert (store.flow.read(city).values == np.delete(values, 7, axis=0)).all()


@pytest.mark.parametrize("name", ["dataset.npz", "none.h5"])
def test_paths_that_cannot_serve_are_refused_before_any_file_is_stored(
    store: Store, city: City, weeks: list[Week], tmp_path: Path, name: str
) -> None:
    np.savez(tmp_path / "dataset.npz", X_train=np.zeros((2, 4, 2, 32, 32)))
    with pytest.raises(FlowcastError, match=f"{name} (is of no format|does not exist)"):
        list(ingest(store, city, [weeks[0].path, tmp_path / name]))
    assert store.ingests.table(city).empty


def test_a_file_that_vanishes_meanwhile_is_refused_and_the_others_are_stored(
    store: Store, city: City, weeks: list[Week]
) -> None:
    results = []
    for file in ingest(store, city, [week.path for week in weeks]):
        weeks[1].path.unlink(missing_ok=True)
        results.append(file)
    assert [file.added.added for file in results] == [336, 0, 336]
    assert "week1.h5 does not exist any more; put it back" in results[1].refused


def test_a_reader_that_there_is_not_refuses_no_file(
    store: Store, city: City, weeks: list[Week]
) -> None:
    with pytest.raises(FlowcastError, match="names the reader 'other'; it may be taxibj"):
        list(ingest(store, replace(city, reader="other"), [weeks[0].path]))
    assert store.ingests.table(city).empty


def test_a_full_disk_is_no_refusal_of_the_file_and_the_next_run_completes_it(
    store: Store, city: City, weeks: list[Week], small_files: None
) -> None:
    paths = [week.path for week in weeks]
    with pytest.raises(StoreError, match="nothing was changed"):
        list(ingest(store, city, paths))
    ledger = store.ingests.table(city)
    assert set(ledger["outcome"]) <= {"stored"}
    assert store.flow.read(city).sizes["time"] == 336 * len(ledger) < 3 * 336

    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    list(ingest(store, city, paths))
    assert (store.flow.read(city).values == np.concatenate([week.values for week in weeks])).all()


def test_a_locked_store_is_no_refusal_of_the_file(
    city: City, weeks: list[Week], flowcast_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.store.database.PATIENCE", 0)
    store = Store()
    other = sqlite3.connect(flowcast_home / "flowcast.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="another process has held"):
        list(ingest(store, city, [weeks[0].path]))
    other.close()
    assert store.ingests.table(city).empty
    assert [file.added for file in ingest(store, city, [weeks[0].path])] == [Added(336, 0, 0)]


# Killed at any moment

KILLS = 20
SLOTS = 3000
CHILDREN = """
import os, signal, sys
from pathlib import Path
import sqlalchemy.dialects.sqlite
import data.store.migrations
from data.city import load_city
from data.store.store import Store
from pipelines.ingest.files import ingest

city, folder = load_city("toy"), Path(sys.argv[1])
for url in sys.stdin:
    child = os.fork()
    if not child:
        print(os.getpid(), "ready", flush=True)
        list(ingest(Store(url.strip()), city, [folder]))
        print("done", flush=True)
        signal.pause()
    os.waitpid(child, 0)
    print("killed", flush=True)
"""


class Children:
    """Children that take a folder into a store, forked from a process that has imported all."""

    def __init__(self, folder: Path) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, "-c", CHILDREN, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def end(self) -> None:
        self._parent.communicate(timeout=600)

    def duration(self, url: str) -> float:
        """Seconds from ready to done."""
        child, begin = self._start(url), time.perf_counter()
        assert self._line() == "done"
        duration = time.perf_counter() - begin
        os.kill(child, signal.SIGKILL)
        assert self._line() == "killed"
        return duration

    def kill_after(self, seconds: float, url: str) -> None:
        child = self._start(url)
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        while (line := self._line()) != "killed":
            assert line == "done"

    def _start(self, url: str) -> int:
        self._parent.stdin.write(f"{url}\n")
        child, ready = self._line().split()
        assert ready == "ready"
        return int(child)

    def _line(self) -> str:
        return self._parent.stdout.readline().strip()


def whole_files(url: str, city: City, files: list[Week]) -> int:
    """How many of the files stand in the store, each whole and exact, and nothing else."""
    store = Store(url)
    flow, ledger = store.flow.read(city), store.ingests.table(city)
    store.close()
    present = [file for file in files if np.isin(file.time, flow["time"].values).any()]
    assert flow.sizes["time"] == SLOTS * len(present)
    if present:
        assert (flow["time"].values == np.concatenate([file.time for file in present])).all()
        assert (flow.values == np.concatenate([file.values for file in present])).all()
    assert (ledger["outcome"] == "stored").all()
    brought = ledger[ledger["added"] > 0]
    assert brought["source"].tolist() == [str(file.path) for file in present]
    assert (brought["added"] == SLOTS).all()
    with sa.create_engine(url).connect() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalars().all() == ["ok"]
    return len(present)


@pytest.mark.slow
def test_killed_at_any_moment_each_file_is_stored_whole_or_not_at_all(
    city: City, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    files = [week_of(folder / f"part{n}.h5", city, n, SLOTS) for n in range(3)]
    none, every = 0, len(files)
    children, rng = Children(folder), np.random.default_rng(0)
    duration = children.duration(f"sqlite:///{tmp_path}/measured.db")
    runs, states, url = 0, [], f"sqlite:///{tmp_path}/run0.db"
    while len(states) < KILLS or (len(states) < 2 * KILLS and not {none, every} < set(states)):
        delay = rng.uniform(0, 1.15 * duration)  # the last part finds children that are done
        children.kill_after(delay, url)
        states.append(whole_files(url, city, files))
        if (delay > duration) != (states[-1] == every):  # the machine is slower, or faster, now
            duration *= 1.1 if delay > duration else 0.95
        if states[-1] == every or len(states) % 3 == 0:
            runs += 1
            url = f"sqlite:///{tmp_path}/run{runs}.db"
    children.end()
    assert {none, every} < set(states), states

    completed = list(ingest(Store(url), city, [folder]))
    assert all(file.added.added + file.added.equal == SLOTS for file in completed)
    assert whole_files(url, city, files) == every


def test_a_bug_of_a_reader_refuses_one_file_and_is_told(
    store: Store,
    city: City,
    weeks: list[Week],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad, read = weeks[0].path, ingesting.read_file

    def breaks(path: Path, city: City) -> object:
        if path == bad:
            raise OverflowError("too large")
        return read(path, city)

    monkeypatch.setattr(ingesting, "read_file", breaks)
    results = list(ingest(store, city, [week.path for week in weeks]))
    assert "cannot be read (OverflowError('too large'))" in results[0].refused
    assert [one.refused for one in results[1:]] == [""] * (len(weeks) - 1)
    assert "Traceback" in caplog.text
