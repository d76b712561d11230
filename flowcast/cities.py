"""Cities of `FLOWCAST_HOME`: their archive, their models and their forecasts."""

from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from data import city as cities
from data.flow import no_flow
from data.store.store import Store
from flowcast.flows import moment
from flowcast.own_packages import own_packages


@own_packages()
def city(name: str) -> "City":
    """Returns the city called `name`, such as `"nyc"`.

    Raises:
        FlowcastError: there is no such city, or its TOML file is wrong.
    """
    return City(cities.load_city(name))


@dataclass(frozen=True)
class City:
    """A city as its TOML file describes it, and what the store has of it.

    Attributes:
        definition: its name, grid `(y, x)`, step, timezone and the other keys of the TOML file.
    """

    definition: cities.City

    @property
    def name(self) -> str:
        """The name that commands and files know it by."""
        return self.definition.name

    @own_packages()
    def flow(self, start: Any = None, end: Any = None) -> xr.DataArray:
        """Returns the archive of the city.

        Args:
            start: first time, with its zone; None for the first slot there is.
            end: slots begin before it; None for all there are.

        Returns:
            dims `(time, channel, y, x)`, float32 vehicles per step; `time` is the start of each slot,
            UTC, rising, with gaps where slots are missing; the attributes hold `city`, `timezone`,
            `step` (seconds), `units`, `country` and `subdivision`.

        Raises:
            FlowcastError: there is no flow then, or a time is naive.
        """
        first = None if start is None else moment(start, "start")
        last = None if end is None else moment(end, "end") - np.timedelta64(1, "s")
        with closing(Store()) as store:
            flow = store.flow.read(self.definition, first=first, last=last)
        if not flow.sizes["time"]:
            raise no_flow(self.definition)
        return flow

    @own_packages()
    def weather(self) -> xr.DataArray:
        """Returns the weather of the city.

        Returns:
            dims `(time, variable)`, float32 in the units of the files, NaN where a value is missing;
            `time` is when each record was known, UTC. Empty where there is none.
        """
        with closing(Store()) as store:
            return store.weather.read(self.definition)

    @own_packages()
    def versions(self) -> list[str]:
        """Returns the versions of models of the city, oldest first."""
        from data.paths import models_root
        from forecasting.registry.manifest import versions

        return versions(models_root(), self.name)

    @own_packages()
    def champion(self) -> str | None:
        """Returns the version that serves, None where there is none."""
        with closing(Store()) as store:
            return store.promotions.champion(self.definition)

    @own_packages()
    def forecast(self, horizon: int = 4, at: Any = None, model: str | None = None) -> xr.DataArray:
        """Returns the forecast of the archive as `forecast --city` makes it, and stores it.

        Args:
            horizon: number of steps ahead.
            at: time with its zone; the slot that holds it counts as the newest. None: the newest.
            model: version in place of the champion.

        Returns:
            dims `(init_time, lead_time, channel, y, x)` with one init_time, float32 vehicles per step,
            with the coordinate `valid_time`, and prediction intervals where the model has them.
            The attribute `notes` holds what people must know, a sentence a line.

        Raises:
            FlowcastError: there is no flow up to `at`, or no such version.
        """
        from pipelines.forecast.live import forecast

        with closing(Store()) as store:
            return forecast(
                store,
                self.definition,
                horizon,
                at=None if at is None else moment(at, "at"),
                model=model,
            )
