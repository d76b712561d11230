"""Forecast: the newest slots -> the champion, or the best baseline that can do -> store."""

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
from forecasting.baselines import HistoricalAverage, PlusAnomaly
from forecasting.covariates.climatology import Climatology
from forecasting.ensemble import NeuralForecaster
from forecasting.forecaster import Forecaster
from forecasting.history import History
from forecasting.intervals.conformal import PredictionIntervals
from forecasting.registry.manifest import Manifest, read_manifest
from pipelines.forecast.calibration import bands_at
from pipelines.forecast.champion import load_champion
from pipelines.forecast.notes import unknown_years
from pipelines.forecast.slots import read_slots


@dataclass(frozen=True)
class Choice:
    """The forecaster that serves, its manifest if it is a model, and what people must know of it."""

    forecaster: Forecaster
    manifest: Manifest | None
    notes: tuple[str, ...]


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
        store: with the flow, and where the forecast is kept.
        city: that is forecast.
        horizon: number of steps ahead.
        at: UTC; the slot that holds this time counts as the newest. None: the newest there is.
        model: version in place of the champion.

    Returns:
        dims `(init_time, lead_time, channel, y, x)` with one init_time; the attributes tell
        `forecaster`, `runtime` (what ran the network, "" without one), `model_version`,
        `data_cutoff`, `trained_until`, `calibrated_until` (the newest forecast that the bands learnt
        from, "" without bands), `code_version`, `config_hash` and `notes`, sentences that people must
        see, one a line. A model that was calibrated gives bands too, see `data.intervals`.

    Raises:
        FlowcastError: there is no flow up to `at`, or no such version.
    """
    known = _known(store, city, at)
    choice = _choose(known, horizon, model)
    result = _run(choice.forecaster, known, horizon)
    if not np.isfinite(result.values).all():
        note = f"{choice.forecaster.name} gave values that are not finite; the historical average stands in"
        choice = Choice(HistoricalAverage(known.climatology()), None, (*choice.notes, note))
        result = _run(choice.forecaster, known, horizon)
    unknown = unknown_years(result, result["valid_time"].values)
    choice = replace(choice, notes=(*choice.notes, *unknown))
    bands, notes = _bands(choice, known, horizon)
    choice = replace(choice, notes=(*choice.notes, *notes))
    if bands is not None:
        result = with_intervals(result, bands.around(result).values)
    result.attrs |= _attributes(choice, known, bands)
    store.forecasts.add(city, result)
    return result


@dataclass(frozen=True)
class _Known:
    """What a forecast may see: the archive up to `init_time`, of which it reads what it needs.

    Attributes:
        store: with the archive.
        city: whose it is.
        init_time: start of the slot that counts as the newest, UTC; it may be missing.
        newest: start of the newest slot that is there.
    """

    store: Store
    city: City
    init_time: np.datetime64
    newest: np.datetime64

    def flow(self, lags: Sequence[int]) -> xr.DataArray:
        """Returns the slots that lie `lags` steps back, and some between."""
        offsets = -np.asarray(lags, dtype=np.int64)
        return read_slots(self.store, self.city, np.asarray([self.init_time]), offsets)

    def climatology(self) -> Climatology:
        """Returns the climatology of all that is known, which takes a while."""
        return Climatology.fit_pieces(self.store.flow.chunks(self.city, last=self.init_time))


def _known(store: Store, city: City, at: np.datetime64 | None) -> _Known:
    """Returns what is known at `at`, None for the newest slot."""
    span = store.flow.span(city)
    if span is None:
        raise no_flow(city)
    if at is None:
        return _Known(store, city, span[1], span[1])
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
    return _Known(store, city, init_time, before[1])


def _choose(known: _Known, horizon: int, model: str | None) -> Choice:
    """Returns the champion, or what stands in for it."""
    city = known.city
    version = model or known.store.promotions.champion(city)
    if version is None:
        note = (
            f"{city.name} has no champion; this is the historical average "
            f"(to train a model: forecast train --city {city.name})"
        )
        return Choice(HistoricalAverage(known.climatology()), None, (note,))
    try:
        manifest = read_manifest(models_root(), city.name, version)
        forecaster = load_champion(known.store, city, version, known.init_time)
    except FlowcastError as error:
        if model is not None:
            raise
        return _without(known, horizon, version, f"the champion cannot serve: {error}")
    lags = forecaster.lags(horizon)
    if len(absent := windows.missing(known.flow(lags), known.init_time, lags)):
        names = ", ".join(stamp(time, city.timezone) for time in absent)
        return _without(known, horizon, version, f"missing in the input: {names}")
    return Choice(
        forecaster,
        manifest,
        (*_slower(manifest, forecaster), *_in_sample(manifest, known.init_time)),
    )


def _without(known: _Known, horizon: int, version: str, reason: str) -> Choice:
    """Returns the best baseline whose input is whole; the last one needs none."""
    climatology = known.climatology()
    baselines: Sequence[Forecaster] = (
        PlusAnomaly(HistoricalAverage(climatology)),
        HistoricalAverage(climatology),
    )
    able = (
        one
        for one in baselines
        if not len(windows.missing(known.flow((0,)), known.init_time, one.lags(horizon)))
    )
    forecaster = next(able)
    note = f"{reason}; {forecaster.name} stands in for version {version}, without bands"
    return Choice(forecaster, None, (note,))


def _run(forecaster: Forecaster, known: _Known, horizon: int) -> xr.DataArray:
    flow = known.flow([*forecaster.lags(horizon), *forecaster.optional_lags(horizon)])
    return forecaster(History.of(flow, np.asarray([known.init_time])), horizon)


def _bands(
    choice: Choice, known: _Known, horizon: int
) -> tuple[PredictionIntervals | None, tuple[str, ...]]:
    """Returns the bands of the model that serves, and what people must know of them."""
    if choice.manifest is None:
        return None, ()
    version = choice.manifest.version
    try:
        bands = bands_at(known.store, known.city, version, known.init_time)
    except FlowcastError as error:
        return None, (f"there are no bands: {error}",)
    if bands is None or horizon <= bands.horizon:
        return bands, ()
    note = (
        f"bands are calibrated for {bands.horizon} steps; the later ones have those of step "
        f"{bands.horizon}, which may be too narrow"
    )
    return bands, (note,)


def _slower(manifest: Manifest, forecaster: NeuralForecaster) -> tuple[str, ...]:
    """Returns a note where torch runs a version that has an export."""
    if "sha256" not in manifest.export or forecaster.runtime != "torch":
        return ()
    return (
        f"the ONNX file of version {manifest.version} is damaged or cannot be read; torch runs the "
        f"same network, more slowly, until one is trained anew",
    )


def _in_sample(manifest: Manifest, init_time: np.datetime64) -> tuple[str, ...]:
    """Returns a note where the model was trained on the time that it is asked to forecast."""
    if init_time >= np.datetime64(manifest.trained[1].removesuffix("Z")):
        return ()
    return (
        f"version {manifest.version} was trained on flow after this time; it looks better here than it is",
    )


def _attributes(choice: Choice, known: _Known, bands: PredictionIntervals | None) -> dict[str, str]:
    manifest, forecaster = choice.manifest, choice.forecaster
    return {
        "forecaster": forecaster.name,
        "runtime": forecaster.runtime if isinstance(forecaster, NeuralForecaster) else "",
        "model_version": manifest.version if manifest else "",
        "data_cutoff": f"{known.newest}Z",
        "trained_until": manifest.trained[1] if manifest else f"{known.newest}Z",
        "calibrated_until": f"{np.datetime64(bands.newest, 's')}Z" if bands else "",
        "code_version": importlib.metadata.version("flowcast"),
        "config_hash": manifest.config_hash if manifest else "",
        "notes": "\n".join(choice.notes),
    }
