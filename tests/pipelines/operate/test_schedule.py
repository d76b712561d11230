import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.city import City, load_city
from data.store.runs import MAX_FAILURES
from data.store.store import Store
from pipelines.ingest.inbox import QUIET_SECONDS, open_inbox
from pipelines.ingest.replay import from_archive, play, store_past, target_city
from pipelines.operate import schedule
from pipelines.operate.job import main, present
from pipelines.operate.schedule import Plan, Scheduler, served_cities

HOUR = np.timedelta64(3600, "s")
GENEROUS = 600.0
"""Seconds after which a wait for an event is a failure, on a busy machine too."""


@pytest.fixture
def store(small_store: Store) -> Store:
    return small_store


@pytest.fixture
def city(store: Store) -> City:
    return load_city("small")


class Recorder(Scheduler):
    """A scheduler whose jobs are claimed and done at once, at the moment that a test says."""

    now: np.datetime64

    def _start(self, job: str, city: City, slot: np.datetime64) -> None:
        claim = self.store.runs.claim(job, city.name, slot, self.now, 600)
        if claim is not None:
            self.store.runs.finish(claim, self.now, "done")

    def at(self, now: np.datetime64) -> None:
        self.now = now
        self.retry_at.clear()  # as a scheduler that has just begun
        self.tick(now)


@pytest.fixture
def recorder(store: Store, city: City) -> Recorder:
    return Recorder(store, Plan((city,)))


def done(store: Store, job: str) -> list[np.datetime64]:
    table = store.runs.table("small", job, last=10_000)
    assert not table["scheduled_for"].duplicated().any()
    return [*table[table["outcome"] == "done"]["scheduled_for"]]


def done_of(store: Store, city: str, job: str) -> int:
    return int((store.runs.table(city, job, last=100)["outcome"] == "done").sum())


START = np.datetime64("2026-05-01T00:00", "s")


def test_over_days_each_slot_runs_once(store: Store, recorder: Recorder) -> None:
    for minute in range(0, 26 * 60, 20):
        recorder.at(START + 60 * minute)
    assert done(store, "step") == [START + n * HOUR for n in range(26)]
    # 2 o'clock in New York is 6 o'clock UTC; the night before was due at the start.
    assert done(store, "nightly") == [START - 18 * HOUR, START + 6 * HOUR]


def test_after_an_outage_of_a_day_the_newest_slot_runs_and_the_others_are_skipped(
    store: Store, recorder: Recorder
) -> None:
    recorder.at(START)
    recorder.at(START + 24 * HOUR + 60)
    assert done(store, "step") == [START, START + 24 * HOUR]
    table = store.runs.table("small", "step")
    assert [*table["outcome"]] == ["done", *["skipped"] * 23, "done"]
    assert {*table[table["outcome"] == "skipped"]["message"]} == {
        "no scheduler ran when it was due"
    }


def test_a_clock_that_steps_a_day_forth_and_back_runs_each_slot_at_most_once(
    store: Store, recorder: Recorder
) -> None:
    hours = [0, 1, 25, 26, 2, 3, *range(4, 30)]
    for hour in hours:
        recorder.at(START + hour * HOUR)
    assert done(store, "step") == [START + n * HOUR for n in range(30)]


def test_a_clock_that_steps_a_day_back_and_forth_runs_each_slot_at_most_once(
    store: Store, recorder: Recorder
) -> None:
    for hour in [30, 31, 6, 7, 8, 32, 33]:
        recorder.at(START + hour * HOUR)
    ran = done(store, "step")
    assert ran == [START + n * HOUR for n in (6, 7, 8, 30, 31, 32, 33)]


class Starts(Scheduler):
    """A scheduler that only notes the jobs that it starts."""

    def __init__(self, store: Store, *cities: City) -> None:
        super().__init__(store, Plan(cities))
        self.begun: list[tuple[str, str]] = []

    def _start(self, job: str, city: City, slot: np.datetime64) -> None:
        self.begun.append((job, city.name))

    def arrivals(self) -> int:
        return [job for job, _ in self.begun].count("arrival")


def whole_file(city: City, name: str) -> Path:
    path = open_inbox(city) / name
    path.touch()
    os.utime(path, (0, 0))
    return path


