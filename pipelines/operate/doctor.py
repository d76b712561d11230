"""Doctor: health checks of the cities, the scheduler and the machine, for people and monitoring."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data import windows
from data.city import City, city_files, load_city
from data.clock import Clock, duration, stamp
from data.errors import FlowcastError
from data.formats.registry import suffixes
from data.paths import home, models_root
from data.store.runs import FAILED, RUNNING
from data.store.store import Store
from forecasting.registry.manifest import read_manifest
from pipelines.forecast.champion import problems
from pipelines.ingest.inbox import stale, unrecognized
from pipelines.operate.job import TIME_LIMITS

OK, WARNING, FAILURE = "ok", "warning", "failure"
STATUS = {OK: 0, WARNING: 1, FAILURE: 2}
"""Number of a status, for monitoring and as an exit code."""
LATE_STEPS = 3
"""Steps after which the newest slot is late; twice as many are a failure."""
MAX_CHAMPION_AGE = 10.0
"""Days since the newest flow that the champion was trained on; it is retrained every night."""
HEARTBEAT_TIMEOUT = 120
"""Seconds without a heartbeat after which a scheduler is dead."""
NIGHT_TIMEOUT = 2.5 * 86_400
"""Seconds since the last night from which on nights are missing."""
INBOX_TIMEOUT = 3600.0
"""Seconds after which a file of the inbox should have been ingested."""
MIN_DISK = 2**30
"""Bytes of free disk below which is a warning; below a tenth of them is a failure."""
SECOND = np.timedelta64(1, "s")


@dataclass(frozen=True)
class HealthCheck:
    """One thing that was checked.

    Attributes:
        name: of it, such as `data`.
        city: that it concerns, "" for all.
        status: `ok`, `warning` or `failure`.
        message: for people.
        value: the figure behind it, for monitoring; None where there is none.
        unit: of the figure.
    """

    name: str
    city: str
    status: str
    message: str
    value: float | None = None
    unit: str = ""


def check_health(store: Store, cities: Sequence[City], now: np.datetime64) -> list[HealthCheck]:
    """Returns the health of the scheduler, the machine and the cities, at `now`, UTC."""
    found = [_scheduler(store, cities, now), _disk(), _gpu(), *broken_cities()]
    for city in cities:
        found += [_data(store, city, now), _gaps(store, city, now), _champion(store, city, now)]
        found += [*_runs(store, city, now), _drift(store, city), _inbox(city, now)]
    return found


def broken_cities() -> list[HealthCheck]:
    """Returns the cities whose TOML is wrong: no job runs for them until it is corrected."""
    found = []
    for name in sorted(city_files()):
        try:
            load_city(name)
        except FlowcastError as error:
            found.append(HealthCheck("city", name, FAILURE, str(error)))
    return found


def broken_store(reason: str) -> HealthCheck:
    """Returns the check of a store that cannot be read."""
    return HealthCheck("store", "", FAILURE, reason)


def exit_code(checks: Sequence[HealthCheck]) -> int:
    """Returns the number of the worst status."""
    return max((STATUS[one.status] for one in checks), default=0)


def _scheduler(store: Store, cities: Sequence[City], now: np.datetime64) -> HealthCheck:
    heartbeat = store.heartbeats.newest("scheduler")
    last = None if heartbeat is None else heartbeat["at"]
    age = None if last is None else float((now - last) / SECOND)

    def check(status: str, text: str) -> HealthCheck:
        return HealthCheck("scheduler", "", status, text, age, "seconds")

    silent = age is None or age > HEARTBEAT_TIMEOUT
    if silent and cities and all(_updated_otherwise(store, one, last, now) for one in cities):
        return check(OK, "none; updates are started otherwise, such as by cron")
    if heartbeat is None or age is None:
        return check(WARNING, "no scheduler has ever run; start it: forecast schedule")
    place = f"on {heartbeat['host']}, process {heartbeat['pid']}"
    if age < -HEARTBEAT_TIMEOUT:
        text = f"its heartbeat {place} is {duration(-age)} ahead; set the clocks of the hosts right"
        return check(WARNING, text)
    if age > HEARTBEAT_TIMEOUT:
        text = f"no heartbeat for {duration(age)}, the last {place}; start it: forecast schedule"
        return check(FAILURE, text)
    return check(OK, f"alive {place}")


def _updated_otherwise(
    store: Store, city: City, heartbeat: np.datetime64 | None, now: np.datetime64
) -> bool:
    """Returns whether updates of a city go on two slots after the last heartbeat."""
    table = store.runs.table(city.name, "step", last=1)
    if table.empty:
        return False
    started = np.datetime64(table["started_at"].iloc[-1], "s")
    recent = now - started < 2 * city.step
    return bool(recent and (heartbeat is None or started - heartbeat > 2 * city.step))


def _disk() -> HealthCheck:
    folder = home()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    status = FAILURE if free < MIN_DISK / 10 else WARNING if free < MIN_DISK else OK
    text = f"{free / 2**30:,.1f} GiB free in {home()}"
    return HealthCheck("disk", "", status, text, float(free), "bytes")


def _gpu() -> HealthCheck:
    program = shutil.which("nvidia-smi")
    text = "a GPU is available" if program else "no GPU; networks train on the processor"
    return HealthCheck("gpu", "", OK, text, float(bool(program)))


def _data(store: Store, city: City, now: np.datetime64) -> HealthCheck:
    span = store.flow.span(city, last=now)
    if span is None:
        text = f"no flow; run: forecast ingest --city {city.name} PATH"
        return HealthCheck("data", city.name, FAILURE, text)
    end = Clock(city.step, city.timezone).after(span[1], 1)
    late = float((now - end) / SECOND)
    steps = late / float(city.step / SECOND)
    status = FAILURE if steps > 2 * LATE_STEPS else WARNING if steps > LATE_STEPS else OK
    text = f"newest slot {stamp(span[1], city.timezone)}, ended {duration(max(late, 0))} ago"
    return HealthCheck("data", city.name, status, text, late, "seconds")


def _gaps(store: Store, city: City, now: np.datetime64) -> HealthCheck:
    span = store.flow.span(city, last=now)
    if span is None:
        return HealthCheck("gaps", city.name, OK, "no flow, no gaps")
    day = city.slots_per_day
    first = Clock(city.step, city.timezone).after(span[1], 1 - day)
    times = store.flow.times(city, first=first)
    missing = len(windows.missing(times, span[1], range(day)))
    text = f"{missing} of the newest {day} slots are missing"
    status = WARNING if missing else OK
    return HealthCheck("gaps", city.name, status, text, float(missing), "slots")


def _champion(store: Store, city: City, now: np.datetime64) -> HealthCheck:
    version = store.promotions.champion(city)
    if version is None:
        text = f"no champion; a baseline serves (to train: forecast train --city {city.name})"
        return HealthCheck("champion", city.name, WARNING, text)
    if wrong := problems(store, city, version):
        return HealthCheck("champion", city.name, FAILURE, f"{wrong[0]}; a baseline serves")
    try:
        manifest = read_manifest(models_root(), city.name, version)
    except FlowcastError as error:
        return HealthCheck("champion", city.name, FAILURE, str(error))
    days = float(
        (now - np.datetime64(manifest.trained[1].removesuffix("Z"), "s")) / (86400 * SECOND)
    )
    status = WARNING if days > MAX_CHAMPION_AGE else OK
    text = f"version {version} is trained on flow until {days:.1f} days ago"
    return HealthCheck("champion", city.name, status, text, days, "days")


def _runs(store: Store, city: City, now: np.datetime64) -> Iterator[HealthCheck]:
    for job, limit in TIME_LIMITS.items():
        table = store.runs.table(city.name, job, last=1)
        if table.empty:
            yield HealthCheck(job, city.name, OK, "has never run")
            continue
        row = table.iloc[0]
        slot = stamp(np.datetime64(row["scheduled_for"], "s"), city.timezone)
        since = float((now - np.datetime64(row["started_at"], "s")) / SECOND)
        status = FAILURE if row["outcome"] == FAILED else OK
        text = f"{row['outcome']} for {slot}: {row['message']}".removesuffix(": ")
        if row["outcome"] == RUNNING and since > limit:
            status, text = FAILURE, f"{text} since {duration(since)}, longer than it may"
        elif job == "nightly" and since > NIGHT_TIMEOUT:
            status, text = WARNING, f"{text}; it ran last {duration(since)} ago"
        # Updates since then have done its work.
        unfinished = store.runs.is_unfinished("arrival", city.name, now, TIME_LIMITS["arrival"])
        if job == "arrival" and status == FAILURE and not unfinished:
            status, text = OK, f"{text}; a later update has done its work"
        yield HealthCheck(job, city.name, status, text)


def _drift(store: Store, city: City) -> HealthCheck:
    table = store.drifts.table(city, last=1)
    if table.empty or not table.iloc[0]["flagged"]:
        return HealthCheck("drift", city.name, OK, "no drift", 0.0)
    return HealthCheck("drift", city.name, WARNING, str(table.iloc[0]["message"]), 1.0)


def _inbox(city: City, now: np.datetime64) -> HealthCheck:
    """Returns whether files lie in the inbox that no update ingests."""
    seconds = float(now.astype("datetime64[s]").astype(np.int64))
    try:
        waiting = stale(city, seconds - INBOX_TIMEOUT)
    except (FlowcastError, OSError) as error:
        return HealthCheck("inbox", city.name, FAILURE, str(error))
    if waiting:
        text = f"{len(waiting)} files wait for {duration(INBOX_TIMEOUT)} or longer, such as {waiting[0]!r}"
        return HealthCheck("inbox", city.name, WARNING, text, float(len(waiting)), "files")
    if others := unrecognized(city):
        text = (
            f"{len(others)} entries are never ingested, such as {others[0]!r}; remove links, folders "
            f"and files that do not end in {', '.join(suffixes())}"
        )
        return HealthCheck("inbox", city.name, WARNING, text, float(len(others)), "files")
    return HealthCheck("inbox", city.name, OK, "no file waits", 0.0, "files")
