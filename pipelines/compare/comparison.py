"""A contest: many ways of forecasting a city, fitted before its test span and judged on it.

Each run keeps what it made in one file, so that a contest that was ended goes on where it was, and
another one on the same flow by the same plan takes what is there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from data import windows
from data.city import City
from data.clock import Clock, stamp
from data.errors import FlowcastError
from data.files import ensure_folder, exclusive_lock
from data.flow import split
from data.paths import comparisons_folder
from data.store.store import Store
from pipelines.compare.contest_processes import Began, Ended, jobs_that_fit, made
from pipelines.compare.contestants import Archive, Plan, Run, judged, key_of, spans
from pipelines.compare.run import Kept, errors_by_window, label, read, stacks


@dataclass(frozen=True)
class Held:
    """A contest that is over.

    Attributes:
        city: whose flow it was.
        flow: of the city.
        plan: of the contest.
        runs: what each left, in their order; without those that failed.
        floor: errors of the expected flow itself where it is known, as those of the runs; nothing
            can be better.
        failed: by label why a run left nothing.
        folder: with the files.
    """

    city: City
    flow: xr.DataArray
    plan: Plan
    runs: dict[Run, Kept]
    floor: xr.Dataset | None
    failed: dict[str, str]
    folder: Path


def hold(
    store: Store, city: City, runs: Sequence[Run], plan: Plan, jobs: int | None = None
) -> Iterator[Began | Ended | Held]:
    """Makes the runs that are not there yet; yields how it goes on, at the end the contest.

    Args:
        store: with the flow.
        city: that is forecast.
        runs: as `contest_plan.chosen` returns them.
        plan: of the contest.
        jobs: runs at a time; as many as cores and memory allow if None.

    Raises:
        FlowcastError: too little flow, a run would need what is not installed, or another contest on
            the same flow is under way.
    """
    archive = Archive.of(store, city)
    flow = archive.flow
    init_times = _windows(flow, city, plan)
    folder = comparisons_folder(city.name) / key_of(archive, plan)
    paths = {run: folder / run.file(plan) for run in runs}
    ensure_folder(folder)
    failed: dict[str, str] = {}
    with exclusive_lock(folder / ".lock", f"another contest of {city.name} is under way"):
        for stray in folder.glob(".*.npz.*"):
            stray.unlink()  # of a run that was ended while it wrote
        left = {run: path for run, path in paths.items() if read(path, flow) is None}
        for event in made(archive, left, plan, jobs or jobs_that_fit(flow)):
            if isinstance(event, Ended) and event.failed:
                failed[event.label] = event.failed
            yield event
    kept = {run: read(path, flow) for run, path in paths.items()}
    there = {run: one for run, one in kept.items() if one is not None}
    floor = _floor(store, city, flow, init_times, plan)
    yield Held(city, flow, plan, there, floor, failed, folder)


def _windows(flow: xr.DataArray, city: City, plan: Plan) -> np.ndarray:
    span = spans(split(flow, city))["test"]
    init_times = judged(flow, *span, plan)
    if not len(init_times):
        first, last = (stamp(time, city.timezone) for time in span)
        raise FlowcastError(
            f"no {plan.horizon + 1} slots in a row of {city.name} from {first} to {last}; ask for a "
            f"shorter horizon, or ingest the missing slots (see: forecast check --city {city.name})"
        )
    return init_times


def _floor(
    store: Store, city: City, flow: xr.DataArray, init_times: np.ndarray, plan: Plan
) -> xr.Dataset | None:
    """Returns the errors of the expected flow of a simulated city."""
    clock = Clock.of(flow)
    last = clock.after(init_times[-1], plan.horizon)
    expected = store.flow.read(city, "expected", first=init_times[0], last=last)
    if not np.isin(init_times, windows.whole(expected, (), plan.horizon)).all():
        return None
    values = np.empty((len(init_times), plan.horizon, *flow.shape[1:]), dtype=np.float32)
    for stack in stacks(flow, init_times, plan.horizon):
        values[stack] = windows.future(expected, init_times[stack], plan.horizon).values
    return errors_by_window(label(values, init_times, flow), flow)