def test_a_file_that_stays_in_the_inbox_starts_no_job_each_second(
    store: Store, city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Starts(store, city)
    stuck = whole_file(city, "a.h5")
    for _ in range(5):
        scheduler.tick(START)
    assert scheduler.arrivals() == 1
    other = whole_file(city, "b.h5")
    for _ in range(5):
        scheduler.tick(START)
    assert scheduler.arrivals() == 2
    other.unlink()
    stuck.write_text("written anew")
    os.utime(stuck, (0, 0))
    for _ in range(5):
        scheduler.tick(START)
    assert scheduler.arrivals() == 3
    stuck.unlink()
    scheduler.tick(START)
    monkeypatch.setattr(schedule, "FIRST_PAUSE", 0.0)  # as if the time had passed
    whole_file(city, "c.h5")
    for _ in range(3):
        scheduler.tick(START)
    assert scheduler.arrivals() == 6


def test_an_inbox_that_cannot_be_read_keeps_no_other_city_from_its_jobs(
    store: Store, city: City, caplog: pytest.LogCaptureFixture, flowcast_home: Path
) -> None:
    broken = target_city(city, "broken")
    (flowcast_home / "inbox").mkdir(exist_ok=True)
    (flowcast_home / "inbox" / "broken").write_text("no folder")
    scheduler = Starts(store, broken, city)
    whole_file(city, "a.h5")
    for _ in range(5):
        scheduler.tick(START)
    assert ("step", "small") in scheduler.begun and scheduler.arrivals() == 1
    assert caplog.text.count("cannot be made") == 1
    assert store.heartbeats.newest("scheduler") is not None


def test_cities_without_flow_are_not_served(store: Store, city: City) -> None:
    assert served_cities(store, []) == (city,)
    assert [one.name for one in served_cities(store, ["demo", "demo"])] == ["demo"]


def test_a_city_that_is_added_and_fed_is_served_from_then_on(store: Store, city: City) -> None:
    other = target_city(city, "added")
    scheduler = Starts(store, city)
    scheduler.plan = replace(scheduler.plan, find_cities=lambda: served_cities(store, []))
    scheduler.tick(START)
    assert {name for _, name in scheduler.begun} == {"small"}
    whole_file(other, "a.h5")
    scheduler.last_heartbeat = float("-inf")
    scheduler.tick(START)
    scheduler.tick(START)
    assert ("arrival", "added") in scheduler.begun


# Jobs as processes


def test_a_step_is_done_once_however_often_it_is_started(
    store: Store, city: City, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["step", "--city", "small", "--for", "2026-05-01T10:00:00Z", "--horizon", "2"]
    assert main(arguments) == 0
    assert main(arguments) == 0
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["message"].split(",")[0] for line in lines] == [
        "forecast of 2025-04-07T03:00:00Z",
        "nothing to do: this slot is done",
    ]
    assert {"time", "level", "city", "job", "run", "seconds", "slot"} <= lines[0].keys()
    row = store.runs.table("small").iloc[-1]
    assert (row["outcome"], row["attempt"], row["detail"]["files"]) == ("done", 1, 0)


def _comes_after_its_step(store: Store, city: City, live: City) -> tuple[np.datetime64, list[str]]:
    """A slot in the inbox, and the arguments of a step that is done already."""
    flow = from_archive(store, city, None)
    arguments = ["step", "--city", live.name, "--for", "2026-05-01T10:00:00Z"]
    assert main(arguments) == 0
    for _ in play(flow[:1], live):
        pass
    time.sleep(QUIET_SECONDS + 0.1)
    return flow["time"].values[0], arguments


def test_a_step_that_is_done_takes_in_what_comes_later(
    store: Store, city: City, live: City, capfd: pytest.CaptureFixture[str]
) -> None:
    slot, arguments = _comes_after_its_step(store, city, live)
    assert main(arguments) == 0
    assert _newest(store, live) == slot
    assert main(arguments) == 0
    assert "nothing to do" in capfd.readouterr().err.splitlines()[-1]
    assert done_of(store, live.name, "arrival") == 1


def test_what_came_is_forecast_though_the_step_for_it_failed(
    store: Store, city: City, live: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot, arguments = _comes_after_its_step(store, city, live)

    def full(*_: object, **__: object) -> None:
        raise OSError("no space is left")

    starts = Starts(store, live)
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.operate.update.forecast", full)
        assert main(arguments) == 1
    assert not list(open_inbox(live).glob("*.h5"))  # it was taken in and put away
    starts.tick(present())
    starts.tick(present())
    assert starts.arrivals() == 1
    assert main(arguments) == 0
    assert _newest(store, live) == slot
    starts.tick(present())
    assert starts.arrivals() == 1 and not starts.files


def test_files_that_come_in_one_second_are_taken_in_by_arrivals_of_their_own(
    store: Store, city: City
) -> None:
    for _ in range(3):  # also where clocks were set back to it
        assert main(["arrival", "--city", "small", "--for", "2026-05-01T10:00:00Z"]) == 0
    assert done(store, "arrival") == [START + 10 * HOUR + n for n in range(3)]


def test_a_job_that_fails_says_why_in_the_ledger_and_may_be_tried_again(
    store: Store, flowcast_home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (flowcast_home / "cities" / "empty.toml").write_text(
        (flowcast_home / "cities" / "small.toml").read_text()
    )
    arguments = ["nightly", "--city", "empty", "--for", "2026-05-01T10:00:00Z"]
    assert [main(arguments) for _ in range(MAX_FAILURES + 1)] == [1] * MAX_FAILURES + [0]
    row = store.runs.table("empty").iloc[-1]
    assert (row["outcome"], row["attempt"]) == ("failed", MAX_FAILURES)
    assert "forecast ingest --city empty" in row["message"]
    assert "forecast ingest" in capfd.readouterr().err


def test_a_job_that_is_done_ends_in_order_while_its_parent_lives(store: Store) -> None:
    command = [sys.executable, "-m", "pipelines.operate.job", "step", "--city", "small", "--child"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    lines = process.stderr.read().splitlines()
    assert process.wait(timeout=600) == 0
    assert len(lines) == 1 and json.loads(lines[0])["level"] == "info"
    assert process.stdin
    process.stdin.close()


@pytest.mark.slow
def test_a_job_ends_with_what_started_it(store: Store) -> None:
    command = [
        sys.executable,
        "-m",
        "pipelines.operate.job",
        "nightly",
        "--city",
        "small",
        "--child",
    ]
    process = subprocess.Popen(
        [*command, "--minutes", "60"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _until(lambda: store.runs.outcome("nightly", "small", _night(store)) == "running")
    assert process.stdin
    process.stdin.close()
    process.wait(timeout=600)
    assert store.runs.claim("nightly", "small", _night(store), present(), 600) is not None


def _night(store: Store) -> np.datetime64:
    newest = store.runs.newest("nightly", "small")
    return np.datetime64(0, "s") if newest is None else newest


def _until(happens: Callable[[], bool], seconds: float = 600.0) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


# Schedulers as processes


class Running:
    """A scheduler in a process of its own, with the lines of its log."""

    def __init__(self, *cities: str) -> None:
        code = (
            "import sys; from app.cli.operate import schedule; "
            "schedule(sys.argv[1:], 2, '02:00', 0.1, False, None)"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *cities], stderr=subprocess.PIPE, text=True
        )
        self.lines: list[dict[str, object]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.lines.append(json.loads(line) if line.startswith("{") else {"message": line})

    def said(self, text: str) -> bool:
        return any(text in str(line["message"]) for line in self.lines)

    def end(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(timeout=600)


@pytest.fixture
def schedulers(live: City) -> Iterator[Callable[[], Running]]:
    begun: list[Running] = []

    def start() -> Running:
        begun.append(Running(live.name))
        return begun[-1]

    yield start
    for one in begun:
        if one.process.poll() is None:
            one.end(signal.SIGKILL)


@pytest.fixture
def live(store: Store, city: City) -> City:
    """A city that has flow until the test days, and its night behind it."""
    other = target_city(city, "small-live")
    store_past(store, city, other, from_archive(store, city, None))
    return other


@pytest.mark.slow
def test_a_scheduler_serves_an_inbox_and_a_second_one_takes_over(
    store: Store, city: City, live: City, schedulers: Callable[[], Running]
) -> None:
    _, flow = store_past(store, city, live, from_archive(store, city, None))
    times = flow["time"].values
    first = schedulers()
    _until(lambda: first.said("this scheduler serves"))
    second = schedulers()
    _until(lambda: second.said("this one waits"))
    for _ in play(flow[:1], live):
        pass
    _until(lambda: _newest(store, live) == times[0])
    first.end(signal.SIGKILL)
    _until(lambda: second.said("this scheduler serves"))
    for _ in play(flow[1:2], live):
        pass
    _until(lambda: _newest(store, live) == times[1])
    beat = store.heartbeats.newest("scheduler")
    assert beat is not None and beat["pid"] == second.process.pid
    second.end()
    assert second.process.returncode == 0
    figures = (Path(os.environ["FLOWCAST_HOME"]) / "metrics" / "flowcast.prom").read_text()
    assert 'flowcast_status{city="",name="scheduler"} 0' in figures
    table = store.runs.table(live.name, last=1000)
    assert not table.duplicated(["job", "scheduled_for"]).any()


@pytest.mark.slow
def test_schedulers_that_are_killed_again_and_again_lose_nothing_and_do_nothing_twice(
    store: Store, city: City, live: City, schedulers: Callable[[], Running]
) -> None:
    rng = random.Random(0)
    _, flow = store_past(store, city, live, from_archive(store, city, None))
    times = flow["time"].values
    running = schedulers()
    for _ in play(flow[:1], live):  # from a city's first forecast on none may lack
        pass
    _until(lambda: _newest(store, live) == times[0])
    for _ in play(flow[1:4], live):
        time.sleep(
            rng.uniform(0.5, 4)
        )  # at the start, the wait for a whole file, the step, or after it
        running.end(signal.SIGKILL)
        running = schedulers()
    _until(lambda: _newest(store, live) == times[3])
    _until(lambda: not len(store.forecasts.missing(live, times[0], times[3])))
    _until(lambda: not store.scores.due(live, times[0] - 1).shape[0])
    running.end()
    forecasts = store.forecasts.between(live, times[0] - 1, times[3])
    slots = [one["init_time"].values[0] for one in forecasts]
    assert sorted({*slots}) == [*times[:4]]
    table = store.runs.table(live.name, last=1000)
    assert not table.duplicated(["job", "scheduled_for"]).any()


def _newest(store: Store, city: City) -> np.datetime64 | None:
    made = store.forecasts.newest(city)
    return None if made is None else made["init_time"].values[0]
