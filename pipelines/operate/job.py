"""Job: one update or one night of a city as a process, claimed in the ledger, done and logged.

`python -m pipelines.operate.job step --city demo` does what is due, at most once per slot. The scheduler
starts jobs so; `forecast update` and `forecast nightly` call `run_job` in their own process.
"""

import os
import signal
import sys
import threading
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.city import City, load_city
from data.errors import FlowcastError, NotNowError, StoreError
from data.store.runs import DONE, FAILED, Claim
from data.store.store import Store
from forecasting.training.interrupt import Stop
from pipelines import log
from pipelines.ingest.inbox import pending
from pipelines.operate.due_times import DEFAULT_TIME, due_slot

TIME_LIMITS = {"step": 600.0, "arrival": 600.0, "nightly": 4 * 3600.0}
"""Seconds that a job may take, by its name in the ledger."""
HEARTBEAT_INTERVAL = 60.0
"""Seconds between two heartbeats of a job."""
STOP_TIMEOUT = 6.0
"""Seconds from a request to stop to the end of the process."""


@dataclass(frozen=True)
class JobOptions:
    """What jobs of a city are run with.

    Attributes:
        horizon: steps ahead.
        at: when nights begin, in the city's time.
        minutes: that a night's training may take.
        warm: whether a night's training starts from the champion's weights.
    """

    horizon: int = 4
    at: str = DEFAULT_TIME
    minutes: float = 30.0
    warm: bool = False


def time_limit(job: str, minutes: float) -> float:
    """Returns the seconds that a job may take; a night may take twice the minutes of its training."""
    return max(TIME_LIMITS[job], 120 * minutes if job == "nightly" else 0.0)


def present() -> np.datetime64:
    """Returns this moment, UTC."""
    return np.datetime64(int(time.time()), "s")


def run_job(
    job: str, city: str, options: JobOptions, slot: np.datetime64 | None = None, child: bool = False
) -> int:
    """Does a job in this process, with a log on stderr, and returns the exit code.

    Args:
        job: `step`, `arrival` or `nightly`, as in the ledger.
        city: registry key.
        options: of the job.
        slot: UTC; None for the one that is due.
        child: whether to stop when standard input ends, as it does with the scheduler.
    """
    log.to_stderr()
    stop = Stop()
    former = signal.signal(signal.SIGTERM, lambda *_: _request_stop(stop))
    if child:
        threading.Thread(target=_stop_with_parent, args=(stop,), daemon=True).start()
    try:
        place, now = load_city(city), present()
        if slot is None:
            slot = now if job == "arrival" else due_slot(job, place, now, options.at)
        return _run(job, place, slot, stop, options)
    except FlowcastError as error:
        log.fail(str(error), city=city, job=job)
        return 1
    finally:
        signal.signal(signal.SIGTERM, former)


def _run(
    job: str, city: City, slot: np.datetime64, stop: threading.Event, options: JobOptions
) -> int:
    """Does the work of a slot unless it is done, or another process works on it.

    An update of a slot that is done runs as an arrival where new files wait: cron starts updates only.
    """
    store = Store()
    if job == "arrival":
        slot = _free_second(store, city, slot)
    facts: dict[str, Any] = {"city": city.name, "job": job, "slot": f"{slot}Z"}
    claim = store.runs.claim(job, city.name, slot, present(), time_limit(job, options.minutes))
    if claim is None:
        if job == "step" and store.runs.is_over(job, city.name, slot) and _has_input(store, city):
            return _run("arrival", city, present(), stop, options)
        log.info("nothing to do: this slot is done, or another process works on it", **facts)
        return 0
    facts["run"], began = claim.run, time.monotonic()
    try:
        with _heartbeats(store, claim):
            message, detail = _work(store, job, city, stop, options)
    except NotNowError as error:
        store.runs.release(claim, str(error))
        log.warn(str(error), **facts, seconds=round(time.monotonic() - began, 2))
        return 1
    except FlowcastError as error:
        store.runs.finish(claim, present(), FAILED, str(error))
        log.fail(str(error), **facts, seconds=round(time.monotonic() - began, 2))
        return 1
    except Exception as error:
        store.runs.finish(claim, present(), FAILED, f"a bug: {error!r}")
        log.fail(repr(error), traceback=True, **facts)
        raise
    store.runs.finish(claim, present(), DONE, message, detail)
    log.info(message, **facts, **detail, seconds=round(time.monotonic() - began, 2))
    store.close()
    return 0


