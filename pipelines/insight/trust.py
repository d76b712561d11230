"""Trust: how far a forecast can be trusted at a moment, and what someone must see first."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr

from data import windows
from data.city import City
from data.clock import Clock, duration, stamp
from data.store.scores import SERVED
from data.store.store import Store
from forecasting.metrics import rmse

DAYS = np.timedelta64(7, "D")
"""How long the skill looks back."""
STALE = 3
"""Steps after the end of the newest slot from which on data are stale."""
HEARTBEAT_TIMEOUT = 120
"""Seconds without a heartbeat after which a scheduler is dead."""
MIN_SCORES = 24
"""Scored leads below which nothing is said of skill."""


@dataclass(frozen=True)
class Banner:
    """A sentence that must be seen; `error` where forecasts cannot be relied on."""

    level: Literal["error", "warning", "info"]
    text: str


@dataclass(frozen=True)
class Skill:
    """The error of what was served beside the best baseline's, of the same leads.

    Attributes:
        rmse: of what was served, vehicles per step.
        best: the baseline's, vehicles per step.
        baseline: key in `BASELINES`.
        leads: that were scored.
    """

    rmse: float
    best: float
    baseline: str
    leads: int

    @property
    def gain(self) -> float:
        """By what share the error is below the best baseline's; negative where it is above."""
        return 1 - self.rmse / self.best if self.best else 0.0


@dataclass(frozen=True)
class Trust:
    """What stands above a forecast.

    Attributes:
        newest: start of the newest slot, UTC.
        age: seconds since it ended.
        missing: slots of the newest day that are not there.
        day: slots of a day.
        version: of the model that served, "" where a baseline did.
        forecaster: that served.
        trained_until: UTC.
        skill: None where too little was scored.
        drift: what is unusual, "" where nothing is.
        banners: the worst first.
    """

    newest: np.datetime64
    age: float
    missing: int
    day: int
    version: str
    forecaster: str
    trained_until: np.datetime64
    skill: Skill | None
    drift: str
    banners: tuple[Banner, ...]


def trust(
    store: Store, city: City, forecast: xr.DataArray, now: np.datetime64, skill: Skill | None
) -> Trust:
    """Returns how far a stored forecast can be trusted.

    Args:
        store: with flow, drift and heartbeats.
        city: whose forecast it is.
        forecast: as it is stored.
        now: UTC.
        skill: as `skill` returns it.
    """
    span = store.flow.span(city, last=now - city.step)  # slots that are over
    newest = span[1] if span else forecast["init_time"].values[0]
    clock = Clock(city.step, city.timezone)
    end = clock.after(newest, 1)
    age = float((now - end) / np.timedelta64(1, "s"))
    times = store.flow.times(city, first=clock.after(newest, 1 - city.slots_per_day))
    missing = len(windows.missing(times, newest, range(city.slots_per_day)))
    drifts = store.drifts.table(city)
    drifts = drifts[drifts["time"] <= newest]
    flagged = not drifts.empty and bool(drifts.iloc[-1]["flagged"])
    facts = forecast.attrs
    return Trust(
        newest=newest,
        age=max(age, 0.0),
        missing=missing,
        day=city.slots_per_day,
        version=str(facts["model_version"]),
        forecaster=str(facts["forecaster"]),
        trained_until=np.datetime64(str(facts["trained_until"]).removesuffix("Z"), "s"),
        skill=skill,
        drift=str(drifts.iloc[-1]["message"]) if flagged else "",
        banners=tuple(_banners(store, city, forecast, now, newest, age)),
    )


def skill(scores: pd.DataFrame) -> Skill | None:
    """Returns the skill of what was served, None where too little was scored.

    Args:
        scores: as `Scores.sums` returns them.
    """
    if scores.empty:
        return None
    wide = scores.pivot(index=["init_time", "lead"], columns="forecaster", values="squared")
    count = scores.pivot(index=["init_time", "lead"], columns="forecaster", values="count")
    if SERVED not in wide:
        return None
    others = [name for name in wide.columns if name != SERVED]
    found = []
    for name in others:
        both = wide[[SERVED, name]].notna().all(axis=1)
        if both.sum() >= MIN_SCORES:
            errors = rmse(wide[both].sum(), count[both].sum())
            served, other = float(errors[SERVED]), float(errors[name])
            found.append(Skill(served, other, str(name), int(both.sum())))
    return min(found, key=lambda one: one.best / max(one.rmse, 1e-9), default=None)


def _banners(
    store: Store,
    city: City,
    forecast: xr.DataArray,
    now: np.datetime64,
    newest: np.datetime64,
    age: float,
) -> list[Banner]:
    """Returns what must be seen, the worst first."""
    banners = []
    steps = age / float(city.step / np.timedelta64(1, "s"))
    if steps > STALE:
        banners.append(
            Banner(
                "error",
                f"The data are stale: the newest slot ended {duration(age)} ago "
                f"({stamp(Clock(city.step, city.timezone).after(newest, 1), city.timezone)}).",
            )
        )
    made = forecast["init_time"].values[0]
    if made < newest:
        banners.append(
            Banner(
                "warning",
                f"The newest forecast was made at {stamp(made, city.timezone)}, before the newest slot; "
                f"to make one now: forecast update --city {city.name}",
            )
        )
    notes = str(forecast.attrs["notes"]).splitlines()
    if forecast.attrs["model_version"]:
        banners += [Banner("info", note) for note in notes]
    else:
        told = "; ".join(notes) or f"this is the {forecast.attrs['forecaster']}"
        banners.append(Banner("warning", f"A baseline stands in: {told}"))
    beat = store.heartbeats.newest("scheduler")
    silent = None if beat is None else float((now - beat["at"]) / np.timedelta64(1, "s"))
    if silent is not None and silent > HEARTBEAT_TIMEOUT:
        banners.append(
            Banner(
                "warning",
                f"The scheduler has been silent for {duration(silent)}; to start it: forecast schedule",
            )
        )
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(banners, key=lambda one: order[one.level])
