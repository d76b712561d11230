"""Doctor: what is well with flowcast and what is not, for people and for monitoring."""

import shutil
from collections.abc import Sequence
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
from pipelines.operate.job import LIMITS

WELL, WARNING, FAILURE = "ok", "warning", "failure"
LATE = 3
"""Steps after which the newest slot is late; twice as many are a failure."""
OLD = np.timedelta64(3, "D")
"""Age of a champion that is retrained every night from which on someone should look."""
BEATS = 120
"""Seconds without a heartbeat after which a scheduler is dead."""
MISSED_NIGHTS = 2.5 * 86_400
"""Seconds after the last night from which on someone should look why there is none."""
UNTAKEN = 3600.0
"""Seconds after which a file of the inbox should have been taken in."""
ROOM = 2**30
"""Bytes of the disk below which someone should look; a tenth of them is a failure."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: of it, such as `data`.
        city: whose, "" for all.
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


def examine(store: Store, cities: Sequence[City], now: np.datetime64) -> list[Finding]:
    """Returns what was found of the cities, the scheduler and the machine.

    Args:
        store: with all that is known.
        cities: that are looked at.
        now: UTC.
    """
    found = [_scheduler(store, cities, now), _disk(), _gpu(), *unreadable()]
    for city in cities:
        found += [_data(store, city, now), _gaps(store, city, now), *_champion(store, city, now)]
        found += [*_runs(store, city, now), _drift(store, city), _inbox(city, now)]
    return found


def unreadable() -> list[Finding]:
    """Returns the cities whose TOML is wrong: nothing is done for them until it is mended."""
    found = []
    for name in sorted(city_files()):
        try:
            load_city(name)
        except FlowcastError as error:
            found.append(Finding("city", name, FAILURE, str(error)))
    return found


def unable(reason: str) -> Finding:
    """Returns what is found where nothing can be looked at."""
    return Finding("store", "", FAILURE, reason)


def _scheduler(store: Store, cities: Sequence[City], now: np.datetime64) -> Finding:
    beat = store.heartbeats.newest("scheduler")
    age = None if beat is None else float((now - beat["at"]) / np.timedelta64(1, "s"))
    last = None if beat is None else beat["at"]
    if (
        (age is None or age > BEATS)
        and cities
        and all(_steps(store, one, last, now) for one in cities)
    ):
        return Finding("scheduler", "", WELL, "none; steps are started otherwise", age, "seconds")
    if beat is None or age is None:
        return Finding("scheduler", "", WARNING, "no scheduler has ever run: forecast schedule")
    place = f"on {beat['host']}, process {beat['pid']}"
    if age < -BEATS:
        text = (
            f"its heartbeat {place} is {duration(-age)} ahead; are the clocks of the hosts right?"
        )
        return Finding("scheduler", "", WARNING, text, age, "seconds")
    if age > BEATS:
        text = f"no heartbeat for {duration(age)}, the last {place}; start it: forecast schedule"
        return Finding("scheduler", "", FAILURE, text, age, "seconds")
    return Finding("scheduler", "", WELL, f"alive {place}", age, "seconds")


def _steps(store: Store, city: City, beat: np.datetime64 | None, now: np.datetime64) -> bool:
    """Returns whether steps of a city go on by other means, two slots after the last heartbeat."""
    table = store.runs.table(city.name, "step", last=1)
    if table.empty:
        return False
    begun = np.datetime64(table["started_at"].iloc[-1], "s")
    return bool(now - begun < 2 * city.step and (beat is None or begun - beat > 2 * city.step))


def _disk() -> Finding:
    folder = home()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    status = FAILURE if free < ROOM / 10 else WARNING if free < ROOM else WELL
    return Finding(
        "disk", "", status, f"{free / 2**30:,.1f} GiB free in {home()}", float(free), "bytes"
    )


def _gpu() -> Finding:
    program = shutil.which("nvidia-smi")
    text = "a GPU is there" if program else "no GPU; networks train on the processor"
    return Finding("gpu", "", WELL, text, float(bool(program)))


def _data(store: Store, city: City, now: np.datetime64) -> Finding:
    span = store.flow.span(city, last=now)
    if span is None:
        text = f"no flow; run: forecast ingest --city {city.name} PATH"
        return Finding("data", city.name, FAILURE, text)
    end = Clock(city.step, city.timezone).after(span[1], 1)
    late = float((now - end) / np.timedelta64(1, "s"))
    steps = late / float(city.step / np.timedelta64(1, "s"))
    status = FAILURE if steps > 2 * LATE else WARNING if steps > LATE else WELL
    text = f"newest slot {stamp(span[1], city.timezone)}, over for {duration(max(late, 0))}"
    return Finding("data", city.name, status, text, late, "seconds")


def _gaps(store: Store, city: City, now: np.datetime64) -> Finding:
    span = store.flow.span(city, last=now)
    if span is None:
        return Finding("gaps", city.name, WELL, "no flow, no gaps")
    clock = Clock(city.step, city.timezone)
    back = clock.after(span[1], 1 - city.slots_per_day)
    flow = store.flow.read(city, first=back, last=span[1])
    lacking = len(windows.missing(flow, span[1], range(city.slots_per_day)))
    status = WARNING if lacking else WELL
    text = f"{lacking} of the newest {city.slots_per_day} slots are missing"
    return Finding("gaps", city.name, status, text, float(lacking), "slots")


def _champion(store: Store, city: City, now: np.datetime64) -> list[Finding]:
    version = store.promotions.champion(city)
    if version is None:
        text = f"no champion; a baseline serves (to train: forecast train --city {city.name})"
        return [Finding("champion", city.name, WARNING, text)]
    if wrong := problems(store, city, version):
        return [Finding("champion", city.name, FAILURE, f"{wrong[0]}; a baseline serves")]
    try:
        manifest = read_manifest(models_root(), city.name, version)
    except FlowcastError as error:
        return [Finding("champion", city.name, FAILURE, str(error))]
    age = now - np.datetime64(manifest.trained[1].removesuffix("Z"), "s")
    days = float(age / np.timedelta64(1, "D"))
    status = WARNING if age > OLD + np.timedelta64(7, "D") else WELL
    text = f"version {version} knows the flow until {days:.1f} days ago"
    return [Finding("champion", city.name, status, text, days, "days")]


def _runs(store: Store, city: City, now: np.datetime64) -> list[Finding]:
    found = []
    for job in LIMITS:
        table = store.runs.table(city.name, job, last=1)
        if table.empty:
            found.append(Finding(job, city.name, WELL, "has never run"))
            continue
        row = table.iloc[0]
        at = stamp(np.datetime64(row["scheduled_for"], "s"), city.timezone)
        since = float((now - np.datetime64(row["started_at"], "s")) / np.timedelta64(1, "s"))
        status = FAILURE if row["outcome"] == FAILED else WELL
        text = f"{row['outcome']} for {at}: {row['message']}".removesuffix(": ")
        if row["outcome"] == RUNNING and since > LIMITS[job]:
            status, text = FAILURE, f"{text}, since {duration(since)}, longer than it may"
        elif job == "nightly" and since > MISSED_NIGHTS:
            status, text = WARNING, f"{text}, the last one, {duration(since)} ago"
        # Steps since then have made all of what came.
        unfinished = store.runs.is_unfinished("arrival", city.name, now, LIMITS["arrival"])
        if job == "arrival" and status == FAILURE and not unfinished:
            status, text = WELL, f"{text}; made good since"
        found.append(Finding(job, city.name, status, text))
    return found


def _drift(store: Store, city: City) -> Finding:
    table = store.drifts.table(city, last=1)
    if table.empty or not table.iloc[0]["flagged"]:
        return Finding("drift", city.name, WELL, "nothing unusual", 0.0)
    return Finding("drift", city.name, WARNING, str(table.iloc[0]["message"]), 1.0)


def _inbox(city: City, now: np.datetime64) -> Finding:
    """Returns whether files lie in the inbox that are not ingested."""
    try:
        left = stale(city, float(now.astype("datetime64[s]").astype(np.int64)) - UNTAKEN)
    except (FlowcastError, OSError) as error:
        return Finding("inbox", city.name, FAILURE, str(error))
    if left:
        text = f"{len(left)} files wait for {duration(UNTAKEN)} or longer, the first {left[0]!r}"
        return Finding("inbox", city.name, WARNING, text, float(len(left)), "files")
    if others := unrecognized(city):
        text = (
            f"{len(others)} names are never ingested, the first {others[0]!r}: links, folders, and files "
            f"of other kinds than {', '.join(suffixes())}; take them away"
        )
        return Finding("inbox", city.name, WARNING, text, float(len(others)), "files")
    return Finding("inbox", city.name, WELL, "no file waits", 0.0, "files")
