"""Serving: a version as it forecasts, with what only the store knows."""

from dataclasses import replace

import numpy as np

from data.city import City
from data.store import Store
from data.weather import CURRENT
from forecasting.neural import NeuralForecaster
from forecasting.registry import load_version, models_root


def serving(
    store: Store, city: City, version: str, at: np.datetime64 | None = None
) -> NeuralForecaster:
    """Returns the forecaster of a version, with the weather where its networks know any.

    Args:
        store: with the weather.
        city: that is forecast.
        version: of the city.
        at: UTC; the only time that it is to forecast from. None: from any.

    Raises:
        FlowcastError: as `load_version`.
    """
    forecaster = load_version(models_root(), city, version)
    if not forecaster.context.weather:
        return forecaster
    first = None if at is None else at - CURRENT
    return replace(forecaster, weather=store.weather(city, first=first, last=at))
