"""A run of a contest: one contestant fitted with one seed, and what it forecasts of the test span.

All that tables and charts need is kept in one file, written whole: the forecasts (16 bits a number,
which changes an error of 1 % of the flow by less than a thousandth), and the sums of their errors.
"""

import json
import time
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from data import windows
from data.clock import Clock
from data.files import atomic_write
from data.flow import split
from forecasting.backtest import backtest
from forecasting.forecaster import Forecaster
from forecasting.metrics import sums_by_window
from forecasting.profiling.memory import peak_memory_of_process
from pipelines.compare.contest_makers import Lessons
from pipelines.compare.contestants import Archive, Plan, Run, judged, spans

STACK = 2**24
"""Bytes that the past and the future of a stack of windows may take."""
SUMS = (
    "squared",
    "absolute",
    "count",
    "squared_busy",
    "absolute_busy",
    "relative_busy",
    "count_busy",
)
LARGEST = 2**15
"""Vehicles above which 16 bits are too few."""


@dataclass(frozen=True)
class Kept:
    """What a run left, but the forecasts themselves.

    Attributes:
        path: of its file.
        sums: as `forecasting.metrics.sums_by_window` returns them; of windows whose input is not
            whole the counts are 0.
        facts: `seconds` of fitting, `epochs`, `plain` (share of networks on frames alone beside
            others), `validation` (RMSE of the selection by lead, and `all`), `memory` in bytes, `made`
            (when).
    """

    path: Path
    sums: xr.Dataset
    facts: dict[str, Any]

    def forecast(self, flow: xr.DataArray) -> xr.DataArray:
        """Returns the forecasts of the test span.

        Args:
            flow: of the city.

        Returns:
            dims `(init_time, lead_time, channel, y, x)`, float32 vehicles per step, NaN where the input
            of a window is not whole.
        """
        return self._forecast("test", flow)

    def selected(self, flow: xr.DataArray) -> xr.DataArray:
        """Returns what the selection, which knows the training span alone, forecast of validation."""
        return self._forecast("validation", flow)

    def _forecast(self, part: str, flow: xr.DataArray) -> xr.DataArray:
        with np.load(self.path) as file:
            init_times = file[f"{part}_times"].astype("datetime64[s]")
            return label(file[f"{part}_forecast"].astype(np.float32), init_times, flow)


def make(archive: Archive, run: Run, plan: Plan, path: Path) -> None:
    """Fits a contestant on what lies before the test span, lets it forecast, and keeps all.

    Args:
        archive: of the city.
        run: who, and with which seed.
        plan: of the contest.
        path: of the file.

    Raises:
        FlowcastError: it cannot be fitted or kept.
    """
    flow, began = archive.flow, time.process_time()  # others' work on the machine does not count
    parts = split(flow, archive.city)
    lessons = Lessons(archive.city, parts._replace(test=parts.test[:0]), archive.weather)
    made = run.contestant.maker.fit(lessons, plan, run.seed)
    seconds = time.process_time() - began
    # What follows the validation span is not there when it is forecast.
    before = flow[: flow.sizes["time"] - parts.test.sizes["time"]]
    forecast = _forecast(made.forecaster, flow, spans(parts)["test"], plan)
    aside = _forecast(made.selected, before, spans(parts)["validation"], plan)
    facts = {
        "seconds": seconds,
        "epochs": made.epochs,
        "plain": made.plain,
        "validation": rmse_by_lead(errors_by_window(aside, flow)),
        "memory": peak_memory_of_process(),
        "made": f"{pd.Timestamp.now('UTC'):%Y-%m-%dT%H:%M:%SZ}",
    }
    arrays = {"facts": np.array(json.dumps(facts)), **_small("test", forecast)}
    errors = errors_by_window(forecast, flow)
    arrays |= {name: errors[name].values for name in SUMS}
    with atomic_write(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays, **_small("validation", aside))


