"""Standings: the errors of all who took part in a contest, on the same windows, and what they prove.

Where there are several seeds a contestant has two entries: the mean of the seeds' errors, as one
training alone would have, and the error of the mean of their forecasts. Peers that were shown what trees
were shown have entries with trees beside them too, as the city's own forecaster has.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add

import numpy as np
import xarray as xr

from data import windows
from data.clock import Clock, wall
from data.errors import FlowcastError
from forecasting.intervals.conformal import Bands
from forecasting.intervals.coverage import Followed
from forecasting.metrics import errors_of
from forecasting.significance import Comparison, compare
from pipelines.compare.comparison import Held
from pipelines.compare.contest_mixtures import Mixed, mixtures
from pipelines.compare.contestants import FULL, OWN, Contestant, Run
from pipelines.compare.run import Kept, errors_by_window

FLOOR = "floor (expected flow)"
LOSSES = {"squared": "rmse", "absolute": "mae"}
"""Sums that are compared, and the errors that they make."""


@dataclass(frozen=True)
class Entry:
    """A row of the table.

    Attributes:
        name: of the row.
        contestant: whose it is, None for the floor.
        runs: behind it, with what they left.
        together: whether their forecasts are averaged, and not their errors.
        sums: of the errors by window, as `forecasting.metrics.sums_by_window`: one for each run, or
            one of the mean of their forecasts.
    """

    name: str
    contestant: Contestant | None
    runs: Mapping[Run, Kept | Mixed]
    together: bool
    sums: tuple[xr.Dataset, ...]

    @cached_property
    def errors(self) -> xr.Dataset:
        """Errors as of `forecasting.metrics.errors_of`, with the further dim `seed`."""
        return xr.concat([errors_of(one.sum("init_time")) for one in self.sums], "seed")

    @property
    def rmse(self) -> float:
        """Mean RMSE over the seeds, of all leads and both channels."""
        return float(self.errors["rmse"].sel(channel="both")[:, -1].mean())

    @property
    def validation(self) -> float:
        """Mean over the seeds of the RMSE on the validation span; NaN of the floor."""
        errors = [kept.facts["validation"].get("all", np.nan) for kept in self.runs.values()]
        return float(np.mean(errors)) if errors else float("nan")

    def forecast(self, flow: xr.DataArray) -> xr.DataArray:
        """Returns the mean of the runs' forecasts, dims `(init_time, lead_time, channel, y, x)`."""
        each = (kept.forecast(flow) for kept in self.runs.values())
        return reduce(add, each) / np.float32(len(self.runs))

    def selected(self, flow: xr.DataArray) -> xr.DataArray:
        """Returns the mean of what their selections forecast of the validation span."""
        each = (kept.selected(flow) for kept in self.runs.values())
        return reduce(add, each) / np.float32(len(self.runs))


@dataclass(frozen=True)
class Standings:
    """What a contest found.

    Attributes:
        held: the contest.
        init_times: of the windows that all entries are judged on.
        entries: the best first.
        main: the entry that is compared with all others.
        rival: the best of them that is not made by the same contestant; None where there is none.
        comparisons: of the main entry with each other one, by name and by loss, over all leads.
        left_out: names of contestants whose input no window of the test span has.
    """

    held: Held
    init_times: np.ndarray
    entries: tuple[Entry, ...]
    main: Entry
    rival: Entry | None
    comparisons: Mapping[str, Mapping[str, Comparison]]
    left_out: tuple[str, ...]

    @cached_property
    def banded(self) -> xr.Dataset | None:
        """What the main entry's bands held, sums as `forecasting.intervals.coverage.covered` returns them.

        They are calibrated on what its selection forecast of the validation span, and learn each night
        of the test span from the scores that have become known. None where there is no such forecast.
        """
        flow, horizon = self.held.flow, self.held.plan.horizon
        aside = self.main.selected(flow)
        if not aside.sizes["init_time"]:
            return None
        came = windows.future(flow, aside["init_time"].values, horizon)
        forecast = self.main.forecast(flow).sel(init_time=self.init_times)
        came_later = windows.future(flow, self.init_times, horizon)
        return Followed(Bands.empty(horizon).scored(aside, came)).after(forecast, came_later).total


def standings(held: Held) -> Standings:
    """Returns the standings of a contest.

    Raises:
        FlowcastError: there is no window that all can forecast.
    """
    able = {run: kept for run, kept in held.runs.items() if whole(kept.sums).any()}
    init_times = _common([kept.sums for kept in able.values()])
    if not len(init_times):
        raise FlowcastError(
            f"there is no window of the test days of {held.city.name} that all of {len(held.runs)} runs "
            f"have forecast; name fewer networks, or ingest the missing slots "
            f"(see: forecast check --city {held.city.name})"
        )
    entries = sorted(_entries(held, able, init_times), key=lambda entry: entry.rmse)
    main = _main(entries)
    others = [one for one in entries if one is not main and one.contestant is not None]
    rivals = [one for one in others if one.contestant != main.contestant]
    left_out = {run.contestant.name for run in held.runs if run not in able}
    return Standings(
        held,
        init_times,
        tuple(entries),
        main,
        min(rivals, key=lambda entry: entry.rmse, default=None),
        {one.name: _compared(main, one, held) for one in others},
        tuple(sorted(left_out)),
    )


