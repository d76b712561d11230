"""Trial: the forecasters of an evaluation, and the windows of a span that all of them can do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data import windows
from data.city import City
from data.clock import Clock, stamp
from data.errors import FlowcastError
from data.flow import CHANNELS, label, no_flow, split
from data.paths import models_root
from data.store.store import Store
from forecasting.backtest import pieces
from forecasting.baselines import fit_baselines
from forecasting.covariates.climatology import Climatology
from forecasting.forecaster import Forecaster
from forecasting.intervals.conformal import PredictionIntervals
from forecasting.registry.manifest import read_manifest
from forecasting.registry.versions import load_intervals
from pipelines.forecast.champion import load_champion
from pipelines.forecast.slots import read_slots

HISTORY = 4


@dataclass(frozen=True)
class Trial:
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
        model: one of `forecasters`; None where there is none, or it is left out.
        bands: of the model as it was calibrated, None where it was not.
    """

    store: Store
    city: City
    horizon: int
    version: str
    forecasters: tuple[Forecaster, ...]
    left_out: tuple[str, ...]
    init_times: np.ndarray
    simulated: bool
    model: Forecaster | None = None
    bands: PredictionIntervals | None = None

    def flow(self, series: str, stack: np.ndarray, offsets: np.ndarray) -> xr.DataArray:
        """Returns the slots that lie `offsets` steps after any of `stack`, and some between."""
        return read_slots(self.store, self.city, stack, offsets, series)

    def stacks(self) -> Iterator[np.ndarray]:
        """Yields the init_times that are worked on at a time."""
        empty = np.empty((0, len(CHANNELS), *self.city.grid))
        return pieces(label(empty, np.empty(0), self.city), self.init_times, self.horizon)


def prepare(
    store: Store,
    city: City,
    horizon: int,
    model: str | None,
    begin: np.datetime64 | None,
    end: np.datetime64 | None,
    stride: int,
) -> Trial:
    """Returns the forecasters, fitted on what lies before the span, and their windows in it."""
    times = store.flow.times(city)
    begin, end = _span(times, city, begin, end)
    before = times[times.values < begin]
    version = model or store.promotions.champion(city) or ""
    if version:
        _check_unseen(city, version, begin)
    climatology = Climatology.fit_pieces(store.flow.chunks(city, last=before.values[-1]))
    forecasters: list[Forecaster] = [*fit_baselines(before, climatology).values()]
    own = load_champion(store, city, version) if version else None
    forecasters += [] if own is None else [own]
    able = [one for one in forecasters if len(_init_times(times, begin, end, [one], horizon))]
    init_times = _init_times(times, begin, end, able, horizon)
    expected = store.flow.times(city, "expected")
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
    serves = own is not None and own in able
    return Trial(
        store,
        city,
        horizon,
        version,
        tuple(able),
        left_out,
        init_times[every],
        expected.size > 0,
        own if serves else None,
        load_intervals(models_root(), city, version) if serves else None,
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
    seen = np.datetime64(manifest.trained[1].removesuffix("Z"))
    if seen >= begin:
        raise FlowcastError(
            f"version {version} knows the flow of {city.name} until {stamp(seen, city.timezone)}, but "
            f"the span begins {stamp(begin, city.timezone)}; evaluate a later span, train again, or "
            f"name another version with --model"
        )