def errors_by_window(forecast: xr.DataArray, flow: xr.DataArray) -> xr.Dataset:
    """Returns the sums of the errors of each window, as `forecasting.metrics.sums_by_window`.

    Args:
        forecast: dims `(init_time, lead_time, channel, y, x)`, NaN where there is none.
        flow: with what came.
    """
    init_times, horizon = forecast["init_time"].values, forecast.sizes["lead_time"]
    parts = [
        sums_by_window(forecast[stack], windows.future(flow, init_times[stack], horizon))
        for stack in stacks(flow, init_times, horizon)
    ]
    return xr.concat(parts, "init_time")


def read(path: Path, flow: xr.DataArray) -> Kept | None:
    """Returns what a run left, None where there is nothing that can be read.

    Args:
        path: of its file.
        flow: of the city.
    """
    try:
        with np.load(path) as file:
            facts = json.loads(str(file["facts"]))
            init_times = file["test_times"].astype("datetime64[s]")
            arrays = {name: file[name] for name in SUMS}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
        return None
    step = Clock.of(flow).step
    leads = np.arange(1, arrays["count"].shape[1] + 1) * step
    coordinates = (init_times, leads, flow["channel"].values)
    dims = ("init_time", "lead_time", "channel")
    errors = {name: (dims, values) for name, values in arrays.items()}
    return Kept(path, xr.Dataset(errors, dict(zip(dims, coordinates, strict=True))), facts)


def label(values: np.ndarray, init_times: np.ndarray, flow: xr.DataArray) -> xr.DataArray:
    """Returns values `(init_time, lead_time, channel, y, x)` of forecasts of `flow` with their labels."""
    clock, leads = Clock.of(flow), np.arange(1, values.shape[1] + 1)
    return xr.DataArray(
        values,
        dims=("init_time", "lead_time", "channel", "y", "x"),
        coords={
            "init_time": init_times,
            "lead_time": leads * clock.step,
            "channel": flow["channel"].values,
            "valid_time": (("init_time", "lead_time"), clock.time(init_times[:, None], leads)),
        },
        attrs=flow.attrs,
    )


def stacks(flow: xr.DataArray, init_times: np.ndarray, slots: int) -> Iterator[slice]:
    """Yields which of `init_times` are worked on at a time, each with so many slots of `flow`."""
    size = max(1, STACK // (4 * slots * int(np.prod(flow.shape[1:]))))
    for start in range(0, max(len(init_times), 1), size):
        yield slice(start, start + size)


def _forecast(
    forecaster: Forecaster,
    flow: xr.DataArray,
    span: tuple[np.datetime64, np.datetime64],
    plan: Plan,
) -> xr.DataArray:
    """Returns the forecasts of a span, NaN where the input of a window is not whole."""
    horizon, init_times = plan.horizon, judged(flow, *span, plan)
    values = np.full((len(init_times), horizon, *flow.shape[1:]), np.nan, dtype=np.float32)
    able = np.isin(init_times, windows.whole(flow, forecaster.lags(horizon), horizon))
    made = [one.values for one, _ in backtest(forecaster, flow, init_times[able], horizon)]
    if made:
        values[able] = np.concatenate(made)
    return label(values, init_times, flow)


def rmse_by_lead(errors: xr.Dataset) -> dict[str, float]:
    """Returns the RMSE by lead, from 1, and of all; nothing where there are no windows."""
    total = errors.sum(("init_time", "channel"))
    if not total["count"].values.all():
        return {}
    by_lead = (total["squared"] / total["count"]) ** 0.5
    every = float((total["squared"].sum() / total["count"].sum()) ** 0.5)
    return {**{str(n): float(v) for n, v in enumerate(by_lead.values, start=1)}, "all": every}


def _small(part: str, forecast: xr.DataArray) -> dict[str, np.ndarray]:
    """Returns the arrays that forecasts are kept as."""
    largest = np.fmax.reduce(forecast.values, axis=None, initial=0)  # what is NaN does not count
    values = forecast.values.astype(np.float16 if largest < LARGEST else np.float32)
    times = forecast["init_time"].values.astype(np.int64)
    return {f"{part}_times": times, f"{part}_forecast": values}
