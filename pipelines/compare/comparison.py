"""A comparison: the city's data, its spans, and the windows that all contestants are tested on."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import xarray as xr

from data import windows
from data.city import City
from data.clock import Clock, wall
from data.errors import FlowcastError
from data.flow import Split, split
from data.paths import comparisons_folder
from data.store.store import Store
from forecasting.registry.versions import flow_hash

MAX_BYTES = 2**26
"""Bytes that the forecasts of one run may take; of longer spans only every n-th window is tested."""


@dataclass(frozen=True)
class Comparison:
    """What is the same for all contestants."""

    city: City
    flow: xr.DataArray  # all of it, dims (time, channel, y, x)
    weather: xr.DataArray | None  # dims (time, variable)
    expected: xr.DataArray  # flow of a simulated city without chance; of length 0 elsewhere
    horizon: int  # steps ahead, in training too
    minutes: float  # of processor time for one training at most, on one core

    @classmethod
    def of(cls, store: Store, city: City, horizon: int, minutes: float) -> "Comparison":
        """Returns the comparison on all that is stored of a city."""
        flow, weather = store.flow.read(city), store.weather.read(city)
        expected = store.flow.read(city, "expected")
        return cls(city, flow, weather if weather.size else None, expected, horizon, minutes)

    def __post_init__(self) -> None:
        for name in ("validation", "test"):
            if not len(self.init_times(getattr(self.parts, name))):
                city = self.city.name
                raise FlowcastError(
                    f"no {self.horizon + 1} slots in a row of {city} lie in its {name} span; ask for a "
                    f"shorter horizon, set {name}_days in the city's TOML, or ingest the missing slots "
                    f"(see: forecast check --city {city})"
                )

    @cached_property
    def parts(self) -> Split:
        """Training, validation and test span of the flow."""
        return split(self.flow, self.city)

    @cached_property
    def folder(self) -> Path:
        """Where runs on the same data, the same spans and for the same horizon are kept."""
        sky, days = self.weather, [self.city.test_days, self.city.validation_days]
        known = None if sky is None else [flow_hash(sky), sky["variable"].values.tolist()]
        key = digest([flow_hash(self.flow), self.flow.attrs, known, days, self.horizon])
        return comparisons_folder(self.city.name) / key

    def init_times(self, part: xr.DataArray) -> np.ndarray:
        """Returns the init_times of the windows whose forecasts lie in a part of the flow.

        Where these are too many to keep, it is every n-th, with an n that covers all times of day.
        """
        init_times, clock = windows.whole(self.flow, (0,), self.horizon), Clock.of(self.flow)
        first, last = (clock.time(init_times, np.asarray(lead)) for lead in (1, self.horizon))
        inside = init_times[np.isin(first, part["time"]) & np.isin(last, part["time"])]
        bytes_each = self.horizon * 2 * self.flow[:1].size
        return windows.thin(self.flow, inside, max(1, MAX_BYTES // bytes_each))

    def local_times(self, init_times: np.ndarray) -> np.ndarray:
        """Returns the local times that forecasts are for, `(init_time, lead_time)`."""
        leads, clock = np.arange(1, self.horizon + 1), Clock.of(self.flow)
        return wall(clock.time(init_times[:, None], leads), clock.timezone)


def digest(facts: object) -> str:
    """Returns the first digits of the SHA-256 of what can be written as JSON."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
