"""Evaluate: the operator protocol on the test span, for the model and all baselines alike."""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr

from data import windows
from data.city import City
from data.clock import Clock, stamp
from data.errors import FlowcastError
from data.flow import CHANNELS, no_flow, split
from data.store import Store
from forecasting.baselines import BASELINES
from forecasting.climatology import Climatology
from forecasting.forecaster import Forecaster
from forecasting.metrics import errors_of, sums
from forecasting.registry import load_version, models_root, read_manifest

HISTORY = 4
FLOOR = "floor (expected flow)"
PIECE = 2**24
"""Bytes that the past and the future of a stack of windows may take."""
AT_ONCE = 2
"""Stacks that are scored at a time: one is read and judged while the network works on the other."""
Score = tuple[str, float, xr.Dataset]
"""A forecaster's name, the seconds that its forecasts took, and the sums of their errors."""


@dataclass(frozen=True)
class Evaluation:
    """The errors of several forecasters on the same windows.

    Attributes:
        errors: as `forecasting.metrics.errors` returns them, with the further dim `forecaster`.
        windows: number of windows, the same for all.
        first: first slot that is forecast, UTC.
        last: last slot that is forecast, UTC.
        version: of the model, "" where there is none.
        left_out: names of the baselines whose input no window of the span has.
        seconds: that all of it took, fitting and reading too.
        forecasting: the seconds that each forecaster took for its forecasts, by name, some side by side.
    """

    errors: xr.Dataset
    windows: int
    first: np.datetime64
    last: np.datetime64
    version: str
    left_out: tuple[str, ...] = ()
    seconds: float = 0.0
    forecasting: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """How far an evaluation is.

    Attributes:
        windows: that are done, by all forecasters.
        planned: windows in all.
        seconds: since it began.
    """

    windows: int
    planned: int
    seconds: float


def evaluate(
    store: Store,
    city: City,
    *,
    horizon: int = 4,
    model: str | None = None,
    begin: np.datetime64 | None = None,
    end: np.datetime64 | None = None,
    stride: int = 1,
) -> Evaluation:
    """Returns the errors on a span of time, by default the city's test days.

    The baselines are fitted on all flow before the span; the model is the champion unless `model`
    names a version. All see the same windows: those whose every past slot, of any forecaster, and
    every future slot is there. Of a simulated city the errors of the expected flow itself stand
    last: nothing can be better. Memory does not grow with the span.

    Args:
        store: with the flow.
        city: that is evaluated.
        horizon: number of steps ahead.
        model: version in place of the champion.
        begin: UTC; no slot before it is forecast. None: the start of the test days.
        end: UTC; only slots that begin before it are forecast. None: the end of the archive.
        stride: slots from one init_time to the next.

    Raises:
        FlowcastError: too little flow, no whole window, or a model that knows the span.
    """
    for event in evaluate_in_pieces(
        store, city, horizon=horizon, model=model, begin=begin, end=end, stride=stride
    ):
        if isinstance(event, Evaluation):
            return event
    raise AssertionError("an evaluation ends with its result")


def evaluate_in_pieces(
    store: Store,
    city: City,
    *,
    horizon: int = 4,
    model: str | None = None,
    begin: np.datetime64 | None = None,
    end: np.datetime64 | None = None,
    stride: int = 1,
) -> Iterator[Scored | Evaluation]:
    """Yields how far it is after each stack of windows, then what `evaluate` returns."""
    began = time.monotonic()
    contest = _prepare(store, city, horizon, model, begin, end, stride)
    total: dict[str, xr.Dataset] = {}
    seconds: dict[str, float] = {}
    done = 0
    for size, scores in _side_by_side(contest):
        for name, took, part in scores:
            total[name] = total[name] + part if name in total else part
            seconds[name] = seconds.get(name, 0.0) + took
        done += size
        yield Scored(done, len(contest.init_times), time.monotonic() - began)
    table = xr.concat(
        [errors_of(one) for one in total.values()], pd.Index(total, name="forecaster")
    )
    clock = Clock(city.step, city.timezone)
    yield Evaluation(
        table,
        done,
        clock.after(contest.init_times[0], 1),
        clock.after(contest.init_times[-1], horizon),
        contest.version,
        contest.left_out,
        time.monotonic() - began,
        seconds,
    )