def _has_input(store: Store, city: City) -> bool:
    """Returns whether files wait in the inbox, or an arrival failed and no update has run since."""
    failed = store.runs.is_unfinished("arrival", city.name, present(), TIME_LIMITS["arrival"])
    return failed or bool(pending(city, time.time()))


@contextmanager
def _heartbeats(store: Store, claim: Claim) -> Iterator[None]:
    """Renews a claim while it lasts."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(HEARTBEAT_INTERVAL):
            try:
                store.runs.renew(claim, present())
            except StoreError as error:  # the next one may succeed
                log.warn(str(error))

    threading.Thread(target=renew, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _free_second(store: Store, city: City, moment: np.datetime64) -> np.datetime64:
    """Returns the first second from `moment` on without an arrival in the ledger.

    Files may arrive twice in a second, or clocks may be set back to it.
    """
    while store.runs.outcome("arrival", city.name, moment) is not None:
        moment += np.timedelta64(1, "s")
    return moment


def _work(
    store: Store, job: str, city: City, stop: threading.Event, options: JobOptions
) -> tuple[str, dict[str, Any]]:
    """Returns what was done, as a sentence and as figures for the ledger."""
    if job == "nightly":
        return _night(store, city, stop, options)
    from pipelines.operate.update import update

    done = update(store, city, present(), horizon=options.horizon, wall=time.time())
    for warning in (done.rolled_back, done.drifted):
        if warning:
            log.warn(warning, city=city.name, job=job)
    if done.failed:
        raise FlowcastError(done.failed)
    init_time = None if done.init_time is None else f"{done.init_time}Z"
    made = "no new slot" if init_time is None else f"forecast of {init_time}"
    detail = {
        **{"init_time": init_time, "forecaster": done.forecaster, "scored": done.scored},
        **{"files": done.files, "refused": done.refused, "slots": done.slots},
        **{"drift": done.drifted, "notes": list(done.notes), "rolled_back": done.rolled_back},
    }
    return f"{made}, {done.scored} leads scored, {done.files} files ingested", detail


def _night(
    store: Store, city: City, stop: threading.Event, options: JobOptions
) -> tuple[str, dict[str, Any]]:
    from forecasting.city.recipe import Recipe
    from pipelines.operate.nightly import Night, nightly
    from pipelines.train.city import RunOptions

    recipe = Recipe.from_options(minutes=options.minutes, horizon=options.horizon)
    events = nightly(
        store, city, present(), recipe=recipe, options=RunOptions(stop=stop), warm=options.warm
    )
    night = next(event for event in events if isinstance(event, Night))
    decision = "promoted" if night.promoted else "rejected"
    detail = {
        "version": night.version,
        "promoted": night.promoted,
        "gates": {gate.name: gate.passed for gate in night.gates},
        "removed": list(night.removed),
    }
    return f"version {night.version} {decision}: {night.reason}", detail


def _stop_with_parent(stop: Stop) -> None:
    """Requests a stop when standard input ends, as it does with the scheduler."""
    while os.read(0, 4096):  # not sys.stdin, whose lock would outlive this thread
        pass
    _request_stop(stop)


def _request_stop(stop: Stop) -> None:
    """Requests a stop, and ends the process where it takes too long: all writes are transactions."""
    stop.hurried = True
    stop.set()
    timer = threading.Timer(STOP_TIMEOUT, os._exit, (1,))
    timer.daemon = True
    timer.start()


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line of a scheduler's child process."""
    default = JobOptions()
    parser = ArgumentParser(prog="python -m pipelines.operate.job", description=__doc__)
    parser.add_argument("job", choices=[*TIME_LIMITS])
    parser.add_argument("--city", required=True)
    parser.add_argument("--for", dest="slot", help="slot, UTC; default: the one that is due")
    parser.add_argument("--horizon", type=int, default=default.horizon, help="steps ahead")
    parser.add_argument("--minutes", type=float, default=default.minutes, help="of training")
    parser.add_argument("--warm", action="store_true", help="start from the champion's weights")
    parser.add_argument("--at", default=default.at, help="when nights begin; default: 02:00")
    parser.add_argument("--child", action="store_true", help="stop when standard input ends")
    given = parser.parse_args(arguments)
    options = JobOptions(given.horizon, given.at, given.minutes, given.warm)
    slot = np.datetime64(given.slot.removesuffix("Z"), "s") if given.slot else None
    return run_job(given.job, given.city, options, slot, given.child)


if __name__ == "__main__":
    sys.exit(main())
