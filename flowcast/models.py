"""Models: what a training made, of a city or of an array of one's own."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from data import windows
from data.city import City, load_city
from data.clock import Clock, stamp
from data.errors import FlowcastError
from data.store.store import Store
from flowcast.flows import as_flow, check_count, moment
from flowcast.own_packages import own_packages
from forecasting.forecaster import Forecaster
from forecasting.history import History


@own_packages()
def load(city: str, version: str | None = None) -> "Model":
    """Returns a model of a city, without torch where the version has its ONNX export.

    Args:
        city: name of the city, such as `"nyc"`.
        version: of the model; None for the champion.

    Raises:
        FlowcastError: there is no such city or version, no champion, or the files are damaged.
    """
    from data.paths import models_root
    from forecasting.registry.manifest import read_manifest, versions
    from pipelines.forecast.champion import load_champion

    place = load_city(city)
    with closing(Store()) as store:
        name = version or store.promotions.champion(place)
        if name is None:
            known = ", ".join(versions(models_root(), city)) or "none"
            raise FlowcastError(
                f"{city} has no champion; train one: forecast train --city {city}, "
                f"or name one of its versions: {known}"
            )
        manifest = read_manifest(models_root(), city, name)
        forecaster = load_champion(store, place, name)
    until = np.datetime64(manifest.trained[1].removesuffix("Z"), "s")
    horizon = int(manifest.training["horizon"])
    return Model(name, place, forecaster, horizon, manifest.history, until)


@dataclass(frozen=True)
class Model:
    """A trained forecaster.

    Attributes:
        name: version, or the network of a training of one's own.
        city: whose grid, step, timezone and holidays it knows.
        forecaster: that makes the forecasts.
        horizon: steps ahead that it was trained for; longer ones go on from its own forecast.
        history: newest slots that it must see.
        trained_until: newest slot that it knows, UTC; backtest it on what comes later.
        errors: of a training of one's own, as `flowcast.backtest` returns them, for the model and all
            baselines on the days held back; None for a model that was loaded.
    """

    name: str
    city: City
    forecaster: Forecaster = field(repr=False)
    horizon: int
    history: int
    trained_until: np.datetime64
    errors: xr.Dataset | None = field(default=None, repr=False)

    @own_packages()
    def forecast(
        self, flow: Any, *, at: Any = None, horizon: int = 4, times: Any = None
    ) -> xr.DataArray:
        """Returns the forecast after the newest slot of a flow, or after other slots of it.

        Args:
            flow: dims `(time, channel, y, x)`, vehicles per step: a DataArray as `flowcast.flow` or
                `City.flow` returns it, or an array with `times`. It must hold the newest slots; slots
                of the days and weeks before make the forecast better where they are there.
            at: the slot, or several, to take as the newest: a time with its zone, or of the flow's own
                axis (UTC). None: the newest of the flow.
            horizon: number of steps ahead, 1 or more.
            times: start of each slot with its zone, where `flow` is a bare array.

        Returns:
            dims `(init_time, lead_time, channel, y, x)`, float32 vehicles per step, not negative;
            `init_time` and the coordinate `valid_time` are UTC.

        Raises:
            FlowcastError: the flow is wrong or of another grid, step or zone, or slots are missing.
        """
        known = as_flow(flow, times, self.city)
        leads = check_count("horizon", horizon, "steps")
        return forecast_at(self.forecaster, known, self._init_times(known, at), leads)

    def _init_times(self, flow: xr.DataArray, at: Any) -> np.ndarray:
        if at is None:
            return flow["time"].values[-1:]
        several = isinstance(at, Sequence | np.ndarray | xr.DataArray) and not isinstance(at, str)
        asked = [moment(one, "at") for one in np.atleast_1d(at)] if several else [moment(at, "at")]
        return np.array([_slot(flow, one) for one in asked])


def forecast_at(
    forecaster: Forecaster, flow: xr.DataArray, init_times: np.ndarray, horizon: int
) -> xr.DataArray:
    """Returns the forecast of `horizon` steps after each of `init_times`.

    Raises:
        FlowcastError: slots are missing that the forecaster cannot do without.
    """
    for init_time in init_times:
        if len(absent := windows.missing(flow, init_time, forecaster.lags(horizon))):
            zone = str(flow.attrs["timezone"])
            names = ", ".join(stamp(time, zone) for time in absent[:4])
            more = f" and {len(absent) - 4} more" if len(absent) > 4 else ""
            raise FlowcastError(
                f"a forecast by {forecaster.name} at {stamp(init_time, zone)} needs slots that the "
                f"flow lacks: {names}{more} ({zone}); add them, or take another at="
            )
    return forecaster(History.of(flow, init_times), horizon)


def _slot(flow: xr.DataArray, at: np.datetime64) -> np.datetime64:
    """Returns the start of the slot that holds a time."""
    time, zone = flow["time"].values, str(flow.attrs["timezone"])
    clock = Clock.of(flow)
    end = clock.after(time[-1], 1)
    if not time[0] <= at < end:
        raise FlowcastError(
            f"at {stamp(at, zone)} lies outside the flow, which goes from {stamp(time[0], zone)} "
            f"to {stamp(time[-1], zone)} ({zone})"
        )
    number = int(clock.number(at, time[0]))
    start = clock.after(time[0], number)
    return start if start <= at else clock.after(time[0], number - 1)