@dataclass(frozen=True)
class _Contest:
    """Forecasters, and the windows that all of them can do.

    Attributes:
        store: with the flow.
        city: whose it is.
        horizon: number of steps ahead.
        version: of the model, "" where there is none.
        forecasters: that take part.
        left_out: names of those that cannot.
        init_times: of the windows.
        simulated: whether the expected flow is known.
    """

    store: Store
    city: City
    horizon: int
    version: str
    forecasters: tuple[Forecaster, ...]
    left_out: tuple[str, ...]
    init_times: np.ndarray
    simulated: bool

    def flow(self, series: str, stack: np.ndarray, offsets: np.ndarray) -> xr.DataArray:
        """Returns the slots that lie `offsets` steps after any of `stack`, and some between."""
        clock = Clock(self.city.step, self.city.timezone)
        number = np.unique(clock.number(stack, stack[0])[:, None] + offsets)
        # A query costs as much as the reading of about a MB.
        near = 2**20 // _frame_bytes(self.city)
        runs = np.split(number, np.flatnonzero(np.diff(number) > 1 + near) + 1)
        parts = [
            self.store.flow(
                self.city,
                series,
                first=clock.after(stack[0], run[0]),
                last=clock.after(stack[0], run[-1]),
            )
            for run in runs
        ]
        return xr.concat(parts, "time") if len(parts) > 1 else parts[0]


def _prepare(
    store: Store,
    city: City,
    horizon: int,
    model: str | None,
    begin: np.datetime64 | None,
    end: np.datetime64 | None,
    stride: int,
) -> _Contest:
    """Returns the forecasters, fitted on what lies before the span, and their windows in it."""
    times = store.times(city)
    begin, end = _span(times, city, begin, end)
    before = times[times.values < begin]
    version = model or store.champion(city) or ""
    if version:
        _check_unseen(city, version, begin)
    climatology = Climatology.fit_pieces(store.pieces(city, last=before.values[-1]))
    forecasters: list[Forecaster] = [fit(before, climatology) for fit in BASELINES.values()]
    if version:
        forecasters.append(load_version(models_root(), city, version))
    able = [one for one in forecasters if len(_init_times(times, begin, end, [one], horizon))]
    init_times = _init_times(times, begin, end, able, horizon)
    expected = store.times(city, "expected")
    if expected.size:
        init_times = np.intersect1d(init_times, windows.whole(expected, (), horizon))
    if not len(init_times):
        slots = int(((times.values >= begin) & (times.values < end)).sum())
        raise FlowcastError(
            f"no {horizon} slots in a row of {city.name} from {stamp(begin, city.timezone)} to "
            f"{stamp(end, city.timezone)}, {slots} slots, have all that the forecasters need before "
            f"them; ask for a shorter horizon or another span, or ingest the missing slots "
            f"(see: forecast check --city {city.name})"
        )
    every = Clock.of(times).number(init_times, init_times[0]) % stride == 0
    left_out = tuple(one.name for one in forecasters if one not in able)
    return _Contest(
        store, city, horizon, version, tuple(able), left_out, init_times[every], expected.size > 0
    )


def _span(
    times: xr.DataArray, city: City, begin: np.datetime64 | None, end: np.datetime64 | None
) -> tuple[np.datetime64, np.datetime64]:
    """Returns from when to when slots are forecast, UTC; there is flow before."""
    if times.size == 0:
        raise no_flow(city)
    if begin is None:
        begin = split(times, city).test.values[0]
    if end is None:
        end = Clock.of(times).after(times.values[-1], 1)
    if begin <= times.values[0]:
        raise FlowcastError(
            f"{city.name} has no flow before {stamp(begin, city.timezone)} for the baselines; its first "
            f"slot is {stamp(times.values[0], city.timezone)}; begin later"
        )
    if end <= begin:
        raise FlowcastError(
            f"nothing lies between {stamp(begin, city.timezone)} and {stamp(end, city.timezone)}; "
            f"begin before the end, and before that of the archive of {city.name}, "
            f"{stamp(times.values[-1], city.timezone)}"
        )
    return begin, end


