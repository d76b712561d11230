"""Job: a step or a night of one city as a process: claimed in the ledger, done, told.

`python -m pipelines.operate.job step --city demo` does what is due and does nothing where it was done: cron
and Kubernetes may start it as often as they like. The scheduler starts it so too.
"""

import os
import signal
import sys
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from data.city import City, load_city
from data.errors import FlowcastError, NotNowError, StoreError
from data.store.runs import DONE, FAILED, Claim
from data.store.store import Store
from forecasting.training.interrupt import Stop
from pipelines import log
from pipelines.ingest.inbox import pending
from pipelines.operate.due_times import AT, slot_of

LIMITS = {"step": 600.0, "arrival": 600.0, "nightly": 4 * 3600.0}
"""Seconds that a job may take."""
SIGNS = 60.0
"""Seconds between two life signs of a job."""
GRACE = 6.0
"""Seconds between a stop that is asked for and the end."""


def limit_of(job: str, minutes: float) -> float:
    """Returns the seconds that a job may take, a night's training of so many minutes among them."""
    return max(LIMITS[job], 120 * minutes if job == "nightly" else 0.0)


def present() -> np.datetime64:
    """Returns this moment, UTC."""
    return np.datetime64(int(time.time()), "s")


def run(
    job: str,
    city: City,
    scheduled_for: np.datetime64,
    stop: threading.Event,
    options: Namespace,
) -> int:
    """Does the work of a slot unless it is done, or another process is at it; returns the exit code.

    A step whose slot is done does what has come since as an arrival: whoever starts steps, such as cron,
    knows nothing of files.

    Args:
        job: `step`, `arrival` or `nightly`.
        city: whose.
        scheduled_for: the slot, UTC.
        stop: ends a training once set.
        options: `horizon`, `minutes` and `warm`.
    """
    store = Store()
    if job == "arrival":
        scheduled_for = _free(store, city, scheduled_for)
    facts: dict[str, Any] = {"city": city.name, "job": job, "slot": f"{scheduled_for}Z"}
    claim = store.runs.claim(
        job, city.name, scheduled_for, present(), limit_of(job, options.minutes)
    )
    if claim is None:
        if (
            job == "step"
            and store.runs.is_over(job, city.name, scheduled_for)
            and _is_more(store, city)
        ):
            return run("arrival", city, present(), stop, options)
        log.info("nothing to do: this slot is done, or another process is at it", **facts)
        return 0
    facts["run"], began = claim.run, time.monotonic()
    try:
        with _living(store, claim):
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


def _is_more(store: Store, city: City) -> bool:
    """Returns whether something came that no step has made all of."""
    died = store.runs.is_unfinished("arrival", city.name, present(), LIMITS["arrival"])
    return died or bool(pending(city, time.time()))


@contextmanager
def _living(store: Store, claim: Claim) -> Iterator[None]:
    """Gives life signs while it lasts."""
    over = threading.Event()

    def tell() -> None:
        while not over.wait(SIGNS):
            try:
                store.runs.renew(claim, present())
            except StoreError as error:  # the next one may be heard
                log.warn(str(error))

    threading.Thread(target=tell, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _free(store: Store, city: City, moment: np.datetime64) -> np.datetime64:
    """Returns the first second from `moment` on that no arrival stands for.

    Files may come twice in a second, or again in one that clocks were set back to.
    """
    while store.runs.outcome("arrival", city.name, moment) is not None:
        moment += np.timedelta64(1, "s")
    return moment


def _work(
    store: Store, job: str, city: City, stop: threading.Event, options: Namespace
) -> tuple[str, dict[str, Any]]:
    """Returns what was done, in a sentence and in figures."""
    if job == "nightly":
        return _night(store, city, stop, options)
    from pipelines.operate.update import update

    done = update(store, city, present(), horizon=options.horizon, wall=time.time())
    if done.rolled_back:
        log.warn(done.rolled_back, city=city.name, job=job)
    if done.drifted:
        log.warn(done.drifted, city=city.name, job=job)
    if done.failed:
        raise FlowcastError(done.failed)
    made = "no new slot" if done.init_time is None else f"forecast of {done.init_time}Z"
    message = f"{made}, {done.scored} leads scored, files taken in: {done.files}"
    detail = {
        "init_time": None if done.init_time is None else f"{done.init_time}Z",
        **{"forecaster": done.forecaster, "scored": done.scored, "files": done.files},
        **{"refused": done.refused, "slots": done.slots, "drift": done.drifted},
        **{"notes": list(done.notes), "rolled_back": done.rolled_back},
    }
    return message, detail


def _night(
    store: Store, city: City, stop: threading.Event, options: Namespace
) -> tuple[str, dict[str, Any]]:
    from forecasting.city.recipe import Recipe
    from pipelines.operate.nightly import Night, nightly
    from pipelines.train.city import RunOptions

    recipe = Recipe.from_options(minutes=options.minutes, horizon=options.horizon)
    events = nightly(
        store, city, present(), recipe=recipe, options=RunOptions(stop=stop), warm=options.warm
    )
    night = next(event for event in events if isinstance(event, Night))
    word = "promoted" if night.promoted else "refused"
    detail = {
        "version": night.version,
        "promoted": night.promoted,
        "gates": {gate.name: gate.passed for gate in night.gates},
        "removed": list(night.removed),
    }
    return f"version {night.version} {word}: {night.reason}", detail


def _ends_with_parent(stop: Stop) -> None:
    """Asks for a stop when standard input ends, which is when the scheduler does."""
    while os.read(0, 4096):  # not sys.stdin, whose lock would outlive this thread
        pass
    _ask(stop)


def _ask(stop: Stop) -> None:
    """Asks for a stop, and ends the process where that takes too long: all writes are transactions."""
    stop.hurried = True
    stop.set()
    timer = threading.Timer(GRACE, os._exit, (1,))
    timer.daemon = True
    timer.start()


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line."""
    parser = ArgumentParser(prog="python -m pipelines.operate.job", description=__doc__)
    parser.add_argument("job", choices=[*LIMITS])
    parser.add_argument("--city", required=True)
    parser.add_argument("--for", dest="slot", help="slot, UTC; the one that is due")
    parser.add_argument("--horizon", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=30.0, help="of a night's training")
    parser.add_argument("--warm", action="store_true", help="begin with the champion's weights")
    parser.add_argument("--at", default=AT, help="when the nightly job is due; 02:00")
    parser.add_argument("--child", action="store_true", help="end when standard input does")
    options = parser.parse_args(arguments)
    log.to_stderr()
    stop = Stop()
    former = signal.signal(signal.SIGTERM, lambda *_: _ask(stop))
    if options.child:
        threading.Thread(target=_ends_with_parent, args=(stop,), daemon=True).start()
    try:
        city = load_city(options.city)
        now = present()
        due = now if options.job == "arrival" else slot_of(options.job, city, now, options.at)
        slot = np.datetime64(options.slot.removesuffix("Z"), "s") if options.slot else due
        return run(options.job, city, slot, stop, options)
    except FlowcastError as error:
        log.fail(str(error), city=options.city, job=options.job)
        return 1
    finally:
        signal.signal(signal.SIGTERM, former)


if __name__ == "__main__":
    sys.exit(main())
