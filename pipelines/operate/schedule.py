"""Schedule: starts the jobs of cities when they are due, each slot at most once, for months.

APScheduler ticks; what is due follows from the clock and the ledger alone, so that a scheduler that was
away, or whose clock was wrong, goes on with the newest slot of each job. Jobs are child processes with a
time limit, which end with the scheduler. There is one scheduler for a store; others wait for its lock.
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
from pipelines.operate.due_times import AT, JOBS, missed, slot_of
from pipelines.operate.job import LIMITS, limit_of, present

TICK = 1.0
"""Seconds between two looks at what is due."""
BEAT = 30
"""Seconds between two heartbeats."""
RETRY = 60.0
"""Seconds until what failed is tried again for the first time."""
LONGEST_RETRY = 3600.0
"""Seconds of the longest pause between two tries of a slot: each is ten times the one before."""
LONGEST = 600.0
"""Seconds until what fails again and again is tried, or told, again."""
ENDING = 8.0
"""Seconds that jobs are given to end with the scheduler."""
NAME = "scheduler"
UNFINISHED = "unfinished"
"""Stands, among the marks of files, for what came and of which the step failed or died."""


@dataclass(frozen=True)
class Plan:
    """What a scheduler does.

    Attributes:
        cities: that it serves.
        horizon: steps ahead.
        at: when nights begin, in each city's time.
        minutes: of a night's training.
        warm: whether it begins with the champion's weights.
        after: called after each heartbeat with the time and the cities, such as to write figures.
        look: called before each heartbeat for the cities that are served from then on.
    """

    cities: tuple[City, ...]
    horizon: int = 4
    at: str = AT
    minutes: float = 30.0
    warm: bool = False
    after: Callable[[np.datetime64, Sequence[City]], None] | None = None
    look: Callable[[], tuple[City, ...]] | None = None


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    key: tuple[str, str, np.datetime64]
    began: float
    asked: float | None = None


@dataclass(frozen=True)
class _Tried:
    """Files of an inbox that a step was started for, and when, of the monotonic clock, it may be again."""

    files: set[str] = field(default_factory=set)
    again: float = float("inf")
    pause: float = RETRY


@dataclass
class Scheduler:
    """Starts and watches jobs; its state is what runs at the moment, all else is in the store.

    Attributes:
        store: with the ledger.
        plan: what to do.
        children: that run, by city and kind of work.
        again: when a slot that failed may be tried anew, by its key, of the monotonic clock.
        tries: how often a slot was begun by this scheduler, by its key.
        tried: files for which a step was started, by city.
        told: until when what was logged is not logged again, of the monotonic clock.
    """

    store: Store
    plan: Plan
    children: dict[tuple[str, str], _Child] = field(default_factory=dict)
    again: dict[tuple[str, str, np.datetime64], float] = field(default_factory=dict)
    tries: dict[tuple[str, str, np.datetime64], int] = field(default_factory=dict)
    tried: dict[str, _Tried] = field(default_factory=dict)
    told: dict[str, float] = field(default_factory=dict)
    beaten: float = float("-inf")

    def tick(self, now: np.datetime64) -> None:
        """Ends what takes too long, starts what is due, and tells that it lives."""
        self._watch()
        for city in self.plan.cities:
            try:
                for job in JOBS:
                    self._look(job, city, now)
                self._look_in(city, now)
            except StoreError:
                raise
            except FlowcastError as error:  # such as an inbox that may not be read
                self.tell(str(error), city=city.name)
        if time.monotonic() - self.beaten >= BEAT:
            self.beaten = time.monotonic()
            self._find()
            cities = [city.name for city in self.plan.cities]
            self.store.heartbeats.beat(NAME, now, {"cities": cities})
            if self.plan.after is not None:
                self.plan.after(now, self.plan.cities)

    def end(self) -> None:
        """Ends all jobs, which lose nothing: what they were at is claimed again later."""
        for child in self.children.values():
            _ask(child)
        end = time.monotonic() + ENDING
        for child in self.children.values():
            try:
                child.process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        self.children.clear()

    def _find(self) -> None:
        """Takes over the cities that are to be served now: one may have been added, or changed."""
        if self.plan.look is None:
            return
        former, cities = {city.name for city in self.plan.cities}, self.plan.look()
        if added := [city.name for city in cities if city.name not in former]:
            log.info("further cities are served", cities=added)
        self.plan = replace(self.plan, cities=cities)

    def _look(self, job: str, city: City, now: np.datetime64) -> None:
        """Starts a job where it is due and neither done nor at work."""
        if (city.name, job) in self.children or (job == "nightly" and self._trains()):
            return
        slot = slot_of(job, city, now, self.plan.at)
        key = (job, city.name, slot)
        if self.again.get(key, 0.0) > time.monotonic():
            return
        older = [one for one in self.again if one[:2] == key[:2] and one[2] != slot]
        for one in older:  # months have many slots
            del self.again[one]
            self.tries.pop(one, None)
        if self.store.runs.is_over(job, city.name, slot):
            self.again[key] = float("inf")
            return
        newest = self.store.runs.newest(job, city.name)
        slots = missed(job, city, newest, slot, self.plan.at)
        if skipped := self.store.runs.mark_skipped(
            job, city.name, slots, now, "no scheduler was at work when it was due"
        ):
            log.warn(f"{skipped} missed slots are skipped", city=city.name, job=job)
        self._start(job, city, slot)

    def _look_in(self, city: City, now: np.datetime64) -> None:
        """Starts a step where there is a file in the inbox that none was started for.

        Files that are still there when it has ended, such as those that cannot be moved, are tried again
        after some time, which doubles; so is what came, where the step for it failed or died.
        """
        files = pending(city, time.time())
        if self.store.runs.is_unfinished("arrival", city.name, now, LIMITS["arrival"]):
            files |= {UNFINISHED}
        tried = self.tried.get(city.name, _Tried())
        if not files:
            self.tried.pop(city.name, None)
        elif (city.name, "step") in self.children:
            return
        elif not files <= tried.files:
            self.tried[city.name] = _Tried(files, time.monotonic() + RETRY, RETRY)
            self._start("arrival", city, now)
        elif tried.again <= time.monotonic():
            pause = min(2 * tried.pause, LONGEST)
            self.tried[city.name] = _Tried(files, time.monotonic() + pause, pause)
            self._start("arrival", city, now)

    def tell(self, message: str, **fields: Any) -> None:
        """Logs what is wrong, and for as long as it stays so once a while."""
        now = time.monotonic()
        self.told = {text: until for text, until in self.told.items() if until > now}
        if message not in self.told:
            self.told[message] = now + LONGEST
            log.fail(message, **fields)

    def _trains(self) -> bool:
        return any(kind == "nightly" for _, kind in self.children)

    def _start(self, job: str, city: City, slot: np.datetime64) -> None:
        plan = self.plan
        command = [sys.executable, "-m", "pipelines.operate.job", job, "--city", city.name]
        command += ["--for", f"{slot}Z", "--horizon", str(plan.horizon), "--child"]
        command += ["--minutes", f"{plan.minutes:g}", *(["--warm"] if plan.warm else [])]
        # Threads that wait must not spin: beside one busy process a training took six times as long.
        quiet = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, cwd=Path(__file__).parents[2], env=quiet
        )
        kind = "nightly" if job == "nightly" else "step"
        key = (job, city.name, slot)
        if job in JOBS:
            # A fault that lasts some minutes must not use up the tries of a night.
            pause = min(RETRY * 10 ** self.tries.get(key, 0), LONGEST_RETRY)
            self.tries[key] = self.tries.get(key, 0) + 1
            self.again[key] = time.monotonic() + pause
        self.children[city.name, kind] = _Child(process, key, time.monotonic())

    def _watch(self) -> None:
        """Forgets jobs that ended, and ends those that take too long."""
        for place, child in [*self.children.items()]:
            job, city, slot = child.key
            if child.process.poll() is not None:
                del self.children[place]
                if child.process.returncode:
                    log.warn(
                        f"ended with {child.process.returncode}; tried again after a pause where tries "
                        f"are left",
                        **{"city": city, "job": job, "slot": f"{slot}Z"},
                    )
            elif child.asked is not None and time.monotonic() - child.asked > ENDING:
                child.process.kill()
            elif child.asked is None and time.monotonic() - child.began > (
                limit := limit_of(job, self.plan.minutes)
            ):
                log.fail(f"ended: it took more than {limit:.0f} s", city=city, job=job)
                _ask(child)


def _ask(child: _Child) -> None:
    child.asked = time.monotonic()
    child.process.terminate()


def serve(store: Store, plan: Plan, stop: threading.Event) -> None:
    """Serves cities until `stop` is set, waiting first until no other scheduler does.

    Args:
        store: that it serves.
        plan: what to do.
        stop: ends it within ten seconds.
    """
    said = False
    while not stop.is_set():
        try:
            with store.scheduler_lock() as held:
                if held is not None:
                    said = False
                    log.info("this scheduler serves", cities=[city.name for city in plan.cities])
                    _serve(Scheduler(store, plan), held, stop)
                elif not said:
                    said = True
                    log.info("another scheduler serves this store; this one waits for it to end")
        except StoreError as error:
            log.fail(str(error))
        except Exception as error:  # whatever it is, a scheduler goes on for months
            log.fail(repr(error), traceback=True)
        stop.wait(5 * TICK)


def _serve(scheduler: Scheduler, held: HeldLock, stop: threading.Event) -> None:
    """Ticks until `stop` is set or the lock is lost."""
    lost = threading.Event()

    def tick() -> None:
        try:
            if not held.is_held():
                log.fail("the lock of the scheduler is lost; it is asked for anew")
                lost.set()
            elif not stop.is_set() and not lost.is_set():
                scheduler.tick(present())
        except FlowcastError as error:
            scheduler.tell(str(error))
        except Exception as error:  # one tick that fails must not be the last one
            log.fail(repr(error), traceback=True)

    ticking = BackgroundScheduler(timezone="UTC")
    ticking.add_job(tick, "interval", seconds=TICK, max_instances=1, coalesce=True)
    ticking.start()
    try:
        while not stop.is_set() and not lost.is_set():
            stop.wait(0.2)
    finally:
        ticking.shutdown(wait=False)
        scheduler.end()


def until_signalled() -> threading.Event:
    """Returns what SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def served_cities(store: Store, names: Sequence[str]) -> tuple[City, ...]:
    """Returns the cities that are named, or all that have flow in the store, or files in their inbox.

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
