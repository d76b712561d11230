"""Evaluating a city's champion: all windows at once or one by one, as work of a contest."""

from collections.abc import Iterator
from itertools import cycle
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr

from data import windows
from data.city import City
from data.flow import split
from data.paths import models_root
from data.store.store import Store
from forecasting.ensemble import NeuralForecaster
from forecasting.history import History
from forecasting.registry.versions import load_version
from pipelines.benchmark.speed.city import temporary_home
from pipelines.benchmark.speed.harness import Work, memory_from_now
from pipelines.evaluate.backtest import evaluate
from pipelines.forecast.live import forecast

HORIZON = 4
WEEKS = 8
STACK = 64


class Served(NamedTuple):
    """A city that is served in a home of its own, with all windows of its test span."""

    store: Store
    city: City
    flow: xr.DataArray
    forecaster: NeuralForecaster
    init_times: np.ndarray

    def turns(self) -> Iterator[np.datetime64]:
        """Returns the windows one by one, without an end."""
        return cycle(self.init_times)

    def forecast(self, init_times: np.ndarray) -> xr.DataArray:
        """Returns the forecast of a stack of windows."""
        return self.forecaster(History.of(self.flow, init_times), HORIZON)


def one_command_a_window(side: int) -> Work:
    """Returns what the pipeline of a live forecast does for a window, one after the other."""
    served = _serve(side)
    turns = served.turns()
    return Work(
        lambda: forecast(served.store, served.city, HORIZON, at=next(turns)),
        memory=memory_from_now(),
    )


def one_window(side: int) -> Work:
    """Returns forecasts of stacks of one window, the archive and the model being at hand."""
    served = _serve(side)
    turns = served.turns()
    memory = memory_from_now()
    return Work(lambda: served.forecast(np.asarray([next(turns)])), memory=memory)


def in_stacks(side: int) -> Work:
    """Returns forecasts of stacks of many windows."""
    served = _serve(side)
    init_times = served.init_times[:STACK]
    memory = memory_from_now()
    return Work(lambda: served.forecast(init_times), len(init_times), memory=memory)


def by_evaluate(side: int) -> Work:
    """Returns `forecast evaluate` over the test span, baselines and errors and all."""
    served = _serve(side)
    count = evaluate(served.store, served.city, horizon=HORIZON).windows
    memory = memory_from_now()
    return Work(lambda: evaluate(served.store, served.city, horizon=HORIZON), count, memory=memory)


def _serve(side: int) -> Served:
    """Returns a city in a temporary home, which becomes this process's."""
    torch.set_num_threads(1)
    (city,) = temporary_home(1, side, WEEKS)
    store = Store()
    flow = store.flow.read(city)
    version = store.promotions.champion(city)
    assert version is not None
    forecaster = load_version(models_root(), city, version)
    init_times = windows.whole(flow, forecaster.lags(HORIZON), HORIZON)
    tested = init_times[init_times >= split(flow, city).test["time"].values[0]]
    return Served(store, city, flow, forecaster, tested)