def whole(sums: xr.Dataset) -> np.ndarray:
    """Returns which windows were forecast, `(init_time,)`."""
    return np.asarray((sums["count"].values > 0).all(axis=(1, 2)))


def by_group(sums: xr.Dataset, groups: np.ndarray) -> xr.Dataset:
    """Returns the sums of all windows by group, both channels together.

    Args:
        sums: dims `(init_time, lead_time, channel)`.
        groups: `(init_time, lead_time)`, which one each forecast belongs to.

    Returns:
        dims `(group, lead_time)`, the coordinate `group` with what there is, sorted.
    """
    found, at = np.unique(groups, return_inverse=True)
    leads = np.broadcast_to(np.arange(groups.shape[1]), groups.shape)
    flat = {}
    for name, values in sums.data_vars.items():
        total = np.zeros((len(found), groups.shape[1]))
        np.add.at(total, (at.reshape(groups.shape), leads), values.values.sum(axis=2))
        flat[str(name)] = (("group", "lead_time"), total)
    return xr.Dataset(flat, {"group": found, "lead_time": sums["lead_time"].values})


def local_times(init_times: np.ndarray, flow: xr.DataArray, horizon: int) -> np.ndarray:
    """Returns what clocks show at the times that are forecast, `(init_time, lead_time)`."""
    clock = Clock.of(flow)
    times = clock.time(init_times[:, None], np.arange(1, horizon + 1))
    return wall(times, clock.timezone)


def daily(entry: Entry, held: Held) -> xr.Dataset:
    """Returns the mean over an entry's seeds of the sums by local day, dims `(group, lead_time)`.

    Days of which less than half is forecast, at the ends of the span, are left out.
    """
    init_times = entry.sums[0]["init_time"].values
    days = local_times(init_times, held.flow, held.plan.horizon).astype("datetime64[D]")
    each = [by_group(one, days) for one in entry.sums]
    mean = reduce(add, each) / len(each)
    count = mean["count"].sum("lead_time")
    return mean.isel(group=np.flatnonzero(count > count.max() / 2))


def _compared(main: Entry, other: Entry, held: Held) -> dict[str, Comparison]:
    """Returns the paired tests of the daily losses of two entries."""
    ours, theirs = (daily(one, held).sum("lead_time") for one in (main, other))
    return {
        loss: compare((ours[loss] / ours["count"]).values, (theirs[loss] / theirs["count"]).values)
        for loss in LOSSES
    }


def _entries(held: Held, able: Mapping[Run, Kept], init_times: np.ndarray) -> Iterator[Entry]:
    """Yields the entries of all who have a forecast, on the windows that all have."""
    of: dict[Contestant, dict[Run, Kept]] = {}
    for run, kept in able.items():
        of.setdefault(run.contestant, {})[run] = kept
    entrants: dict[Contestant, Mapping[Run, Kept | Mixed]] = {
        **of,
        **dict(mixtures(able, held.flow)),
    }
    for contestant, runs in entrants.items():
        each = tuple(kept.sums.sel(init_time=init_times) for kept in runs.values())
        yield Entry(contestant.name, contestant, runs, False, each)
        if len(runs) > 1:
            name = f"{contestant.name}, mean of {len(runs)}"
            yield Entry(name, contestant, runs, True, (_together(runs, held, init_times),))
    if held.floor is not None:
        yield Entry(FLOOR, None, {}, False, (held.floor.sel(init_time=init_times),))


def _together(runs: Mapping[Run, Kept | Mixed], held: Held, init_times: np.ndarray) -> xr.Dataset:
    """Returns the errors of the mean of several runs' forecasts."""
    mean = Entry("", None, runs, True, ()).forecast(held.flow)
    return errors_by_window(mean.sel(init_time=init_times), held.flow)


def _common(all_sums: Sequence[xr.Dataset]) -> np.ndarray:
    """Returns the init_times of the windows that all have forecast."""
    if not all_sums:
        return np.empty(0)
    every = np.all([whole(sums) for sums in all_sums], axis=0)
    return np.asarray(all_sums[0]["init_time"].values[every])


def _main(entries: Sequence[Entry]) -> Entry:
    """Returns the city's own forecaster, of its seeds together, or who did best on validation."""
    own = [[one for one in entries if one.contestant == of] for of in (OWN, FULL)]
    theirs = own[0] or own[1]
    trained = [one for one in entries if one.contestant and one.contestant.maker.chance]
    among = theirs or trained or [one for one in entries if one.contestant]
    return min(among, key=lambda entry: (not entry.together, entry.validation))
