"""Evaluate: the operator protocol on the test span, for the model and all baselines alike."""

import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr

from data import windows
from data.city import City
from data.clock import Clock
from data.store.store import Store
from forecasting.history import History
from forecasting.intervals.coverage import OnlineIntervals, covered
from forecasting.metrics import errors_of, sums
from pipelines.evaluate.span import Trial, prepare
from pipelines.forecast.notes import unknown_years

FLOOR = "floor (expected flow)"
AT_ONCE = 2
"""Stacks that are scored at a time: one is read and judged while the network works on the other."""
Score = tuple[str, float, xr.Dataset]
"""A forecaster's name, the seconds that its forecasts took, and the sums of their errors."""
BANDS = ("as calibrated", "learning every day")
"""The bands that are judged: those of the version, and these with the scores of the days before."""


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
        coverage: sums as `forecasting.intervals.coverage.covered` returns them, with the further dim `bands`,
            `BANDS`; None where there is no model with bands.
        notes: what people must know of the span, such as years whose holidays are unknown.
    """

    errors: xr.Dataset
    windows: int
    first: np.datetime64
    last: np.datetime64
    version: str
    left_out: tuple[str, ...] = ()
    seconds: float = 0.0
    forecasting: Mapping[str, float] = field(default_factory=dict)
    coverage: xr.Dataset | None = None
    notes: tuple[str, ...] = ()


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
    last: nothing can be better. Of a model with bands it tells what they held: as it was calibrated,
    and with bands that learn, at the first forecast of each day, from the scores that have become
    known since. Memory does not grow with the span.

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
    trial = prepare(store, city, horizon, model, begin, end, stride)
    total: dict[str, xr.Dataset] = {}
    seconds: dict[str, float] = {}
    held: dict[str, xr.Dataset] = {}
    followed = None if trial.bands is None else OnlineIntervals(trial.bands)
    done = 0
    for scores in _side_by_side(trial):
        for name, took, part in scores.errors:
            total[name] = total[name] + part if name in total else part
            seconds[name] = seconds.get(name, 0.0) + took
        if followed is not None and scores.covered is not None:
            followed = followed.after(scores.forecast, scores.observed)
            so_far = held.get(BANDS[0])
            held[BANDS[0]] = scores.covered if so_far is None else so_far + scores.covered
        done += len(scores.observed)
        yield Scored(done, len(trial.init_times), time.monotonic() - began)
    if followed is not None and followed.total is not None:
        held[BANDS[1]] = followed.total
    table = xr.concat(
        [errors_of(one) for one in total.values()], pd.Index(total, name="forecaster")
    )
    clock = Clock(city.step, city.timezone)
    yield Evaluation(
        table,
        done,
        clock.after(trial.init_times[0], 1),
        clock.after(trial.init_times[-1], horizon),
        trial.version,
        trial.left_out,
        time.monotonic() - began,
        seconds,
        xr.concat(list(held.values()), pd.Index(held, name="bands")) if held else None,
        unknown_years(
            trial.flow("observed", trial.init_times[:1], np.zeros(1, int)), trial.init_times
        ),
    )


@dataclass(frozen=True)
class _Scores:
    """The scores of a stack of windows.

    Attributes:
        errors: of each forecaster.
        forecast: of the model; what was observed where there is none.
        observed: the same dims.
        covered: what the model's bands held as it was calibrated, None where it was not.
    """

    errors: list[Score]
    forecast: xr.DataArray
    observed: xr.DataArray
    covered: xr.Dataset | None


def _side_by_side(trial: Trial) -> Iterator[_Scores]:
    """Yields the scores of each stack in turn; two are made at a time."""
    with ThreadPoolExecutor(AT_ONCE) as workers:
        waiting: deque[Future[_Scores]] = deque()
        for stack in trial.stacks():
            waiting.append(workers.submit(_scores, trial, stack))
            if len(waiting) > AT_ONCE:
                yield waiting.popleft().result()
        for made in waiting:
            yield made.result()


def _scores(trial: Trial, stack: np.ndarray) -> _Scores:
    """Returns the scores of all forecasters on a stack of windows."""
    horizon = trial.horizon
    leads = np.arange(1, horizon + 1)
    lags = {
        lag
        for one in trial.forecasters
        for lag in (*one.lags(horizon), *one.optional_lags(horizon))
    }
    flow = trial.flow("observed", stack, np.concatenate([-np.array(sorted(lags)), leads]))
    observed = windows.future(flow, stack, horizon)
    errors: list[Score] = []
    own = observed
    for forecaster in trial.forecasters:
        began = time.monotonic()
        forecast = forecaster(History.of(flow, stack), horizon)
        errors.append((forecaster.name, time.monotonic() - began, sums(forecast, observed)))
        own = forecast if forecaster is trial.model else own
    if trial.simulated:
        expected = windows.future(trial.flow("expected", stack, leads), stack, horizon)
        errors.append((FLOOR, 0.0, sums(expected, observed)))
    around = None if trial.bands is None else trial.bands.around(own)
    held = None if around is None else covered(around, own, observed)
    return _Scores(errors, own, observed, held)
