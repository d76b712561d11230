"""flowcast in Python: forecasts of a city's in- and outflow, from a few names.

    import flowcast

    flow = flowcast.city("nyc").flow()                    # (time, channel, y, x), vehicles per step
    model = flowcast.load("nyc")                          # the champion
    forecast = model.forecast(flow, horizon=4)            # (init_time, lead_time, channel, y, x)
    errors = flowcast.backtest([model, "last-week"], flow, start="2016-03-01T00:00-05:00")

    flow = flowcast.flow(values, times, timezone="America/New_York")    # an array of one's own
    model = flowcast.train(flow, epochs=5)
    model.errors

`import flowcast` loads nothing but itself: numpy, xarray and torch follow where they are needed, torch
for training alone. Modules of the user's that are named like our packages (`data`, `app`,
`forecasting`, `pipelines`) keep working, see `flowcast.own_packages`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from flowcast.own_packages import install, own_packages

if TYPE_CHECKING:
    from data.errors import FlowcastError
    from flowcast.backtests import BASELINES, backtest
    from flowcast.cities import City, city
    from flowcast.flows import flow
    from flowcast.models import Model, load
    from flowcast.training import train

    __version__: str

_HOMES = {
    "BASELINES": "flowcast.backtests",
    "City": "flowcast.cities",
    "FlowcastError": "data.errors",
    "Model": "flowcast.models",
    "backtest": "flowcast.backtests",
    "city": "flowcast.cities",
    "flow": "flowcast.flows",
    "load": "flowcast.models",
    "train": "flowcast.training",
}
"""The module that each public name is defined in."""

__all__ = [
    "BASELINES",
    "City",
    "FlowcastError",
    "Model",
    "__version__",
    "backtest",
    "city",
    "flow",
    "load",
    "own_packages",
    "train",
]

install()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("flowcast")
    elif name in _HOMES:
        with own_packages():
            value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"flowcast has no {name!r}; it has: {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
