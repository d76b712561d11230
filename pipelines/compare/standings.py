"""Standings: the errors of all contestants on the same windows, and whether they differ by chance.

With several seeds a contestant has two entries: the mean of the seeds' errors, which one training has, and
the errors of the mean of their forecasts. Networks with covariates have entries with trees beside them too,
as the city's own forecaster has.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import add

import numpy as np
import xarray as xr

from data import windows
from data.errors import FlowcastError
from data.files import exclusive_lock
from forecasting import significance
from forecasting.intervals.conformal import PredictionIntervals
from forecasting.intervals.coverage import OnlineIntervals
from forecasting.metrics import errors_of
from forecasting.networks import DEFAULT, NETWORKS
from forecasting.stacking import least_squares_weight
from pipelines.compare.comparison import Comparison
from pipelines.compare.contestants import FULL, OWN, Contestant, Run
from pipelines.compare.run import (
    Progress,
    RunResult,
    combined,
    errors_by_window,
    make_runs,
    path_of,
    read,
)

FLOOR = "floor (expected flow)"


@dataclass(frozen=True)
class Entry:
    """A row of the table."""

    name: str
    contestant: Contestant | None  # None for the floor
    runs: Mapping[int, RunResult]  # by seed
    scored: tuple[RunResult, ...]  # whose errors count: the runs, or the mean of their forecasts

    @cached_property
    def errors(self) -> xr.Dataset:
        """Errors of both channels as of `forecasting.metrics.errors_of`, dims `(seed, lead_time)`."""
        errors = [errors_of(one.sums.sum("init_time")) for one in self.scored]
        return xr.concat(errors, "seed").sel(channel="both")

    @property
    def rmse(self) -> float:
        """Mean RMSE over the seeds, of all leads."""
        return float(self.errors["rmse"][:, -1].mean())

    def by_group(self, groups: np.ndarray) -> xr.Dataset:
        """Returns the mean over the seeds of the sums of errors, both channels together.

        Takes the group of each forecast, `(init_time, lead_time)`; returns dims `(group, lead_time)`, sorted.
        """
        mean = reduce(add, (one.sums for one in self.scored)).sum("channel") / len(self.scored)
        frame = mean.to_dataframe(dim_order=["init_time", "lead_time"]).assign(group=groups.ravel())
        return frame.groupby(["group", "lead_time"]).sum().to_xarray().fillna(0)

    def by_day(self, comparison: Comparison) -> xr.Dataset:
        """Returns the sums of all leads by local day, of which more than half is forecast."""
        times = comparison.local_times(self.scored[0].sums["init_time"].values)
        total = self.by_group(times.astype("datetime64[D]")).sum("lead_time")
        return total.isel(group=np.flatnonzero(total["count"] > total["count"].max() / 2))


@dataclass(frozen=True)
class ComparisonResult:
    """What a comparison found."""

    comparison: Comparison
    init_times: np.ndarray  # of the windows that all entries are tested on
    entries: Sequence[Entry]  # the best first
    main: Entry  # is tested against all others
    rival: Entry | None  # the best of those that another contestant made
    left_out: Sequence[str]  # contestants whose input no window of the test span has
    failed: Mapping[str, str]  # by label, why a run left nothing

    def test(self, entry: Entry, loss: str) -> significance.Comparison:
        """Returns the paired test of the main entry's daily losses, `squared` or `absolute`, and others'."""
        ours, theirs = (one.by_day(self.comparison) for one in (self.main, entry))
        return significance.compare(
            (ours[loss] / ours["count"]).values, (theirs[loss] / theirs["count"]).values
        )

    def forecast(self, entry: Entry) -> xr.DataArray:
        """Returns what an entry of one run, or of the mean of runs, forecasts of the test span."""
        made = entry.scored[0].forecast(self.comparison.flow, "test")
        return made.sel(init_time=self.init_times)

    @cached_property
    def observed(self) -> xr.DataArray:
        """What `forecast` is compared with."""
        return windows.future(self.comparison.flow, self.init_times, self.comparison.horizon)

    @cached_property
    def coverage(self) -> xr.Dataset:
        """How the main entry's prediction intervals cover, as `forecasting.intervals.coverage.covered`.

        They are calibrated on the validation span, and updated each night of the test span.
        """
        flow, horizon = self.comparison.flow, self.comparison.horizon
        first = self.main.scored[0].forecast(flow, "validation")
        known = windows.future(flow, first["init_time"].values, horizon)
        followed = OnlineIntervals(PredictionIntervals.empty(horizon).scored(first, known))
        total = followed.after(self.forecast(self.main), self.observed).total
        assert total is not None
        return total


def compare_runs(
    comparison: Comparison, runs: Sequence[Run], jobs: int | None = None
) -> Iterator[Progress | ComparisonResult]:
    """Makes the runs that are missing, `jobs` at a time or as many as cores and memory allow.

    Yields the progress, and at the end what all show.

    Raises:
        FlowcastError: a run would need what is not installed, another comparison is under way, or there is
            no window that all can forecast.
    """
    flow, folder = comparison.flow, comparison.folder
    paths, failed = {run: path_of(run, comparison) for run in runs}, {}
    with exclusive_lock(
        folder / ".lock", f"another comparison of {comparison.city.name} is under way"
    ):
        for stray in folder.glob(".*.npz.*"):
            stray.unlink()  # of a run that was ended while it wrote
        missing = {path: run for run, path in paths.items() if read(path, flow) is None}
        for event in make_runs(comparison, missing, jobs):
            if isinstance(event.outcome, str):
                failed[event.run.label] = event.outcome
            yield event
    found = {run: read(path, flow) for run, path in paths.items()}
    yield standings(comparison, {run: one for run, one in found.items() if one}, failed)


def standings(
    comparison: Comparison, runs: Mapping[Run, RunResult], failed: Mapping[str, str]
) -> ComparisonResult:
    """Returns what runs show, each with what it left, beside those that failed.

    Raises:
        FlowcastError: there is no window that all can forecast.
    """
    complete = {run: (one.sums["count"].values > 0).all(axis=(1, 2)) for run, one in runs.items()}
    able = {run: one for run, one in runs.items() if complete[run].any()}
    every = np.all([complete[run] for run in able] or [np.zeros(1, bool)], axis=0)
    if not every.any():
        city = comparison.city.name
        raise FlowcastError(
            f"there is no window of the test days of {city} that all of {len(runs)} runs have forecast; "
            f"name fewer networks, or ingest the missing slots (see: forecast check --city {city})"
        )
    init_times = next(iter(able.values())).sums["init_time"].values[every]
    entries = sorted(_entries(able, comparison, init_times), key=lambda entry: entry.rmse)
    main = _main(entries)
    rivals = [one for one in entries if one.contestant not in (main.contestant, None)]
    left_out = sorted({run.contestant.name for run in runs if run not in able})
    rival = rivals[0] if rivals else None
    return ComparisonResult(comparison, init_times, entries, main, rival, left_out, failed)


def stacked(runs: Mapping[Run, RunResult], flow: xr.DataArray) -> dict[Run, RunResult]:
    """Returns each network with covariates but the city's own, with trees beside it.

    Where the city's own forecaster has networks on raw flow beside it too, so has each other network. Each
    weight is that of least squares on the validation span, given those before it.
    """
    of = {(one.family, one.inputs, seed): made for (one, seed), made in runs.items()}
    both = any(one.facts["plain"] for one in runs.values())
    found = {}
    for (one, seed), made in runs.items():
        trees = of.get(("trees", "covariates", seed))
        if one.family not in {*NETWORKS} - {DEFAULT} or one.inputs != "covariates" or not trees:
            continue
        raw = of.get((one.family, "raw-flow", seed)) if both else None
        for other in (trees, raw) if raw else (trees,):
            first, second = (each.forecast(flow, "validation") for each in (made, other))
            observed = windows.future(flow, first["init_time"].values, first.sizes["lead_time"])
            weight = np.float32(least_squares_weight([((first, second), observed)]))
            made = combined([made, other], flow, lambda x, y, weight=weight: x + weight * (y - x))
        name = f"{one.family} and trees, {'raw flow and ' if raw else ''}covariates"
        found[Run(replace(one, name=name), seed)] = made
    return found


def _entries(
    runs: Mapping[Run, RunResult], comparison: Comparison, init_times: np.ndarray
) -> Iterator[Entry]:
    """Yields the entries of all who have a forecast, on the windows that all have."""
    flow, horizon = comparison.flow, comparison.horizon
    of: dict[Contestant, dict[int, RunResult]] = {}
    for run, one in {**runs, **stacked(runs, flow)}.items():
        of.setdefault(run.contestant, {})[run.seed] = one

    def on(*results: RunResult) -> tuple[RunResult, ...]:
        return tuple(replace(one, sums=one.sums.sel(init_time=init_times)) for one in results)

    for contestant, seeds in of.items():
        yield Entry(contestant.name, contestant, seeds, on(*seeds.values()))
        if (count := len(seeds)) > 1:
            mean = combined(
                [*seeds.values()], flow, lambda *each: reduce(add, each) / np.float32(len(each))
            )
            yield Entry(f"{contestant.name}, mean of {count}", contestant, seeds, on(mean))
    if np.isin(init_times, windows.whole(comparison.expected, (), horizon)).all():
        expected = windows.future(comparison.expected, init_times, horizon)
        floor = RunResult(lambda *_: expected, errors_by_window(expected, flow), {})
        yield Entry(FLOOR, None, {}, (floor,))


def _main(entries: Sequence[Entry]) -> Entry:
    """Returns the city's own forecaster, of its seeds together, or who did best on validation."""
    own = [[one for one in entries if one.contestant == of] for of in (OWN, FULL)]
    trained = [one for one in entries if one.contestant and one.contestant.random]
    among = own[0] or own[1] or trained or [one for one in entries if one.contestant]

    def key(entry: Entry) -> tuple[bool, float]:
        validation = [one.facts["validation"]["all"] for one in entry.runs.values()]
        return len(entry.scored) == len(validation), float(np.mean(validation))

    return min(among, key=key)
