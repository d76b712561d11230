"""Serving: a version as it forecasts, with what only the store knows: weather, and what was judged."""

from dataclasses import replace

import numpy as np

from data.city import City
from data.errors import FlowcastError
from data.paths import models_root
from data.store.store import Store
from data.weather import CURRENT
from forecasting.ensemble import NeuralForecaster
from forecasting.registry.integrity import tampered, verify
from forecasting.registry.versions import load_version


def load_champion(
    store: Store, city: City, version: str, at: np.datetime64 | None = None
) -> NeuralForecaster:
    """Returns the forecaster of a version, with the weather where its networks know any.

    Args:
        store: with the weather.
        city: that is forecast.
        version: of the city.
        at: UTC; the only time that it is to forecast from. None: from any.

    Raises:
        FlowcastError: as `load_version`, or its manifest is not the one that was judged.
    """
    judged = store.promotions.manifest_sha256(city, version)
    if text := tampered(models_root(), city.name, version, judged):
        raise FlowcastError(text)
    forecaster = load_version(models_root(), city, version)
    if not forecaster.context.weather:
        return forecaster
    first = None if at is None else at - CURRENT
    return replace(forecaster, weather=store.weather.read(city, first=first, last=at))


def problems(store: Store, city: City, version: str) -> list[str]:
    """Returns what is wrong with the files of a version, as `verify`, the manifest among them.

    What it must be stands in the store, where a change of the files does not reach.
    """
    return verify(
        models_root(), city.name, version, store.promotions.manifest_sha256(city, version)
    )
