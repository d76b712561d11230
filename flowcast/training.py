"""Training on an array of one's own, without a city in the home and without a store."""

from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from data.city import City
from data.clock import Clock
from data.errors import FlowcastError
from data.flow import split
from flowcast.backtests import BASELINES, backtest
from flowcast.flows import as_flow, check_count, own_city
from flowcast.models import Model
from flowcast.own_packages import own_packages


@own_packages()
def train(
    flow: Any,
    times: Any = None,
    *,
    network: str = "swinlstm-b",
    horizon: int = 4,
    history: int = 4,
    epochs: int | None = None,
    minutes: float | None = None,
    ensemble_size: int | None = None,
    trees: bool | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    device: str = "auto",
    validation_days: int | None = None,
    test_days: int | None = None,
) -> Model:
    """Returns a model trained on a flow, with its errors by lead time on the days held back.

    It is trained as `forecast train` does: on differences from the expected flow, with covariates, and
    with gradient-boosted trees where scikit-learn is installed. Epochs are chosen by the validation
    days; the test days at the end are not trained on. Nothing is written to disk.

    Args:
        flow: dims `(time, channel, y, x)`, vehicles per step: a DataArray as `flowcast.flow` or
            `City.flow` returns it, or an array with `times`.
        times: start of each slot with its zone, by whose calendar forecasts are made, where `flow` is a
            bare array.
        network: key in `forecasting.networks.NETWORKS`, such as `swinlstm-b`, `convlstm` or `simvp`.
        horizon: steps ahead that it is trained for.
        history: newest slots that the network sees.
        epochs: of each fit, at most; None: by the number of windows.
        minutes: for all fits together; None: as long as it takes.
        ensemble_size: networks whose mean is the forecast; None: by the number of windows.
        trees: whether gradient-boosted trees are part of the forecast; None: where they can be.
        learning_rate: the peak; None for 0.002.
        seed: random seed of weights and of the order of windows.
        device: `auto`, `cpu` or `cuda`.
        validation_days: days before the test days; None: a tenth of all, 7 at most.
        test_days: days at the end; None: a fifth of all, 28 at most.

    Raises:
        FlowcastError: the flow is wrong or too short, there is no such network or device, or the options
            do not go together.
    """
    check_count("horizon", horizon, "steps")
    check_count("history", history, "slots")
    if epochs is not None:
        check_count("epochs", epochs, "epochs")
    known = as_flow(flow, times)
    city = _with_days(_city_of(known), known, validation_days, test_days)
    from forecasting.city.fit import fitted
    from forecasting.city.recipe import Recipe
    from forecasting.training.hardware import Computing

    try:
        recipe = Recipe.from_options(
            network=network,
            ensemble_size=ensemble_size,
            trees=trees,
            epochs=epochs,
            minutes=minutes,
            learning_rate=learning_rate,
            seed=seed,
            horizon=horizon,
            history=history,
        )
    except (ValueError, TypeError) as error:
        raise FlowcastError(str(error)) from error
    parts = split(known, city)
    made = fitted(parts, city, recipe, computing=Computing(device))
    until = parts.validation["time"].values[-1]
    model = Model(made.forecaster.name, city, made.forecaster, horizon, history, until)
    return replace(model, errors=backtest([model, *BASELINES], known, horizon=horizon))


def _city_of(flow: xr.DataArray) -> City:
    attrs = flow.attrs
    return own_city(
        str(attrs["city"]),
        str(attrs["timezone"]),
        np.timedelta64(int(attrs["step"]), "s"),
        flow.shape[-2:],
        str(attrs["country"]),
        str(attrs["subdivision"]),
    )


def _with_days(city: City, flow: xr.DataArray, validation: int | None, test: int | None) -> City:
    """Returns the city with the days that are held back."""
    time = flow["time"].values
    end = Clock.of(flow).after(time[-1], 1)
    days = float((end - time[0]) / np.timedelta64(1, "D"))
    test = max(1, min(28, int(days / 5))) if test is None else test
    validation = max(1, min(7, int(days / 10))) if validation is None else validation
    test, validation = (
        check_count("test_days", test, "days"),
        check_count("validation_days", validation, "days"),
    )
    if test + validation >= days:
        raise FlowcastError(
            f"the flow has {days:.1f} days, but {test} are for testing and {validation} for validation; "
            f"bring more, or name fewer test_days and validation_days"
        )
    return replace(city, test_days=test, validation_days=validation)
