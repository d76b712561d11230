"""Check: what a city's archive holds, where it has gaps, and what ingest repaired."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

from data.city import City
from data.clock import Clock, local
from data.store.store import Store
from data.weather import CURRENT
from pipelines.forecast.notes import unknown_years


@dataclass(frozen=True)
class Gap:
    """Consecutive missing slots; times are UTC."""

    first: np.datetime64
    last: np.datetime64
    slots: int


@dataclass(frozen=True)
class Weather:
    """The weather of a city.

    Attributes:
        records: stored, of one or more variables each.
        first: UTC time from which the first was known.
        last: UTC time from which the last was known.
        gaps: by variable, from and until when, UTC, no value is current.
    """

    records: int
    first: np.datetime64
    last: np.datetime64
    gaps: dict[str, tuple[tuple[np.datetime64, np.datetime64], ...]]


@dataclass(frozen=True)
class Check:
    """The state of a city's archive.

    Attributes:
        slots: stored.
        first: UTC time of the first slot, None in an empty archive.
        last: UTC time of the last.
        days: local days with at least one slot.
        whole_days: local days with every slot.
        gaps: between the first and the last slot.
        lowest: flow in vehicles per step, nan in an empty archive.
        mean: flow in vehicles per step.
        highest: flow in vehicles per step.
        revised: slots whose former value was replaced.
        repairs: count by key in `REPAIRS`, over the files that added or replaced slots.
        refused: path and reason of the files that were refused.
        weather: None without records.
        notes: for people, such as years whose holidays are unknown.
    """

    slots: int
    first: np.datetime64 | None
    last: np.datetime64 | None
    days: int
    whole_days: int
    gaps: tuple[Gap, ...]
    lowest: float
    mean: float
    highest: float
    revised: int
    repairs: dict[str, int]
    refused: tuple[tuple[str, str], ...]
    weather: Weather | None
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> int:
        """Number of slots in all gaps."""
        return sum(gap.slots for gap in self.gaps)


def check(store: Store, city: City) -> Check:
    """Returns the state of the city's archive; an empty one is no error."""
    flow = store.flow.read(city)
    time, values = flow["time"].values, flow.values
    ledger = store.ingests.table(city)
    days = _slots_by_day(time, city)
    return Check(
        slots=len(time),
        first=time[0] if len(time) else None,
        last=time[-1] if len(time) else None,
        days=len(days),
        whole_days=int((days >= _slots_of_days(days, city)).sum()),
        gaps=gaps(time, Clock(city.step, city.timezone)),
        lowest=float(values.min()) if len(time) else float("nan"),
        mean=float(values.mean(dtype=np.float64)) if len(time) else float("nan"),
        highest=float(values.max()) if len(time) else float("nan"),
        revised=len(store.flow.revisions(city)),
        repairs=_repairs(ledger),
        refused=tuple(
            (str(row.source), str(row.message))
            for row in ledger[ledger["outcome"] == "refused"].itertuples()
        ),
        weather=_weather(store.weather.read(city)),
        notes=unknown_years(flow, time) if len(time) else (),
    )


def _weather(weather: xr.DataArray) -> Weather | None:
    time = weather["time"].values
    if not len(time):
        return None
    return Weather(
        records=len(time),
        first=time[0],
        last=time[-1],
        gaps={
            str(name): _uncovered(time[~np.isnan(series)])
            for name, series in zip(weather["variable"].values, weather.values.T, strict=True)
        },
    )


def _uncovered(time: np.ndarray) -> tuple[tuple[np.datetime64, np.datetime64], ...]:
    """Returns from and until when no value is current between those known at these times."""
    late = np.flatnonzero(np.diff(time) > CURRENT)
    return tuple((time[at] + CURRENT, time[at + 1]) for at in late)


def _repairs(ledger: pd.DataFrame) -> dict[str, int]:
    effective = ledger[(ledger["added"] > 0) | (ledger["replaced"] > 0)]
    return dict(sum((Counter(repairs) for repairs in effective["repairs"]), Counter()))


def gaps(time: np.ndarray, clock: Clock) -> tuple[Gap, ...]:
    """Returns the gaps between the first and the last of some UTC times."""
    if len(time) == 0:
        return ()
    numbers = clock.number(time, time[0])
    return tuple(
        Gap(
            clock.after(time[at], 1),
            clock.after(time[at + 1], -1),
            int(numbers[at + 1] - numbers[at] - 1),
        )
        for at in np.flatnonzero(np.diff(numbers) > 1)
    )


def _slots_by_day(time: np.ndarray, city: City) -> pd.Series:
    """Returns how many slots each local day has."""
    return pd.Series(1, index=local(time, city.timezone)).groupby(lambda at: at.date()).sum()


def _slots_of_days(days: pd.Series, city: City) -> np.ndarray:
    """Returns how many slots each of the days can have: those of 23 hours have fewer."""
    first = pd.DatetimeIndex(pd.to_datetime(list(days.index)))
    begins = first.tz_localize(city.timezone, nonexistent="shift_forward", ambiguous=True)
    ends = (first + pd.Timedelta(days=1)).tz_localize(
        city.timezone, nonexistent="shift_forward", ambiguous=True
    )
    return np.asarray(np.floor((ends - begins) / pd.Timedelta(city.step)))
