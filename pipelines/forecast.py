"""Forecast: the newest slots -> the champion, or the best baseline that can do -> store."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data import windows
from data.city import City
from data.clock import Clock, local
from data.errors import FlowcastError
from data.store import Store
from forecasting.baselines import AverageAndAnomaly, HistoricalAverage
from forecasting.climatology import Climatology
from forecasting.forecaster import Forecaster
from forecasting.registry import Manifest, load_version, models_root, read_manifest


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
        `forecaster`, `model_version`, `data_cutoff`, `trained_until`, `code_version`,
        `config_hash` and `notes`, sentences that people must see, one a line.

    Raises:
        FlowcastError: there is no flow up to `at`, or no such version.
    """
    archive = store.flow(city)
    init_time = _init_time(archive, city, at)
    known = archive[archive["time"].values <= init_time]
    if known.sizes["time"] == 0:
        raise FlowcastError(
            f"{city.name} has no flow up to {_local(init_time, city)}; its first slot is "
            f"{_local(archive['time'].values[0], city)}"
        )
    choice = _choose(store, known, city, init_time, horizon, model)
    result = _run(choice.forecaster, known, init_time, horizon)
    if not np.isfinite(result.values).all():
        note = f"{choice.forecaster.name} gave values that are not finite; the historical average stands in"
        choice = Choice(_average(known), None, (*choice.notes, note))
        result = _run(choice.forecaster, known, init_time, horizon)
    result.attrs |= _attributes(choice, known)
    store.add_forecast(city, result)
    return result


def _init_time(archive: xr.DataArray, city: City, at: np.datetime64 | None) -> np.datetime64:
    """Returns the start of the newest slot, or of the slot that holds `at`."""
    if archive.sizes["time"] == 0:
        raise FlowcastError(
            f"no flow for {city.name}; run: forecast ingest --city {city.name} PATH"
        )
    time = archive["time"].values
    if at is None:
        return np.datetime64(time[-1])
    clock = Clock.of(archive)
    if at >= clock.after(time[-1], 1):
        raise FlowcastError(
            f"{_local(at, city)} lies after the newest slot of {city.name}, which begins "
            f"{_local(time[-1], city)}; ingest the slots until then, or leave out --at"
        )
    before = time[time <= at]
    origin = before[-1] if len(before) else time[0]
    number = int(clock.number(at, origin))
    start = clock.after(origin, number)
    return start if start <= at else clock.after(origin, number - 1)


def _choose(
    store: Store,
    known: xr.DataArray,
    city: City,
    init_time: np.datetime64,
    horizon: int,
    model: str | None,
) -> Choice:
    """Returns the champion, or what stands in for it."""
    version = model or store.champion(city)
    if version is None:
        note = (
            f"{city.name} has no champion; this is the historical average "
            f"(to train a model: forecast train --city {city.name})"
        )
        return Choice(_average(known), None, (note,))
    manifest, notes = None, []
    try:
        manifest = read_manifest(models_root(), city.name, version)
        forecaster: Forecaster = load_version(models_root(), city, version)
    except FlowcastError as error:
        if model is not None:
            raise
        notes.append(f"the champion cannot serve: {error}")
        forecaster = AverageAndAnomaly(Climatology.fit(known))
    lags = forecaster.lags(horizon)
    if not len(absent := windows.missing(known, init_time, lags)):
        return Choice(
            forecaster, manifest if not notes else None, (*notes, *_in_sample(manifest, init_time))
        )
    forecaster = _without(known, init_time, horizon)
    names = ", ".join(_local(time, city) for time in absent)
    notes.append(
        f"missing in the input: {names}; {forecaster.name} stands in for version {version}"
    )
    return Choice(forecaster, None, tuple(notes))


def _without(known: xr.DataArray, init_time: np.datetime64, horizon: int) -> Forecaster:
    """Returns the best baseline whose input is whole; the last one needs none."""
    climatology = Climatology.fit(known)
    baselines: Sequence[Forecaster] = (
        AverageAndAnomaly(climatology),
        HistoricalAverage(climatology),
    )
    return next(
        baseline
        for baseline in baselines
        if not len(windows.missing(known, init_time, baseline.lags(horizon)))
    )


def _average(known: xr.DataArray) -> HistoricalAverage:
    return HistoricalAverage(Climatology.fit(known))


def _run(
    forecaster: Forecaster, known: xr.DataArray, init_time: np.datetime64, horizon: int
) -> xr.DataArray:
    past = windows.past(known, np.asarray([init_time]), forecaster.lags(horizon))
    return forecaster(past, horizon)


def _in_sample(manifest: Manifest | None, init_time: np.datetime64) -> tuple[str, ...]:
    """Returns a note where the model was trained on the time that it is asked to forecast."""
    if manifest is None or init_time >= np.datetime64(manifest.climatology[1].removesuffix("Z")):
        return ()
    return (
        f"version {manifest.version} was trained on flow after this time; it looks better here than it is",
    )


def _attributes(choice: Choice, known: xr.DataArray) -> dict[str, str]:
    manifest = choice.manifest
    return {
        "forecaster": choice.forecaster.name,
        "model_version": manifest.version if manifest else "",
        "data_cutoff": f"{known['time'].values[-1]}Z",
        "trained_until": manifest.climatology[1] if manifest else f"{known['time'].values[-1]}Z",
        "code_version": importlib.metadata.version("flowcast"),
        "config_hash": manifest.config_hash if manifest else "",
        "notes": "\n".join(choice.notes),
    }


def _local(time: np.datetime64, city: City) -> str:
    return f"{local(np.asarray([time]), city.timezone)[0]:%Y-%m-%d %H:%M}"
