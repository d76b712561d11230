"""Live forecast: the newest slots -> the champion, or the best baseline -> store."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from data import windows
from data.city import City
from data.clock import Clock, stamp
from data.errors import FlowcastError
from data.flow import no_flow
from data.intervals import with_intervals
from data.paths import models_root
from data.store.store import Store
from forecasting.ensemble import NeuralForecaster
from forecasting.forecaster import Forecaster
from forecasting.history import History
from forecasting.intervals.conformal import PredictionIntervals
from forecasting.registry.manifest import Manifest, read_manifest
from pipelines.forecast import notes
from pipelines.forecast.calibration import intervals_at
from pipelines.forecast.champion import load_champion
from pipelines.forecast.slots import read_slots


def forecast(
    store: Store,
    city: City,
    horizon: int,
    *,
    at: np.datetime64 | None = None,
    model: str | None = None,
) -> xr.DataArray:
    """Returns and stores the forecast of the next `horizon` steps.

    Args:
        store: with the flow, to which the forecast is added.
        city: that is forecast.
        horizon: number of steps ahead.
        at: UTC; the slot that holds this time counts as the newest. None: the newest there is.
        model: version instead of the champion.

    Returns:
        dims `(init_time, lead_time, channel, y, x)` with one init_time; the attributes are
        `forecaster`, `runtime` (what ran the network, "" without one), `model_version`,
        `data_cutoff`, `trained_until`, `calibrated_until` (the newest forecast that the prediction
        intervals are calibrated by, "" without), `code_version`, `config_hash` and `notes`,
        sentences that people must see, one a line. That of a calibrated model has prediction
        intervals, see `data.intervals`.

    Raises:
        FlowcastError: there is no flow up to `at`, or no such version.
    """
    archive = _archive(store, city, at)
    serving = _champion(archive, horizon, model)
    result = _run(serving.forecaster, archive, horizon)
    if not np.isfinite(result.values).all():
        reason = f"{serving.forecaster.name} returned values that are not finite"
        serving = _stand_in(archive, horizon, model or store.promotions.champion(city), reason)
        result = _run(serving.forecaster, archive, horizon)
    intervals, further = _intervals(serving, archive, horizon)
    unknown = notes.unknown_years(result, result["valid_time"].values)
    serving = replace(serving, notes=(*serving.notes, *unknown, *further))
    if intervals is not None:
        result = with_intervals(result, intervals.around(result).values)
    result.attrs |= _attributes(serving, archive, intervals)
    store.forecasts.add(city, result)
    return result


@dataclass(frozen=True)
class _Archive:
    """What a forecast may use: the flow up to `init_time`, of which it reads what it needs.

    Attributes:
        store: with the flow.
        city: whose it is.
        init_time: start of the slot that counts as the newest, UTC; it may be missing.
        newest: start of the newest slot that is not.
    """

    store: Store
    city: City
    init_time: np.datetime64
    newest: np.datetime64

    def flow(self, lags: Sequence[int]) -> xr.DataArray:
        """Returns the slots that lie `lags` steps back, and some between."""
        offsets = -np.asarray(lags, dtype=np.int64)
        return read_slots(self.store, self.city, np.asarray([self.init_time]), offsets)


@dataclass(frozen=True)
class _Serving:
    """The forecaster that serves, its manifest if it is a model, and notes for people."""

    forecaster: Forecaster
    manifest: Manifest | None
    notes: tuple[str, ...]


def _archive(store: Store, city: City, at: np.datetime64 | None) -> _Archive:
    """Returns the archive as it was at `at`, None for the newest slot."""
    span = store.flow.span(city)
    if span is None:
        raise no_flow(city)
    if at is None:
        return _Archive(store, city, span[1], span[1])
    clock = Clock(city.step, city.timezone)
    if at >= clock.after(span[1], 1):
        raise FlowcastError(
            f"{stamp(at, city.timezone)} lies after the newest slot of {city.name}, which begins "
            f"{stamp(span[1], city.timezone)}; ingest the slots until then, or leave out --at"
        )
    before = store.flow.span(city, last=at)
    if before is None:
        raise FlowcastError(
            f"{city.name} has no flow up to {stamp(at, city.timezone)}; its first slot is "
            f"{stamp(span[0], city.timezone)}"
        )
    number = int(clock.number(at, before[1]))
    start = clock.after(before[1], number)
    init_time = start if start <= at else clock.after(before[1], number - 1)
    return _Archive(store, city, init_time, before[1])


def _champion(archive: _Archive, horizon: int, model: str | None) -> _Serving:
    """Returns the champion, or the version `model`, or the best baseline where it cannot serve."""
    store, city, init_time = archive.store, archive.city, archive.init_time
    version = model or store.promotions.champion(city)
    if version is None:
        reason = (
            f"{city.name} has no champion (to train a model: forecast train --city {city.name})"
        )
        return _stand_in(archive, horizon, None, reason)
    try:
        manifest = read_manifest(models_root(), city.name, version)
        forecaster = load_champion(store, city, version, init_time)
    except FlowcastError as error:
        if model is not None:
            raise
        return _stand_in(archive, horizon, version, f"the champion cannot serve: {error}")
    lags = forecaster.lags(horizon)
    if len(missing := windows.missing(archive.flow(lags), init_time, lags)):
        times = ", ".join(stamp(time, city.timezone) for time in missing)
        return _stand_in(archive, horizon, version, f"missing in the input: {times}")
    slower = notes.slower_runtime(manifest, forecaster.runtime)
    return _Serving(forecaster, manifest, (*slower, *notes.in_sample(manifest, init_time)))


def _stand_in(archive: _Archive, horizon: int, version: str | None, reason: str) -> _Serving:
    """Returns the best baseline, with a note that says which, why, and how it was chosen."""
    from pipelines.forecast.stand_in import best_baseline  # no forecast of a model needs it

    best = best_baseline(archive.store, archive.city, archive.init_time, horizon)
    instead = f" for version {version}, without prediction intervals" if version else ""
    note = f"{reason}; the baseline {best.forecaster.name} stands in{instead}: {best.reason}"
    return _Serving(best.forecaster, None, (note,))


def _run(forecaster: Forecaster, archive: _Archive, horizon: int) -> xr.DataArray:
    flow = archive.flow([*forecaster.lags(horizon), *forecaster.optional_lags(horizon)])
    return forecaster(History.of(flow, np.asarray([archive.init_time])), horizon)


def _intervals(
    serving: _Serving, archive: _Archive, horizon: int
) -> tuple[PredictionIntervals | None, tuple[str, ...]]:
    """Returns the prediction intervals of the model that serves, and notes on them."""
    if serving.manifest is None:
        return None, ()
    version = serving.manifest.version
    try:
        intervals = intervals_at(archive.store, archive.city, version, archive.init_time)
    except FlowcastError as error:
        return None, (f"there are no prediction intervals: {error}",)
    if intervals is None:
        return None, ()
    return intervals, notes.beyond_calibration(intervals.horizon, horizon)


def _attributes(
    serving: _Serving, archive: _Archive, intervals: PredictionIntervals | None
) -> dict[str, str]:
    manifest, forecaster = serving.manifest, serving.forecaster
    return {
        "forecaster": forecaster.name,
        "runtime": forecaster.runtime if isinstance(forecaster, NeuralForecaster) else "",
        "model_version": manifest.version if manifest else "",
        "data_cutoff": f"{archive.newest}Z",
        "trained_until": manifest.trained[1] if manifest else f"{archive.newest}Z",
        "calibrated_until": f"{np.datetime64(intervals.newest, 's')}Z" if intervals else "",
        "code_version": importlib.metadata.version("flowcast"),
        "config_hash": manifest.config_hash if manifest else "",
        "notes": "\n".join(serving.notes),
    }
