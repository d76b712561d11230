"""Due: for which slot a job is due at a moment, in the city's time, whatever its clocks do."""

import numpy as np

from data.city import DAY, City
from data.clock import Clock, utc, wall

JOBS = ("step", "nightly")
AT = "02:00"
"""When the nightly job is due, in the city's time."""
MOST_MISSED = 1000
"""Missed slots that are told of one by one."""


def step_slot(city: City, now: np.datetime64) -> np.datetime64:
    """Returns when the newest slot that is over ended, UTC: then its flow may come."""
    clock = Clock(city.step, city.timezone)
    midnight = wall(now, city.timezone).astype("datetime64[D]").astype("datetime64[s]")
    origin = np.datetime64(utc(midnight, city.timezone).item(), "s")
    number = int(clock.number(now, origin))
    slot = clock.after(origin, number)
    return slot if slot <= now else clock.after(origin, number - 1)


def nightly_slot(city: City, now: np.datetime64, at: str = AT) -> np.datetime64:
    """Returns when clocks of the city last showed `at`, UTC.

    Where they show it twice it is the first time, where they skip it the first moment after.

    Args:
        city: with its timezone.
        now: UTC.
        at: hour and minute, `02:00`.
    """
    today = wall(now, city.timezone).astype("datetime64[D]")
    for days in (0, 1, 2):
        shown = (today - days).astype("datetime64[s]") + time_of_day(at)
        slot = np.datetime64(utc(np.asarray(shown), city.timezone).item(), "s")
        if slot <= now:
            break
    return slot


def slot_of(job: str, city: City, now: np.datetime64, at: str = AT) -> np.datetime64:
    """Returns the slot of a job that is due at a moment, UTC."""
    return step_slot(city, now) if job == "step" else nightly_slot(city, now, at)


def missed(
    job: str, city: City, newest: np.datetime64 | None, due: np.datetime64, at: str = AT
) -> np.ndarray:
    """Returns the slots between the newest that the ledger knows and the one that is due, UTC.

    Args:
        job: `step` or `nightly`.
        city: whose job it is.
        newest: of the ledger; None where it knows none.
        due: as `slot_of` returns it.
        at: when the nightly job is due.
    """
    slots: list[np.datetime64] = []
    if newest is None:
        return np.array(slots, dtype="datetime64[s]")
    slot = slot_of(job, city, due - 1, at)
    while slot > newest and len(slots) < MOST_MISSED:
        slots.append(slot)
        slot = slot_of(job, city, slot - 1, at)
    return np.array(slots[::-1], dtype="datetime64[s]")


def time_of_day(text: str) -> np.timedelta64:
    """Returns the time since midnight that `02:00` stands for.

    Raises:
        ValueError: it is no time of day.
    """
    hours, _, minutes = text.partition(":")
    if not (hours.isdigit() and minutes.isdigit() and len(minutes) == 2):
        raise ValueError(f"{text!r} is no time of day; write it like 02:00")
    time = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or time >= DAY / np.timedelta64(60, "s"):
        raise ValueError(f"{text!r} is no time of day; write it like 02:00")
    return np.timedelta64(time * 60, "s")
