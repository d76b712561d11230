"""Due times: the slot for which a job is due at a moment, by the wall clock of the city."""

import numpy as np

from data.city import DAY, City
from data.clock import Clock, utc, wall

JOBS = ("step", "nightly")
"""Scheduled jobs, by their names in the ledger; `step` is what `forecast update` does."""
DEFAULT_TIME = "02:00"
"""When the nightly job is due, in the city's time."""
MAX_MISSED = 1000
"""Missed slots that the ledger lists."""


def update_slot(city: City, now: np.datetime64) -> np.datetime64:
    """Returns when the newest complete slot ended, UTC: its flow may arrive from then on."""
    clock = Clock(city.step, city.timezone)
    midnight = wall(now, city.timezone).astype("datetime64[D]").astype("datetime64[s]")
    origin = np.datetime64(utc(midnight, city.timezone).item(), "s")
    number = int(clock.number(now, origin))
    slot = clock.after(origin, number)
    return slot if slot <= now else clock.after(origin, number - 1)


def nightly_slot(city: City, now: np.datetime64, at: str = DEFAULT_TIME) -> np.datetime64:
    """Returns when the clocks of the city last showed `at`, UTC.

    An ambiguous time is the first of the two, a nonexistent one the first moment after it.

    Args:
        city: with its timezone.
        now: UTC.
        at: hour and minute, `02:00`.
    """
    today = wall(now, city.timezone).astype("datetime64[D]")
    for days in (0, 1, 2):
        local = (today - days).astype("datetime64[s]") + time_of_day(at)
        slot = np.datetime64(utc(np.asarray(local), city.timezone).item(), "s")
        if slot <= now:
            break
    return slot


def due_slot(job: str, city: City, now: np.datetime64, at: str = DEFAULT_TIME) -> np.datetime64:
    """Returns the slot of a job that is due at a moment, UTC."""
    return update_slot(city, now) if job == "step" else nightly_slot(city, now, at)


def missed(
    job: str, city: City, newest: np.datetime64 | None, due: np.datetime64, at: str = DEFAULT_TIME
) -> np.ndarray:
    """Returns the slots between the newest in the ledger and the one that is due, UTC.

    Args:
        job: `step` or `nightly`.
        city: of the job.
        newest: slot in the ledger; None where there is none.
        due: as `due_slot` returns it.
        at: when the nightly job is due.
    """
    slots: list[np.datetime64] = []
    if newest is not None:
        slot = due_slot(job, city, due - 1, at)
        while slot > newest and len(slots) < MAX_MISSED:
            slots.append(slot)
            slot = due_slot(job, city, slot - 1, at)
    return np.array(slots[::-1], dtype="datetime64[s]")


def time_of_day(text: str) -> np.timedelta64:
    """Returns the time since midnight that `02:00` stands for.

    Raises:
        ValueError: it is no time of day.
    """
    hours, _, minutes = text.partition(":")
    digits = hours.isdigit() and minutes.isdigit() and len(minutes) == 2
    if not digits or int(minutes) > 59 or int(hours) >= DAY / np.timedelta64(1, "h"):
        raise ValueError(f"{text!r} is no time of day; write it like 02:00")
    return np.timedelta64((int(hours) * 60 + int(minutes)) * 60, "s")