def _init_times(
    times: xr.DataArray,
    begin: np.datetime64,
    end: np.datetime64,
    forecasters: Sequence[Forecaster],
    horizon: int,
) -> np.ndarray:
    """Returns the init_times whose forecasts lie in the span and that every forecaster can make."""
    lags = set(range(HISTORY)).union(*(forecaster.lags(horizon) for forecaster in forecasters))
    init_times = windows.whole(times, sorted(lags), horizon)
    first, last = (Clock.of(times).time(init_times, np.asarray(lead)) for lead in (1, horizon))
    return np.asarray(init_times[(first >= begin) & (last < end)])


def _check_unseen(city: City, version: str, begin: np.datetime64) -> None:
    manifest = read_manifest(models_root(), city.name, version)
    seen = np.datetime64(manifest.climatology[1].removesuffix("Z"))
    if seen >= begin:
        raise FlowcastError(
            f"version {version} knows the flow of {city.name} until {stamp(seen, city.timezone)}, but "
            f"the span begins {stamp(begin, city.timezone)}; evaluate a later span, train again, or "
            f"name another version with --model"
        )


def _stacks(contest: _Contest) -> Iterator[np.ndarray]:
    """Yields the init_times in stacks whose arrays are of about the size of a piece."""
    frame, init_times = _frame_bytes(contest.city), contest.init_times
    lags = max(len(one.lags(contest.horizon)) for one in contest.forecasters)
    windows_at_once = max(1, PIECE // (frame * (lags + contest.horizon)))
    slots_at_once = max(1, PIECE // frame)
    number = Clock(contest.city.step, contest.city.timezone).number(init_times, init_times[0])
    start = 0
    while start < len(init_times):
        near = int(np.searchsorted(number, number[start] + slots_at_once))
        stop = min(start + windows_at_once, near)
        yield init_times[start:stop]
        start = stop


def _side_by_side(contest: _Contest) -> Iterator[tuple[int, list[Score]]]:
    """Yields the scores of each stack in turn, with its windows; two are made at a time."""
    with ThreadPoolExecutor(AT_ONCE) as workers:
        waiting: deque[tuple[int, Future[list[Score]]]] = deque()
        for stack in _stacks(contest):
            waiting.append((len(stack), workers.submit(_scores, contest, stack)))
            if len(waiting) > AT_ONCE:
                size, made = waiting.popleft()
                yield size, made.result()
        for size, made in waiting:
            yield size, made.result()


def _scores(contest: _Contest, stack: np.ndarray) -> list[Score]:
    """Returns name, seconds and sums of errors of each forecaster on a stack of windows."""
    horizon = contest.horizon
    leads = np.arange(1, horizon + 1)
    lags = {lag for one in contest.forecasters for lag in one.lags(horizon)}
    flow = contest.flow("observed", stack, np.concatenate([-np.array(sorted(lags)), leads]))
    observed = windows.future(flow, stack, horizon)
    scores: list[Score] = []
    for forecaster in contest.forecasters:
        began = time.monotonic()
        forecast = forecaster(windows.past(flow, stack, forecaster.lags(horizon)), horizon)
        took = time.monotonic() - began
        scores.append((forecaster.name, took, sums(forecast, observed)))
    if contest.simulated:
        expected = windows.future(contest.flow("expected", stack, leads), stack, horizon)
        scores.append((FLOOR, 0.0, sums(expected, observed)))
    return scores


def _frame_bytes(city: City) -> int:
    return 4 * len(CHANNELS) * city.grid[0] * city.grid[1]
