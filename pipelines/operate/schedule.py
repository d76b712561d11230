"""Schedule: starts the jobs of cities when they are due, at most once per slot, for months.

APScheduler ticks; what is due follows from the clock and the ledger alone, so that a scheduler that was
down, or whose clock was wrong, continues with the newest slot of each job. Jobs are child processes with
a time limit, which end with the scheduler. A store has one scheduler; others wait for its lock.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from apscheduler.schedulers.background import BackgroundScheduler

from data.city import City, city_files, load_city
from data.errors import FlowcastError, StoreError
from data.paths import inbox_folder
from data.store.scheduler_lock import HeldLock
from data.store.store import Store
from pipelines import log
from pipelines.ingest.inbox import has_files, pending
from pipelines.operate.due_times import JOBS, due_slot, missed
from pipelines.operate.job import TIME_LIMITS, JobOptions, present, time_limit

TICK_INTERVAL = 1.0
"""Seconds between two checks of what is due."""
HEARTBEAT_INTERVAL = 30
"""Seconds between two heartbeats."""
FIRST_PAUSE = 60.0
"""Seconds before the first retry of a slot or of files."""
MAX_SLOT_PAUSE = 3600.0
"""Seconds of the longest pause between retries of a slot: each is ten times the one before."""
MAX_FILES_PAUSE = 600.0
"""Seconds of the longest pause between retries of files: each is twice the one before."""
REPEAT_INTERVAL = 600.0
"""Seconds before an error that lasts is logged again."""
STOP_TIMEOUT = 8.0
"""Seconds that jobs have to end with the scheduler."""
UNFINISHED = "unfinished"
"""Stands, among the fingerprints of files, for files that were ingested but whose update failed."""

Key = tuple[str, str, np.datetime64]
"""Job, city and slot."""


@dataclass(frozen=True)
class Plan:
    """What a scheduler does.

    Attributes:
        cities: that it serves.
        options: of their jobs.
        after_heartbeat: called with the time and the cities, such as to write metrics.
        find_cities: called before each heartbeat; returns the cities to serve from then on.
    """

    cities: tuple[City, ...]
    options: JobOptions = field(default_factory=JobOptions)
    after_heartbeat: Callable[[np.datetime64, Sequence[City]], None] | None = None
    find_cities: Callable[[], tuple[City, ...]] | None = None


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    key: Key
    started: float
    stopped: float | None = None


@dataclass(frozen=True)
class _Files:
    """Files of an inbox for which an update was started, and when it may be again (monotonic clock)."""

    fingerprints: set[str] = field(default_factory=set)
    retry_at: float = float("inf")
    pause: float = FIRST_PAUSE


@dataclass
class Scheduler:
    """Starts and watches jobs; its state is what runs at the moment, all else is in the store.

    Attributes:
        store: with the ledger.
        plan: what to do.
        children: running jobs, by city and kind of work.
        retry_at: when a slot may be started again, of the monotonic clock.
        attempts: how often this scheduler started a slot.
        files: for which an update was started, by city.
        logged_until: until when an error is not logged again, of the monotonic clock.
        last_heartbeat: of the monotonic clock.
    """

    store: Store
    plan: Plan
    children: dict[tuple[str, str], _Child] = field(default_factory=dict)
    retry_at: dict[Key, float] = field(default_factory=dict)
    attempts: dict[Key, int] = field(default_factory=dict)
    files: dict[str, _Files] = field(default_factory=dict)
    logged_until: dict[str, float] = field(default_factory=dict)
    last_heartbeat: float = float("-inf")

    def tick(self, now: np.datetime64) -> None:
        """Ends jobs that take too long, starts those that are due, and writes a heartbeat."""
        self._check_children()
        for city in self.plan.cities:
            try:
                for job in JOBS:
                    self._start_if_due(job, city, now)
                self._start_for_files(city, now)
            except StoreError:
                raise
            except FlowcastError as error:  # such as an inbox that may not be read
                self.log_error(str(error), city=city.name)
        if time.monotonic() - self.last_heartbeat >= HEARTBEAT_INTERVAL:
            self.last_heartbeat = time.monotonic()
            self._find_cities()
            cities = [city.name for city in self.plan.cities]
            self.store.heartbeats.beat("scheduler", now, {"cities": cities})
            if self.plan.after_heartbeat is not None:
                self.plan.after_heartbeat(now, self.plan.cities)

    def end(self) -> None:
        """Ends all jobs, which lose nothing: their slots are claimed again later."""
        for child in self.children.values():
            _terminate(child)
        end = time.monotonic() + STOP_TIMEOUT
        for child in self.children.values():
            try:
                child.process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        self.children.clear()

    def log_error(self, message: str, **fields: Any) -> None:
        """Logs an error, and again after `REPEAT_INTERVAL` while it lasts."""
        now = time.monotonic()
        self.logged_until = {text: end for text, end in self.logged_until.items() if end > now}
        if message not in self.logged_until:
            self.logged_until[message] = now + REPEAT_INTERVAL
            log.fail(message, **fields)

    def _find_cities(self) -> None:
        """Takes over the cities to serve from now on: one may have been added, or changed."""
        if self.plan.find_cities is None:
            return
        former, cities = {city.name for city in self.plan.cities}, self.plan.find_cities()
        if added := [city.name for city in cities if city.name not in former]:
            log.info("further cities are served", cities=added)
        self.plan = replace(self.plan, cities=cities)

    def _start_if_due(self, job: str, city: City, now: np.datetime64) -> None:
        """Starts a job whose slot is due and neither done nor running."""
        trains = any(kind == "nightly" for _, kind in self.children)
        if (city.name, job) in self.children or (job == "nightly" and trains):
            return
        at = self.plan.options.at
        slot = due_slot(job, city, now, at)
        key = (job, city.name, slot)
        if self.retry_at.get(key, 0.0) > time.monotonic():
            return
        older = [one for one in self.retry_at if one[:2] == key[:2] and one[2] != slot]
        for one in older:  # months have many slots
            del self.retry_at[one]
            self.attempts.pop(one, None)
        if self.store.runs.is_over(job, city.name, slot):
            self.retry_at[key] = float("inf")
            return
        newest = self.store.runs.newest(job, city.name)
        slots = missed(job, city, newest, slot, at)
        reason = "no scheduler ran when it was due"
        if skipped := self.store.runs.mark_skipped(job, city.name, slots, now, reason):
            log.warn(f"{skipped} missed slots are skipped", city=city.name, job=job)
        self._start(job, city, slot)

    def _start_for_files(self, city: City, now: np.datetime64) -> None:
        """Starts an update for files of the inbox for which none was started.

        Files that are still there when it has ended, such as those that cannot be moved, are retried after
        a pause, which doubles; so are ingested files whose update failed or died.
        """
        files = pending(city, time.time())
        limit = TIME_LIMITS["arrival"]
        if self.store.runs.is_unfinished("arrival", city.name, now, limit):
            files |= {UNFINISHED}
        known = self.files.get(city.name, _Files())
        if not files:
            self.files.pop(city.name, None)
            return
        if (city.name, "step") in self.children:
            return
        if not files <= known.fingerprints:
            pause = FIRST_PAUSE
        elif known.retry_at <= time.monotonic():
            pause = min(2 * known.pause, MAX_FILES_PAUSE)
        else:
            return
        self.files[city.name] = _Files(files, time.monotonic() + pause, pause)
        self._start("arrival", city, now)

    def _start(self, job: str, city: City, slot: np.datetime64) -> None:
        options = self.plan.options
        command = [sys.executable, "-m", "pipelines.operate.job", job, "--city", city.name]
        command += ["--for", f"{slot}Z", "--horizon", str(options.horizon), "--child"]
        command += ["--minutes", f"{options.minutes:g}", *(["--warm"] if options.warm else [])]
        # Threads that wait must not spin: beside one busy process a training took six times as long.
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, cwd=Path(__file__).parents[2], env=environment
        )
        key = (job, city.name, slot)
        if job in JOBS:
            # A fault that lasts some minutes must not use up the attempts of a night.
            pause = min(FIRST_PAUSE * 10 ** self.attempts.get(key, 0), MAX_SLOT_PAUSE)
            self.attempts[key] = self.attempts.get(key, 0) + 1
            self.retry_at[key] = time.monotonic() + pause
        kind = "nightly" if job == "nightly" else "step"
        self.children[city.name, kind] = _Child(process, key, time.monotonic())

    def _check_children(self) -> None:
        """Forgets jobs that ended, and ends those that take too long."""
        now = time.monotonic()
        for place, child in [*self.children.items()]:
            job, city, slot = child.key
            limit = time_limit(job, self.plan.options.minutes)
            if child.process.poll() is not None:
                del self.children[place]
                if code := child.process.returncode:
                    text = f"ended with {code}; retried after a pause while attempts are left"
                    log.warn(text, city=city, job=job, slot=f"{slot}Z")
            elif child.stopped is not None and now - child.stopped > STOP_TIMEOUT:
                child.process.kill()
            elif child.stopped is None and now - child.started > limit:
                log.fail(f"ended: it took more than {limit:.0f} s", city=city, job=job)
                _terminate(child)


def _terminate(child: _Child) -> None:
    child.stopped = time.monotonic()
    child.process.terminate()


def serve(store: Store, plan: Plan, stop: threading.Event) -> None:
    """Serves cities until `stop` is set, waiting first until no other scheduler does.

    Args:
        store: that it serves.
        plan: what to do.
        stop: ends it within ten seconds.
    """
    waits = False
    while not stop.is_set():
        try:
            with store.scheduler_lock() as held:
                if held is not None:
                    waits = False
                    log.info("this scheduler serves", cities=[city.name for city in plan.cities])
                    _serve(Scheduler(store, plan), held, stop)
                elif not waits:
                    waits = True
                    log.info("another scheduler serves this store; this one waits for it to end")
        except StoreError as error:
            log.fail(str(error))
        except Exception as error:  # whatever it is, a scheduler runs for months
            log.fail(repr(error), traceback=True)
        stop.wait(5 * TICK_INTERVAL)


def _serve(scheduler: Scheduler, held: HeldLock, stop: threading.Event) -> None:
    """Ticks until `stop` is set or the lock is lost."""
    lost = threading.Event()

    def tick() -> None:
        try:
            if not held.is_held():
                log.fail("the lock of the scheduler is lost; it is requested again")
                lost.set()
            elif not stop.is_set() and not lost.is_set():
                scheduler.tick(present())
        except FlowcastError as error:
            scheduler.log_error(str(error))
        except Exception as error:  # one tick that fails must not be the last one
            log.fail(repr(error), traceback=True)

    ticking = BackgroundScheduler(timezone="UTC")
    ticking.add_job(tick, "interval", seconds=TICK_INTERVAL, max_instances=1, coalesce=True)
    ticking.start()
    try:
        while not stop.is_set() and not lost.is_set():
            stop.wait(0.2)
    finally:
        ticking.shutdown(wait=False)
        scheduler.end()


def until_signaled() -> threading.Event:
    """Returns an event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def served_cities(store: Store, names: Sequence[str]) -> tuple[City, ...]:
    """Returns the named cities, or all with flow in the store or files in their inbox.

    Raises:
        FlowcastError: there is no such city, or none has any flow.
    """
    if names:
        return tuple(load_city(name) for name in dict.fromkeys(names))
    known = []
    for name in city_files():
        try:
            city = load_city(name)
            if store.flow.span(city) is not None or has_files(city):
                known.append(city)
        except FlowcastError as error:
            log.warn(str(error), city=name)
    if not known:
        raise FlowcastError(
            "no city has any flow; run: forecast ingest --city CITY PATH, or drop files in its inbox: "
            f"{inbox_folder('CITY')}"
        )
    return tuple(known)
